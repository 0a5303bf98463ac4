/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_LEND_H
#define _GMEM_LEND_H

#include "objects.h"

struct folio;

/*
 * A guest is about to use the page at @index through @b: allocate it if need
 * be, and lend or share it, unless the guest has it. The folio comes back
 * locked and referenced. -ENOMEM, -EHWPOISON, -EBUSY if it is pinned,
 * -EINPROGRESS as gmem_folio_check_pins(), -ENOTRECOVERABLE if it was leaked,
 * else the error of the provider. -EAGAIN instead of a wait for another user of
 * the page, unless @wait; else -EINTR on a fatal signal. Invalidate lock held; no
 * guest is kept from the page: see piece.h.
 */
int gmem_lend_get(struct gmem_binding *b, pgoff_t index, bool wait,
		  struct folio **folio);

/*
 * The first and the last part of gmem_lend_get(), for a caller that provides
 * many folios in one step: "prepare" does everything that must come before
 * @folio can be provided, "provided" sets its new state. Folio lock held.
 */
int gmem_lend_prepare(struct gmem_binding *b, struct folio *folio);
void gmem_lend_provided(struct gmem_binding *b, struct folio *folio);

/**
 * enum gmem_lend_right - what a host access may do to a lent page
 * @GMEM_LEND_RIGHT_NONE: nothing: the page stays lent
 * @GMEM_LEND_RIGHT_READ: take it back if that keeps its contents
 * @GMEM_LEND_RIGHT_WRITE: take it back
 */
enum gmem_lend_right {
	GMEM_LEND_RIGHT_NONE,
	GMEM_LEND_RIGHT_READ,
	GMEM_LEND_RIGHT_WRITE,
};

/*
 * The host is about to use the page at @index: allocate it if need be, take it
 * back if it is lent. The folio comes back locked and referenced. -ENOMEM,
 * -EHWPOISON, -EACCES if the policy or @right denies it, -EIO if the provider
 * refuses or the folio was leaked, -EBUSY if it is lent and pinned, -EINPROGRESS
 * as gmem_folio_check_pins(), -EALREADY if it changes in place: see
 * gmem_mem_wait_change(). @wait as above. Invalidate lock held.
 */
int gmem_lend_host_get(struct gmem_mem *mem, pgoff_t index,
		       enum gmem_lend_right right, bool wait,
		       struct folio **folio);

/*
 * Take back the pages of [@first, @last] that the guest of @b holds, in pieces.
 * Under gmem_vm.lock of its VM, or at the VM's end. The guest is kept from the
 * pages: see piece.h.
 *
 * After "begin" the guest can't reach the pages, but they aren't the host's yet:
 * if another page fails, gmem_batch_restore() undoes this. It stops at the first
 * failure. For GMEM_RECLAIM_TEARDOWN a page that fails is leaked, and -EINTR, if
 * the task was killed, is the only failure: then "begin" again.
 *
 * "finish" scrubs lent pages if need be, and makes them the host's. @b stays in
 * the file's index until all of them are. False: it has stopped early, because
 * the task was killed; it can go on later. For an exclusive binding.
 *
 * "unshare" is for a binding that isn't exclusive, after it was taken out of the
 * file's index: it ends the state of the pages that no other binding shares.
 */
int gmem_lend_begin_reclaim(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    enum gmem_reclaim_reason reason);
bool gmem_lend_finish_reclaim(struct gmem_binding *b, pgoff_t first,
			      pgoff_t last, enum gmem_reclaim_reason reason);
bool gmem_lend_unshare(struct gmem_binding *b, pgoff_t first, pgoff_t last);

/*
 * A change in place, in pieces. Under gmem_vm.lock; both are kept from the lent
 * pages. The guest has lost all pages of @b by gmem_lend_begin_reclaim().
 *
 * "take" is for a binding that has just become a lent one: the pages that the
 * guest shared are lent, and the host loses all its mappings. -EBUSY if a page is
 * pinned, or held at @end, in jiffies; -EINTR on a fatal signal; it stops there.
 * "open" undoes it, or is for a
 * binding that is about to become a shared one: lent pages are shared, with their
 * contents.
 */
int gmem_lend_take(struct gmem_binding *b, unsigned long end);
void gmem_lend_open(struct gmem_binding *b);

/*
 * The two steps for a piece, whose invalidate lock the caller holds for writing.
 */
int gmem_lend_begin_piece(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			  enum gmem_reclaim_reason reason);
void gmem_lend_finish_piece(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    enum gmem_reclaim_reason reason);

/*
 * Take back for the host a piece's lent pages that the guest of @b holds; @nr
 * grows by the pages that came back. It stops at the first failure. Then the
 * guest may not reach pages that are still its own: see gmem_batch_restore().
 * Under gmem_vm.lock; the guest is kept from the pages: see piece.h.
 */
int gmem_lend_reclaim_piece(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    u64 *nr);

/*
 * The two steps for pages [@first, @last], which a file is about to lose, and all
 * guests that hold one. "begin" goes in pieces and stops at the first failure.
 * "finish" is for one piece, whose invalidate lock the caller holds for writing.
 * The guests are kept from the pages: see piece.h.
 */
int gmem_lend_begin_punch(struct gmem_mem *mem, pgoff_t first, pgoff_t last);
void gmem_lend_finish_punch(struct gmem_mem *mem, pgoff_t first, pgoff_t last);

/*
 * A page of @folio broke: guests behind live windows lose the folio at once.
 * Folio lock held.
 */
void gmem_lend_zap_broken(struct gmem_mem *mem, struct folio *folio);

/*
 * Take the broken folios of a file from their guests. The state stays: a huge
 * folio may have sound pages that are still lent, and the host takes these back
 * like any lent page.
 */
void gmem_lend_poison(struct gmem_mem *mem);
/* This is for a piece, whose invalidate lock the caller holds for writing. */
void gmem_lend_poison_piece(struct gmem_mem *mem, pgoff_t first, pgoff_t last);

#endif /* _GMEM_LEND_H */
