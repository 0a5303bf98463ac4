/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_READER_H
#define _GMEM_READER_H

#include <linux/pid.h>
#include <linux/types.h>

/*
 * The number of a task for the task that calls: as in its PID namespace; 0 if it
 * can't see that task, or @pid is NULL.
 */
static inline u32 gmem_reader_pid(struct pid *pid)
{
	return pid_vnr(pid);
}

#endif /* _GMEM_READER_H */
