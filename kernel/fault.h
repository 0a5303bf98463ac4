/* SPDX-License-Identifier: GPL-2.0 */
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
 * struct gmem_guest_access - an access that a guest makes
 * @vm: the guest
 * @gfn: the page that it accesses
 * @access: bits of &enum gmem_access
 * @inode: for gmem_fault_guest(): the guestmem that the caller expects there
 * @index: for gmem_fault_guest(): the page of it that the caller expects there
 * @writable: the caller is going to let the guest write, whatever @access is
 * @recorded: the same access was refused and recorded just before, or is going
 *	to be: don't record it
 * @no_wait: return -EAGAIN instead of waiting for an unmap of the page
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
	bool no_wait;
	void (*map)(struct gmem_guest_access *access,
		    const struct gmem_binding *b, struct folio *folio);
};

void gmem_fault_log_init(struct gmem_fault_log *log);
/* The number of refused accesses so far. */
u64 gmem_fault_count(struct gmem_fault_log *log);

/* Remember a refused access and return the errno of @reason. */
int gmem_fault_refuse(struct gmem_vm *vm, unsigned long gfn, u32 access,
		      enum gmem_fault_reason reason);

/*
 * Resolve an access: allocate the page and provide it as its binding says. On
 * success the folio is locked and referenced; the caller makes the page
 * reachable before it unlocks. On failure the access is in the log, unless it
 * was there already, or the error is -EINTR: a fatal signal.
 */
int gmem_fault_guest(struct gmem_guest_access *access, struct folio **folio);

/*
 * A guest has accessed a page that its provider doesn't have: resolve the
 * access with the guestmem that is bound there. After 0 the provider has got
 * the page, and gmem_guest_access.map was called; but by now the host may have
 * taken the page back.
 */
int gmem_fault_resolve(struct gmem_guest_access *access);

int gmem_vm_faults_call(void *obj, void *arg);

#endif /* _GMEM_FAULT_H */
