// SPDX-License-Identifier: GPL-2.0-only
#include <linux/atomic.h>
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>

#include "objects.h"
#include "opener.h"

/**
 * struct gmem_opener - a user who has opened /dev/gmem
 * @node: in the table of all
 * @refs: descriptors of the device and VMs; the last one frees it
 * @uid: the effective user at the open
 * @nr_bindings: of all its VMs
 */
struct gmem_opener {
	struct hlist_node node;
	refcount_t refs;
	kuid_t uid;
	atomic_long_t nr_bindings;
};

/* By number of the user. Read and written under the lock. */
static DEFINE_HASHTABLE(gmem_openers, 7);
static DEFINE_SPINLOCK(gmem_openers_lock);

static ulong gmem_user_bindings = 4 * GMEM_MAX_BINDINGS;
module_param_named(user_bindings, gmem_user_bindings, ulong, 0644);
MODULE_PARM_DESC(user_bindings,
		 "Bindings that all VMs of a user can have together");

/* With a reference; NULL if there is none. gmem_openers_lock. */
static struct gmem_opener *gmem_opener_find(kuid_t uid)
{
	struct gmem_opener *opener;

	hash_for_each_possible(gmem_openers, opener, node, __kuid_val(uid))
		if (uid_eq(opener->uid, uid))
			return gmem_opener_hold(opener);
	return NULL;
}

struct gmem_opener *gmem_opener_get(void)
{
	struct gmem_opener *opener, *new;

	/* Before the lock, where a task at its memory limit stops nobody. */
	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return ERR_PTR(-ENOMEM);
	refcount_set(&new->refs, 1);
	new->uid = current_euid();

	spin_lock(&gmem_openers_lock);
	opener = gmem_opener_find(new->uid);
	if (!opener) {
		hash_add(gmem_openers, &new->node, __kuid_val(new->uid));
		opener = new;
		new = NULL;
	}
	spin_unlock(&gmem_openers_lock);
	kfree(new);
	return opener;
}

struct gmem_opener *gmem_opener_hold(struct gmem_opener *opener)
{
	refcount_inc(&opener->refs);
	return opener;
}

void gmem_opener_put(struct gmem_opener *opener)
{
	bool last;

	spin_lock(&gmem_openers_lock);
	last = refcount_dec_and_test(&opener->refs);
	if (last)
		hash_del(&opener->node);
	spin_unlock(&gmem_openers_lock);
	if (last)
		kfree(opener);
}

int gmem_opener_add_binding(struct gmem_opener *opener)
{
	long nr = atomic_long_read(&opener->nr_bindings);

	do {
		if (nr >= READ_ONCE(gmem_user_bindings))
			return -ENOSPC;
	} while (!atomic_long_try_cmpxchg(&opener->nr_bindings, &nr, nr + 1));
	return 0;
}

void gmem_opener_remove_binding(struct gmem_opener *opener)
{
	atomic_long_dec(&opener->nr_bindings);
}

u64 gmem_opener_nr_bindings(const struct gmem_opener *opener)
{
	return atomic_long_read(&opener->nr_bindings);
}

u64 gmem_opener_max_bindings(void)
{
	return READ_ONCE(gmem_user_bindings);
}
