// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interrupts by which Gunyah asks to run a vCPU again: the guest waits for an
 * interrupt, and has got one, or another vCPU has turned this one on.
 */
#include <linux/device.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/jiffies.h>
#include <linux/of_irq.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "../objects.h"
#include "objects.h"
#include "vcpu.h"
#include "vcpu_irq.h"

/* How often to run a vCPU that waits, in case that an interrupt got lost. */
#define GUNYAH_VCPU_LOST_MS 100
/* How often to run it if it has no interrupt. */
#define GUNYAH_VCPU_POLL_US 1000

/* The GIC's shared interrupts, and the extended range of them. */
#define GUNYAH_SPI_FIRST 32
#define GUNYAH_SPI_END 1020
#define GUNYAH_ESPI_FIRST 4096
#define GUNYAH_ESPI_END 5120

/* The first two cells of an interrupt of the GIC in a device tree. */
static bool gunyah_virq_cells(u32 virq, u32 cells[2])
{
	if (virq >= GUNYAH_SPI_FIRST && virq < GUNYAH_SPI_END) {
		cells[0] = 0;
		cells[1] = virq - GUNYAH_SPI_FIRST;
		return true;
	}
	if (virq >= GUNYAH_ESPI_FIRST && virq < GUNYAH_ESPI_END) {
		cells[0] = 2;
		cells[1] = virq - GUNYAH_ESPI_FIRST;
		return true;
	}
	return false;
}

/* Linux's number of the interrupt; 0 or an errno: there is none. */
static int gunyah_virq_map(struct gunyah_rm *rm, u32 virq)
{
	struct of_phandle_args args;
	struct irq_fwspec fwspec = {};
	int i, irq;

	if (!gunyah_virq_cells(virq, fwspec.param))
		return -EINVAL;
	/* The queues' interrupts tell the controller and its format. */
	irq = of_irq_parse_one(rm->dev->of_node, 0, &args);
	if (irq)
		return irq;
	fwspec.fwnode = of_fwnode_handle(args.np);
	fwspec.param_count = args.args_count;
	fwspec.param[2] = IRQ_TYPE_EDGE_RISING;
	for (i = 3; i < args.args_count; i++)
		fwspec.param[i] = 0;
	irq = irq_create_fwspec_mapping(&fwspec);
	of_node_put(args.np);
	return irq;
}

static irqreturn_t gunyah_vcpu_interrupt(int irq, void *data)
{
	struct gunyah_vcpu_slot *slot = data;

	WRITE_ONCE(slot->woken, true);
	wake_up_all(slot->wake);
	return IRQ_HANDLED;
}

void gunyah_vcpu_take_irq(struct gunyah_vm *g, struct gunyah_vcpu_slot *slot,
			  u32 label, u32 virq)
{
	int irq, err;

	if (!virq || slot->irq)
		return;
	slot->wake = &g->wake;
	irq = gunyah_virq_map(g->rm, virq);
	err = irq > 0 ? request_irq(irq, gunyah_vcpu_interrupt, 0,
				    "gmem-gunyah-vcpu", slot) :
			irq ?: -ENXIO;
	if (err)
		dev_warn_ratelimited(g->rm->dev,
				     "VM %u (VMID %u): no interrupt %u for vCPU %u: error %d; it polls\n",
				     g->vm->id, g->vmid, virq, label, err);
	else
		slot->irq = irq;
	/* -EBUSY: somebody else uses the interrupt, and its mapping. */
	if (err && irq > 0 && err != -EBUSY)
		irq_dispose_mapping(irq);
}

void gunyah_vcpus_disconnect(struct gunyah_vm *g)
{
	struct gunyah_vcpu_slot *slot;
	unsigned long label;

	lockdep_assert_held(&g->functions_lock);
	xa_for_each(&g->vcpus, label, slot) {
		if (!slot->irq)
			continue;
		free_irq(slot->irq, slot);
		irq_dispose_mapping(slot->irq);
		slot->irq = 0;
	}
}

void gunyah_vcpu_expect(struct gunyah_vcpu *vcpu)
{
	WRITE_ONCE(vcpu->slot->woken, false);
}

void gunyah_vcpu_wait(struct gunyah_vcpu *vcpu)
{
	struct gunyah_vcpu_slot *slot = vcpu->slot;

	if (!slot->irq) {
		gunyah_vcpu_pause(vcpu);
		return;
	}
	wait_event_interruptible_timeout(vcpu->g->wake,
					 READ_ONCE(slot->woken) ||
					 READ_ONCE(vcpu->g->exited),
					 msecs_to_jiffies(GUNYAH_VCPU_LOST_MS));
}

void gunyah_vcpu_pause(struct gunyah_vcpu *vcpu)
{
	wait_event_interruptible_timeout(vcpu->g->wake,
					 READ_ONCE(vcpu->g->exited),
					 usecs_to_jiffies(GUNYAH_VCPU_POLL_US));
}
