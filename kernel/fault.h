/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_FAULT_H
#define _GMEM_FAULT_H

#include <linux/gmem.h>
#include <linux/types.h>

struct folio;
struct gmem_binding;
struct gmem_fault_log;
struct gmem_vm;
struct inode;

/**
 * enum gmem_patience - how long an access may wait
 * @GMEM_WAIT_END: for the end of the operation that keeps the guest from the page
 * @GMEM_WAIT_PIECE: for a lock, which an operation holds for a piece only
 * @GMEM_WAIT_NOT: not at all
 *
 * With the last two, the error may be -EAGAIN, or -EINPROGRESS for a reference to
 * the page that may be brief: wait by gmem_fault_wait() or
 * gmem_fault_resolve_wait(), without the locks that others need, and try again.
 */
enum gmem_patience {
	GMEM_WAIT_END,
	GMEM_WAIT_PIECE,
	GMEM_WAIT_NOT,
};

/**
 * struct gmem_guest_access - an access that a guest makes
 * @vm: the guest
 * @gfn: the page that it accesses
 * @access: bits of &enum gmem_access
 * @inode: for gmem_fault_guest(): the guestmem that the caller expects there
 * @index: for gmem_fault_guest(): the page of it that the caller expects there
 * @writable: the caller is going to let the guest write, whatever @access is
 * @recorded: the same access was refused and recorded just before, or is going
 *	to be: don't record it
 * @defers: an access to an unbound page isn't recorded; the error is -ENOENT. The
 *	caller decides, and may wait.
 * @interruptible: for the caller's wait: any signal ends it
 * @patience: how long it may wait
 * @held: the last try found a reference to the page that may be brief
 * @map: optional; lets the guest reach the page. Called with the folio locked
 *	and the invalidate lock held.
 */
struct gmem_guest_access {
	struct gmem_vm *vm;
	unsigned long gfn;
	u32 access;
	struct inode *inode;
	pgoff_t index;
	bool writable;
	bool recorded;
	bool defers;
	bool interruptible;
	enum gmem_patience patience;
	bool held;
	void (*map)(struct gmem_guest_access *access,
		    const struct gmem_binding *b, struct folio *folio);
};

void gmem_fault_log_init(struct gmem_fault_log *log);
void gmem_fault_log_destroy(struct gmem_fault_log *log);
/* The number of refused accesses so far. */
u64 gmem_fault_count(struct gmem_fault_log *log);
/*
 * Describe the first row whose number is above @seq; false: none. The number of
 * its thread is that in the initial PID namespace. The row doesn't count as
 * returned: see gmem_fault_unread().
 */
bool gmem_fault_peek(struct gmem_fault_log *log, u64 seq,
		     struct gmem_fault_info *info);
/* Is there an access that no reader has got? */
bool gmem_fault_unread(struct gmem_fault_log *log);

/* Remember a refused access and return the errno of @reason. */
int gmem_fault_refuse(struct gmem_vm *vm, unsigned long gfn, u32 access,
		      enum gmem_fault_reason reason);

/*
 * Resolve an access: allocate the page and provide it as its binding says. On
 * success the folio is locked and referenced; the caller makes the page
 * reachable before it unlocks. On failure the access is in the log, unless it
 * was there already, or the error is -EINTR, a fatal signal, or one
 * of those above.
 */
int gmem_fault_guest(struct gmem_guest_access *access, struct folio **folio);

/*
 * A guest has accessed a page that its provider doesn't have: resolve the
 * access with the guestmem that is bound there. After 0 the provider has got
 * the page, and gmem_guest_access.map was called; but by now the host may have
 * taken the page back.
 */
int gmem_fault_resolve(struct gmem_guest_access *access);

/*
 * After -EAGAIN or -EINPROGRESS from the call of that name: sleep until another
 * try makes sense. -EINTR on a fatal signal.
 */
int gmem_fault_wait(struct gmem_guest_access *access);
int gmem_fault_resolve_wait(struct gmem_guest_access *access);
/* As these do, for the page at @gfn and any binding that it has by then. */
int gmem_fault_wait_at(struct gmem_vm *vm, unsigned long gfn);

int gmem_vm_faults_call(void *obj, void *arg);

#endif /* _GMEM_FAULT_H */
