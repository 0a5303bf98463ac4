// SPDX-License-Identifier: GPL-2.0-only
#include <linux/cgroup.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/memcontrol.h>
#include <linux/mount.h>
#include <linux/sched.h>

#include "charge.h"

bool gmem_charge_present(void)
{
	return cgroup_subsys_enabled(memory_cgrp_subsys) &&
	       cgroup_subsys_on_dfl(memory_cgrp_subsys);
}

/*
 * A task may charge its own group. It may charge any group in which it could
 * create groups for itself: that is how a group is delegated.
 */
static int gmem_charge_check(const struct mem_cgroup *memcg, struct file *file)
{
	struct mem_cgroup *own = get_mem_cgroup_from_mm(current->mm);
	bool is_own = own == memcg;

	mem_cgroup_put(own);
	if (is_own)
		return 0;
	/* file_permission() looks at the filesystem, not at the mount. */
	if (__mnt_is_readonly(file->f_path.mnt))
		return -EACCES;
	return file_permission(file, MAY_WRITE | MAY_EXEC);
}

static struct mem_cgroup *gmem_charge_of(struct cgroup *cgroup,
					 struct file *file)
{
	struct mem_cgroup *memcg;
	int err;

	/* A thread may have put another file in the place of the first. */
	if (file_inode(file)->i_private != cgroup->kn)
		return ERR_PTR(-EBADF);
	memcg = mem_cgroup_from_css(cgroup_get_e_css(cgroup,
						     &memory_cgrp_subsys));
	err = gmem_charge_check(memcg, file);
	if (err) {
		mem_cgroup_put(memcg);
		return ERR_PTR(err);
	}
	return memcg;
}

struct mem_cgroup *gmem_charge_open(int fd)
{
	struct mem_cgroup *memcg;
	struct cgroup *cgroup;
	struct file *file;

	if (!gmem_charge_present())
		return ERR_PTR(-EOPNOTSUPP);
	file = fget_raw(fd);
	if (!file)
		return ERR_PTR(-EBADF);
	cgroup = cgroup_get_from_fd(fd);
	if (IS_ERR(cgroup)) {
		memcg = ERR_PTR(-EBADF);
	} else {
		memcg = gmem_charge_of(cgroup, file);
		cgroup_put(cgroup);
	}
	fput(file);
	return memcg;
}
