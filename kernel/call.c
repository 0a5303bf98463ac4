// SPDX-License-Identifier: GPL-2.0-only
/* Looks up the handler of an ioctl and checks its argument. */
#include <linux/align.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "call.h"

/* No entry will ever be that large. */
#define GMEM_CALL_MAX_ENTRY 4096

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

static int gmem_call_copy_out(const struct gmem_call *call, const void *buf,
			      void __user *uptr, u32 usize)
{
	return copy_to_user(uptr, buf, min_t(size_t, usize, call->size)) ?
		       -EFAULT : 0;
}

/* Install the descriptor last: nothing after it can fail. */
static int gmem_call_open(const struct gmem_call *call, void *obj, void *buf,
			  void __user *uptr, u32 usize)
{
	struct file *file;
	int fd, err;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = call->open(obj, buf);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto put_fd;
	}
	err = gmem_call_copy_out(call, buf, uptr, usize);
	if (err)
		goto put_file;
	fd_install(fd, file);
	return fd;

put_file:
	fput(file);
put_fd:
	put_unused_fd(fd);
	return err;
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
	if (call->kind == GMEM_CALL_OPEN)
		return gmem_call_open(call, obj, buf, uptr, usize);

	ret = call->fn(obj, buf);

	copy_out = call->kind == GMEM_CALL_PARTIAL ||
		   (call->kind == GMEM_CALL_INOUT && ret >= 0);
	if (copy_out && gmem_call_copy_out(call, buf, uptr, usize))
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

int gmem_call_name(char *to, const u8 *from)
{
	size_t i, len = strnlen((const char *)from, GMEM_OBJECT_NAME_LEN);

	if (len == GMEM_OBJECT_NAME_LEN ||
	    memchr_inv(from + len, 0, GMEM_OBJECT_NAME_LEN - len))
		return -EINVAL;
	/* isprint() takes Latin-1 letters, too. */
	for (i = 0; i < len; i++)
		if (from[i] < 0x20 || from[i] > 0x7e)
			return -EINVAL;
	memcpy(to, from, GMEM_OBJECT_NAME_LEN);
	return 0;
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

bool gmem_call_entry_size_ok(u32 entry_size, size_t first)
{
	return entry_size >= first && entry_size <= GMEM_CALL_MAX_ENTRY &&
	       IS_ALIGNED(entry_size, sizeof(u64));
}

int gmem_call_entry_size(u32 *entry_size, u32 usize, size_t end, size_t first)
{
	if (usize < end)
		*entry_size = first;
	return gmem_call_entry_size_ok(*entry_size, first) ? 0 : -EINVAL;
}

int gmem_call_put_entries(u64 to, u32 entry_size, u32 at, const void *entries,
			  size_t size, u32 nr)
{
	void __user *uptr = u64_to_user_ptr(to + (u64)at * entry_size);
	size_t known = min_t(size_t, entry_size, size);

	if (entry_size == size)
		return copy_to_user(uptr, entries, nr * size) ? -EFAULT : 0;
	for (; nr; nr--, uptr += entry_size, entries += size)
		if (copy_to_user(uptr, entries, known) ||
		    clear_user(uptr + known, entry_size - known))
			return -EFAULT;
	return 0;
}
