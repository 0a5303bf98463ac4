// SPDX-License-Identifier: GPL-2.0-only
/*
 * Doorbells of the guest. Its device tree gives each one a label, and the
 * Resource Manager grants the host a capability to ring it. An irqfd is an
 * eventfd whose writes ring the doorbell of a label.
 *
 * The VMM may add an irqfd before the start, when no doorbell is known yet. Earlier
 * writes ring the doorbell once, as soon as it is found.
 */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/gmem_gunyah.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "../objects.h"
#include "hypercall.h"
#include "irqfd.h"
#include "objects.h"

/* The only flag of a doorbell that irqfds use. */
#define GUNYAH_BELL_RUNG BIT_ULL(0)

/**
 * struct gunyah_irqfd - an eventfd that rings a doorbell
 * @g: the VM
 * @label: the doorbell
 * @level: GMEM_GUNYAH_IRQFD_LEVEL
 * @eventfd: a reference, which keeps @queue; the eventfd's files may all be gone
 * @wait: the entry of this irqfd in @queue
 * @queue: that of @eventfd; its lock protects the fields from here on, since
 *	that is held when a write wakes @wait
 * @ready: @cap is valid
 * @early: the eventfd was written before @ready
 * @cap: Gunyah's capability of the doorbell
 * @gone: no file of the eventfd is left; READ_ONCE() needs no lock
 *
 * Lifetime: from ADD_FUNCTION to REMOVE_FUNCTION or the end of the VM. One that
 * is @gone is freed when its label, or room for another one, is needed.
 */
struct gunyah_irqfd {
	struct gunyah_vm *g;
	u32 label;
	bool level;
	struct eventfd_ctx *eventfd;
	wait_queue_entry_t wait;
	wait_queue_head_t *queue;
	bool ready;
	bool early;
	u64 cap;
	bool gone;
};

/**
 * struct gunyah_bell - an entry of gunyah_vm.bells
 * @irqfd: rings the doorbell, or NULL
 * @cap: Gunyah's capability of the doorbell
 * @found: @cap is valid
 * @masked: the doorbell has the masks of a level interrupt
 *
 * Under gunyah_vm.functions_lock. Freed with the VM, or with the irqfd if
 * Gunyah has no doorbell of this label.
 */
struct gunyah_bell {
	struct gunyah_irqfd *irqfd;
	u64 cap;
	bool found;
	bool masked;
};

/* ---- ringing ---- */

static void gunyah_irqfd_ring(struct gunyah_irqfd *irqfd)
{
	struct gunyah_vm *g = irqfd->g;
	s64 error = gunyah_doorbell_send(irqfd->cap, GUNYAH_BELL_RUNG);

	if (error && !READ_ONCE(g->exited))
		dev_warn_ratelimited(g->rm->dev,
				     "VM %u (VMID %u): can't ring doorbell %u: %s (%lld)\n",
				     g->vm->id, g->vmid, irqfd->label,
				     gunyah_error_name(error), error);
}

/* Somebody has written to the eventfd, or its last file goes. Must not sleep. */
static int gunyah_irqfd_wake(wait_queue_entry_t *wait, unsigned int mode,
			     int sync, void *key)
{
	struct gunyah_irqfd *irqfd = container_of(wait, struct gunyah_irqfd,
						  wait);
	__poll_t events = key_to_poll(key);
	u64 count;

	/* The kernel may signal an eventfd that has no file left. */
	if (events & EPOLLIN && !irqfd->gone) {
		/* Nobody reads the eventfd, and it must not get full. */
		eventfd_ctx_do_read(irqfd->eventfd, &count);
		if (irqfd->ready)
			gunyah_irqfd_ring(irqfd);
		else
			irqfd->early = true;
	}
	if (events & EPOLLHUP)
		WRITE_ONCE(irqfd->gone, true);
	return 0;
}

/*
 * A doorbell keeps its flag, and the guest's interrupt stays asserted, until the
 * guest clears the flag. For a level interrupt Gunyah clears it by itself.
 */
static void gunyah_bell_set_masks(struct gunyah_bell *bell,
				  const struct gunyah_irqfd *irqfd)
{
	struct gunyah_vm *g = irqfd->g;
	s64 error;

	if (bell->masked == irqfd->level)
		return;
	error = irqfd->level ? gunyah_doorbell_mask(bell->cap, GUNYAH_BELL_RUNG,
						    GUNYAH_BELL_RUNG) :
			       gunyah_doorbell_mask(bell->cap, U64_MAX, 0);
	if (error)
		dev_warn_ratelimited(g->rm->dev,
				     "VM %u (VMID %u): can't set the masks of doorbell %u: %s (%lld); its device tree may have to allow it (source-can-clear)\n",
				     g->vm->id, g->vmid, irqfd->label,
				     gunyah_error_name(error), error);
	else
		bell->masked = irqfd->level;
}

static void gunyah_irqfd_connect(struct gunyah_bell *bell)
{
	struct gunyah_irqfd *irqfd = bell->irqfd;
	unsigned long flags;

	gunyah_bell_set_masks(bell, irqfd);
	spin_lock_irqsave(&irqfd->queue->lock, flags);
	irqfd->cap = bell->cap;
	irqfd->ready = true;
	if (irqfd->early)
		gunyah_irqfd_ring(irqfd);
	spin_unlock_irqrestore(&irqfd->queue->lock, flags);
}

/* ---- irqfds ---- */

struct gunyah_irqfd_poll {
	poll_table table;
	struct gunyah_irqfd *irqfd;
};

static void gunyah_irqfd_enqueue(struct file *file, wait_queue_head_t *queue,
				 poll_table *table)
{
	struct gunyah_irqfd_poll *poll =
		container_of(table, struct gunyah_irqfd_poll, table);

	poll->irqfd->queue = queue;
	add_wait_queue(queue, &poll->irqfd->wait);
}

static void gunyah_irqfd_free(struct gunyah_irqfd *irqfd)
{
	u64 count;

	/* This empties the eventfd: a later irqfd doesn't ring for old writes. */
	eventfd_ctx_remove_wait_queue(irqfd->eventfd, &irqfd->wait, &count);
	eventfd_ctx_put(irqfd->eventfd);
	kfree(irqfd);
}

static struct gunyah_irqfd *
gunyah_irqfd_alloc(struct gunyah_vm *g,
		   const struct gmem_gunyah_fn_irqfd_arg *arg)
{
	struct gunyah_irqfd_poll poll;
	struct gunyah_irqfd *irqfd;
	struct file *file;
	int err;

	file = fget(arg->fd);
	if (!file)
		return ERR_PTR(-EBADF);
	irqfd = kzalloc(sizeof(*irqfd), GFP_KERNEL_ACCOUNT);
	if (!irqfd) {
		err = -ENOMEM;
		goto put_file;
	}
	irqfd->eventfd = eventfd_ctx_fileget(file);
	if (IS_ERR(irqfd->eventfd)) {
		err = PTR_ERR(irqfd->eventfd);
		goto free_irqfd;
	}
	irqfd->g = g;
	irqfd->label = arg->label;
	irqfd->level = arg->flags & GMEM_GUNYAH_IRQFD_LEVEL;
	init_waitqueue_func_entry(&irqfd->wait, gunyah_irqfd_wake);
	init_poll_funcptr(&poll.table, gunyah_irqfd_enqueue);
	poll.irqfd = irqfd;
	if (vfs_poll(file, &poll.table) & EPOLLIN) {
		spin_lock_irq(&irqfd->queue->lock);
		irqfd->early = true;
		spin_unlock_irq(&irqfd->queue->lock);
	}
	fput(file);
	return irqfd;

free_irqfd:
	kfree(irqfd);
put_file:
	fput(file);
	return ERR_PTR(err);
}

/* Free the irqfd of a label. The doorbell stays if Gunyah has it. */
static void gunyah_bell_drop_irqfd(struct gunyah_vm *g, u32 label,
				   struct gunyah_bell *bell)
{
	if (bell->irqfd) {
		gunyah_irqfd_free(bell->irqfd);
		bell->irqfd = NULL;
		g->nr_irqfds--;
	}
	if (bell->found)
		return;
	xa_erase(&g->bells, label);
	kfree(bell);
}

static void gunyah_irqfds_drop_gone(struct gunyah_vm *g)
{
	struct gunyah_bell *bell;
	unsigned long label;

	xa_for_each(&g->bells, label, bell)
		if (bell->irqfd && READ_ONCE(bell->irqfd->gone))
			gunyah_bell_drop_irqfd(g, label, bell);
}

static struct gunyah_bell *gunyah_bell(struct gunyah_vm *g, u32 label)
{
	struct gunyah_bell *bell = xa_load(&g->bells, label);

	if (bell)
		return bell;
	bell = kzalloc(sizeof(*bell), GFP_KERNEL_ACCOUNT);
	if (bell && xa_err(xa_store(&g->bells, label, bell,
				    GFP_KERNEL_ACCOUNT))) {
		kfree(bell);
		bell = NULL;
	}
	return bell;
}

int gunyah_irqfd_add(struct gunyah_vm *g, const void *data)
{
	const struct gmem_gunyah_fn_irqfd_arg *arg = data;
	struct gunyah_irqfd *irqfd;
	struct gunyah_bell *bell;

	lockdep_assert_held(&g->functions_lock);
	if (arg->flags & ~GMEM_GUNYAH_IRQFD_LEVEL)
		return -EINVAL;
	gunyah_irqfds_drop_gone(g);
	bell = xa_load(&g->bells, arg->label);
	if (bell && bell->irqfd)
		return -EEXIST;
	if (!bell && g->bells_known)
		return -ENODEV;
	if (g->nr_irqfds == GMEM_GUNYAH_MAX_IRQFDS)
		return -ENOSPC;
	irqfd = gunyah_irqfd_alloc(g, arg);
	if (IS_ERR(irqfd))
		return PTR_ERR(irqfd);
	bell = gunyah_bell(g, arg->label);
	if (!bell) {
		gunyah_irqfd_free(irqfd);
		return -ENOMEM;
	}
	bell->irqfd = irqfd;
	g->nr_irqfds++;
	if (bell->found)
		gunyah_irqfd_connect(bell);
	return 0;
}

int gunyah_irqfd_remove(struct gunyah_vm *g, const void *data)
{
	const struct gmem_gunyah_fn_irqfd_arg *arg = data;
	struct gunyah_bell *bell;

	lockdep_assert_held(&g->functions_lock);
	gunyah_irqfds_drop_gone(g);
	bell = xa_load(&g->bells, arg->label);
	if (!bell || !bell->irqfd)
		return -ENOENT;
	gunyah_bell_drop_irqfd(g, arg->label, bell);
	return 0;
}

/* ---- doorbells ---- */

int gunyah_bell_found(struct gunyah_vm *g, u32 label, u64 cap)
{
	struct gunyah_bell *bell = gunyah_bell(g, label);

	lockdep_assert_held(&g->functions_lock);
	if (!bell)
		return -ENOMEM;
	bell->cap = cap;
	bell->found = true;
	if (bell->irqfd)
		gunyah_irqfd_connect(bell);
	return 0;
}

void gunyah_bells_check(struct gunyah_vm *g)
{
	struct gunyah_bell *bell;
	unsigned long label;

	lockdep_assert_held(&g->functions_lock);
	g->bells_known = true;
	xa_for_each(&g->bells, label, bell)
		if (!bell->found)
			dev_warn_ratelimited(g->rm->dev,
					     "VM %u (VMID %u): an irqfd names doorbell %lu, but the guest's device tree has no doorbell of this label\n",
					     g->vm->id, g->vmid, label);
}

void gunyah_bells_disconnect(struct gunyah_vm *g)
{
	struct gunyah_bell *bell;
	unsigned long label;

	lockdep_assert_held(&g->functions_lock);
	xa_for_each(&g->bells, label, bell) {
		bell->found = false;
		if (bell->irqfd) {
			spin_lock_irq(&bell->irqfd->queue->lock);
			bell->irqfd->ready = false;
			spin_unlock_irq(&bell->irqfd->queue->lock);
		} else {
			gunyah_bell_drop_irqfd(g, label, bell);
		}
	}
}

void gunyah_bells_end(struct gunyah_vm *g)
{
	struct gunyah_bell *bell;
	unsigned long label;

	gunyah_bells_disconnect(g);
	xa_for_each(&g->bells, label, bell)
		gunyah_bell_drop_irqfd(g, label, bell);
	xa_destroy(&g->bells);
}
