// SPDX-License-Identifier: GPL-2.0
/* Looks up the handler of an ioctl and checks its argument. */
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/uaccess.h>

#include "call.h"

static int gmem_call_copy_in(const struct gmem_call *call, void *buf,
			     void __user *uptr, u32 *usize)
{
	if (call->kind == GMEM_CALL_FIXED) {
		*usize = call->size;
		return copy_from_user(buf, uptr, call->size) ? -EFAULT : 0;
	}

	if (get_user(*usize, (u32 __user *)uptr))
		return -EFAULT;
	if (*usize < call->min_size)
		return -EINVAL;
	/* No struct will ever be that large; don't scan other memory. */
	if (*usize > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(buf, call->size, uptr, *usize);
}

static int gmem_call_struct(const struct gmem_call *call, void *obj,
			    void __user *uptr)
{
	/* Zeroed: copied out even where the handler writes nothing. */
	u64 buf[GMEM_CALL_MAX_SIZE / sizeof(u64)] = {};
	bool copy_out;
	u32 usize;
	int ret;

	ret = gmem_call_copy_in(call, buf, uptr, &usize);
	if (ret)
		return ret;

	ret = call->fn(obj, buf);

	copy_out = call->kind == GMEM_CALL_PARTIAL ||
		   (call->kind == GMEM_CALL_INOUT && ret >= 0);
	if (copy_out && copy_to_user(uptr, buf, min_t(size_t, usize, call->size)))
		return -EFAULT;
	return ret;
}

const struct gmem_call *gmem_call_find(const struct gmem_call *calls,
				       size_t nr_calls, unsigned int cmd)
{
	const struct gmem_call *call;

	for (call = calls; call < calls + nr_calls; call++)
		if (call->cmd == cmd)
			return call;
	return NULL;
}

long gmem_call(const struct gmem_call *call, void *obj, unsigned long arg)
{
	if (!call)
		return -ENOTTY;
	if (call->kind == GMEM_CALL_VALUE)
		return call->fn(obj, &arg);
	return gmem_call_struct(call, obj, (void __user *)arg);
}

int gmem_call_range(u64 addr, u64 length, unsigned long *first,
		    unsigned long *last)
{
	u64 last_byte;

	if (!length || !PAGE_ALIGNED(addr) || !PAGE_ALIGNED(length))
		return -EINVAL;
	if (check_add_overflow(addr, length - 1, &last_byte))
		return -EOVERFLOW;

	*first = addr >> PAGE_SHIFT;
	*last = last_byte >> PAGE_SHIFT;
	return 0;
}
