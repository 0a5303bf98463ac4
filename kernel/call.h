/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_CALL_H
#define _GMEM_CALL_H

#include <linux/gmem.h>
#include <linux/types.h>

/* Room for the argument of any call. */
#define GMEM_CALL_MAX_SIZE 128

/**
 * enum gmem_call_kind - how a call's argument travels
 * @GMEM_CALL_VALUE: the ioctl argument itself, as an unsigned long
 * @GMEM_CALL_FIXED: a struct of fixed size, in only (compatible calls)
 * @GMEM_CALL_IN: a struct that begins with its size, in only
 * @GMEM_CALL_INOUT: the same, written back on success
 * @GMEM_CALL_PARTIAL: the same, written back on failure too, because it says
 *	how far the call came
 * @GMEM_CALL_OPEN: the same as GMEM_CALL_INOUT; the call makes a file and returns
 *	a descriptor of it, close-on-exec. If the struct can't be written back,
 *	there is neither descriptor nor file.
 */
enum gmem_call_kind {
	GMEM_CALL_VALUE,
	GMEM_CALL_FIXED,
	GMEM_CALL_IN,
	GMEM_CALL_INOUT,
	GMEM_CALL_PARTIAL,
	GMEM_CALL_OPEN,
};

struct file;

/**
 * struct gmem_call - one entry of a dispatch table
 * @cmd: ioctl number
 * @kind: see above
 * @size: size of the struct as this kernel knows it
 * @min_size: size of its first version
 * @fn: gets the object that the descriptor stands for and the argument
 * @open: the same for GMEM_CALL_OPEN; the new file, or an error pointer
 */
struct gmem_call {
	unsigned int cmd;
	enum gmem_call_kind kind;
	size_t size;
	size_t min_size;
	union {
		int (*fn)(void *obj, void *arg);
		struct file *(*open)(void *obj, void *arg);
	};
};

#define GMEM_CALL_STRUCT(_cmd, _kind, _struct, _last)			\
	.cmd = _cmd,							\
	.kind = _kind,							\
	.size = sizeof(_struct) +					\
		BUILD_BUG_ON_ZERO(sizeof(_struct) > GMEM_CALL_MAX_SIZE), \
	.min_size = offsetofend(_struct, _last)

#define GMEM_CALL(_cmd, _kind, _fn, _struct, _last)			\
	{								\
		GMEM_CALL_STRUCT(_cmd, _kind, _struct, _last),		\
		.fn = _fn,						\
	}

#define GMEM_CALL_OPENS(_cmd, _open, _struct, _last)			\
	{								\
		GMEM_CALL_STRUCT(_cmd, GMEM_CALL_OPEN, _struct, _last),	\
		.open = _open,						\
	}

/* The entry of @cmd in a table; NULL if there is none. */
const struct gmem_call *gmem_call_find(const struct gmem_call *calls,
				       size_t nr_calls, unsigned int cmd);
/* Make a call that was looked up; -ENOTTY if @call is NULL. */
long gmem_call(const struct gmem_call *call, void *obj, unsigned long arg);

/*
 * Copy the name of a new object, of GMEM_OBJECT_NAME_LEN bytes, from a call's
 * argument; -EINVAL if it isn't a name.
 */
int gmem_call_name(char *to, const u8 *from);

/* Both ends of the range [@first, @last] of pages from bytes @addr, @length. */
int gmem_call_range(u64 addr, u64 length, unsigned long *first,
		    unsigned long *last);

/*
 * Arrays of entries, see the uAPI: may a caller have entries of this size? @first
 * is that of their first version.
 */
bool gmem_call_entry_size_ok(u32 entry_size, size_t first);
/*
 * For a call whose argument got @entry_size later, and ends at @end since then: set
 * *entry_size to @first for a shorter argument, of @usize bytes. -EINVAL if the
 * size is wrong.
 */
int gmem_call_entry_size(u32 *entry_size, u32 usize, size_t end, size_t first);
/*
 * Write @nr entries, each of @size bytes, to entries @at and later of the caller's
 * array at @to. -EFAULT if it isn't there.
 */
int gmem_call_put_entries(u64 to, u32 entry_size, u32 at, const void *entries,
			  size_t size, u32 nr);

#endif /* _GMEM_CALL_H */
