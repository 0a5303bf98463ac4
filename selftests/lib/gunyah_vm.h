/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fixture of tests of a VM's life under Gunyah: a guest that isn't started.
 */
#ifndef LIB_GUNYAH_VM_H
#define LIB_GUNYAH_VM_H

#include "gunyah_fixture.h"

FIXTURE(gunyah)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct gunyah_guest guest;
	struct el2 el2;
	int mem;
	/* The test makes the hypervisor keep pages. */
	bool lossy;
};

typedef FIXTURE_DATA(gunyah) self_t;

/* A guest that isn't started, with lent memory at 4 GiB and shared at 5 GiB. */
static int open_guest(self_t *self)
{
	int err = gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW);

	if (!err)
		err = map_mem(self->guest.vm, GIB(4), self->mem, 0, KIB(512),
			      LEND | RWX);
	if (!err)
		err = map_mem(self->guest.vm, GIB(5), self->mem, KIB(512),
			      KIB(512), SHARE | RWX);
	return err;
}

FIXTURE_SETUP(gunyah)
{
	SETUP_GUNYAH();
	self->mem = new_mem(MIB(1), 0);
	ASSERT_LE(0, self->mem);
	ASSERT_EQ(0, open_guest(self));
}

FIXTURE_TEARDOWN(gunyah)
{
	gunyah_guest_close(&self->guest);
	close(self->mem);
	TEARDOWN_GUNYAH(self->lossy);
}

/* Can the guest use its lent and its shared memory? */
static int guest_works(self_t *self)
{
	int ret;

	ret = gunyah_write(&self->guest, GIB(4) + 5, 0x77);
	if (ret)
		return ret;
	ret = gunyah_read(&self->guest, GIB(4) + 5);
	if (ret != 0x77)
		return ret < 0 ? ret : -EPROTO;
	return gunyah_write(&self->guest, GIB(5), 0x33);
}

/* End the guest of the fixture. */
static void end_guest(self_t *self)
{
	gunyah_guest_close(&self->guest);
	self->guest.vm = self->guest.vcpu = self->guest.agent_mem = -1;
	self->guest.run = MAP_FAILED;
}

#endif /* LIB_GUNYAH_VM_H */
