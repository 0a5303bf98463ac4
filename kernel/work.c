// SPDX-License-Identifier: GPL-2.0-only
#include <linux/workqueue.h>

#include "work.h"

static struct workqueue_struct *gmem_wq;

int gmem_work_init(void)
{
	gmem_wq = alloc_workqueue("gmem_end", WQ_UNBOUND, 0);
	return gmem_wq ? 0 : -ENOMEM;
}

void gmem_work_exit(void)
{
	destroy_workqueue(gmem_wq);
}

bool gmem_work_queue(struct work_struct *work)
{
	return queue_work(gmem_wq, work);
}
