/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An EL2 monitor for QEMU's virt machine. It runs Linux at EL1 as the host,
 * takes pages away from it by stage 2, and speaks as much of Gunyah's ABI as
 * the tests of the gunyah provider need, and as a Linux guest needs. It is a
 * test program, not a hypervisor: it has one big lock, and the host schedules
 * the vCPUs and drives the machine's interrupt controller.
 *
 * It is stricter than Gunyah, to catch a driver that makes mistakes: a page has
 * one mapping, in the VM of its extent; flags, types and extents must be
 * combined as Linux does; access by user and kernel are the same; a VM's
 * capabilities end with its reset, its VMID not before its memory; parcels of a
 * VM that has run can't be reclaimed before its reset. It has no hypercalls of
 * guests except PSCI, no accepting and donating by RPC, and no vmmio ranges.
 *
 * On the platform "public", the Resource Manager is neither stricter nor kinder
 * than the public one: the files below that say so, and tests r01 to r20, have
 * its rules. There, a guest can accept parcels.
 *
 * The layers, from the host down; each uses those below:
 *
 *   entry.S, trap.c             exceptions; psci.c has the host's PSCI calls
 *   vcpu.c, fpsimd.S            vcpu_run: a guest in place of the host
 *   guest_call.c,               why a guest stops: its calls (PSCI), its
 *   guest_abort.c,              accesses to memory it doesn't have, and to
 *   guest_register.c            system registers
 *   vgic.c, vgic_access.c,      its interrupt controller: the state, the
 *   vgic_cpu.c                  registers, and the part that the CPU does
 *   vtimer.c                    its timer
 *   hypercall.c                 the table of hypercalls, which are in memory.c
 *                               (extents), msgqueue.c and, for tests, control.c
 *   rm.c, rm_vm.c, rm_memory.c  the Resource Manager: it reads messages of the
 *                               host from msgqueue.c at the end of each exit
 *   public.c, reset.c           the public one's life of VMs, and its time
 *   accept.c, guest_rpc.c       where it puts parcels, and for guests that ask
 *   guest_tree.c,               a guest's device tree: placed regions and other
 *   guest_regions.c,            nodes, and what it configures
 *   guest_config.c
 *   tree.c, tree_edit.c         reading and changing such a tree
 *   vm.c, parcel.c, piece.c     VMs and parcels
 *   bell.c                      doorbells, and the interrupts that wake vCPUs
 *   cap.c, host.c               the host's capabilities, buffers and interrupts
 *   memdb.c                     the owner and the mapping of each page; stage-2
 *                               tables are derived from it
 *   stage2.c                    stage-2 tables
 *   rule.c, setting.c           failures and times that tests ask for
 *   lib.c                       strings
 *
 * Few calls go upwards: vm.c notifies the host of a VM's state by rm.c, memdb.c
 * asks vm.c and parcel.c for an id's extent and a parcel's access, and the
 * files of guests ask trap.c whether a fault is spurious, or for an exception
 * in the guest.
 *
 * boot.c and fdt.c set all up. The tests (*_test.c) run in the host: el2_util.h
 * has the calls for them, through the module in driver/; rpc_util.h is a client
 * of the Resource Manager, and vm_util.h a VM with the guest of agent.S.
 */
#ifndef _EL2_H
#define _EL2_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

#define PAGE_SHIFT		12
#define PAGE_SIZE		(1UL << PAGE_SHIFT)
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define ALIGNED(x, a)		(((x) & ((a) - 1)) == 0)

#define MAX_CPUS		8

/*
 * RAM begins with the monitor, which is linked there; the host's RAM follows.
 */
#define MONITOR_BASE		0x40000000UL
#define HOST_RAM_BASE		0x42000000UL

/* QEMU's virt machine. */
#define UART_BASE		0x09000000UL
#define GICD_BASE		0x08000000UL
/* Interrupts that no device of the machine uses. */
#define TX_SPI			200
#define RX_SPI			201

#define sysreg_read(reg) ({						\
	u64 value_;							\
	asm volatile("mrs %0, " #reg : "=r" (value_) : : "memory");	\
	value_;								\
})
#define sysreg_write(reg, value) do {					\
	u64 value_ = (value);						\
	asm volatile("msr " #reg ", %0" : : "r" (value_) : "memory");	\
} while (0)
#define isb()	asm volatile("isb" : : : "memory")

/* Gunyah's errors for hypercalls. */
enum {
	OK = 0,
	UNIMPLEMENTED = -1,
	ARG_INVALID = 1,
	ARG_SIZE = 2,
	ARG_ALIGN = 3,
	NOMEM = 10,
	NORESOURCES = 11,
	ADDR_OVERFLOW = 20,
	ADDR_INVALID = 22,
	BUSY = 31,
	OBJECT_STATE = 33,
	CAP_NULL = 50,
	CAP_REVOKED = 51,
	WRONG_OBJECT_TYPE = 52,
	INSUFFICIENT_RIGHTS = 53,
	MSGQUEUE_EMPTY = 60,
	MSGQUEUE_FULL = 61,
	MEMDB_NOT_OWNER = 111,
	MAPPINGS_FULL = 120,
	EXISTING_MAPPING = 200,
};

enum { ACCESS_X = 1, ACCESS_W = 2, ACCESS_R = 4, ACCESS_RWX = 7 };

#define MEMTYPE_NORMAL_WB	0xf

/*
 * Guest addresses of the public Gunyah have 36 bits. An access to the first GiB
 * is MMIO.
 */
#define GUEST_MMIO_END		(1UL << 30)
#define GUEST_END		(1UL << 36)

#define VMID_HOST		3
#define VMID_FIRST		0x80
#define MAX_VMS			64
#define MAX_PUBLIC_VMS		63

/* The interrupted context, as entry.S saves it. */
struct regs {
	u64 x[31];
	u64 pc;
	u64 pstate;
};

/*
 * All code runs under this lock, except the assembly and the set-up of the MMU.
 */
void lock(void);
void unlock(void);

/* entry.S */
u64 smc(u64 x0, u64 x1, u64 x2, u64 x3);
void secondary_entry(void);
extern char image_end[], vectors[];

/* boot.c */
void *alloc_page(void);
void free_page(void *page);
u64 nr_free_pages(void);
/* Is the Resource Manager the public one, to the letter? */
bool rm_is_public(void);

/* trap.c */
void set_host_traps(void);
/*
 * Let the interrupted context take an external abort, as if the bus had refused
 * the access.
 */
void inject_abort(struct regs *regs, u64 esr, u64 far);
/* ... or an exception for an undefined instruction. */
void inject_undefined(struct regs *regs);

/* psci.c */
void handle_psci(struct regs *regs);
bool is_psci(u64 function);

/*
 * host.c: the intermediate physical address of the page at @va, in the context
 * that was interrupted; NO_PAGE if its own tables forbid the access.
 */
u64 stage1_page(u64 va, u8 access);
#define NO_PAGE			(~0UL)
/* The physical address of @va for its owner, of whom @data tells; 0: no access */
typedef u64 (*translate_fn)(const void *data, u64 va, u8 access);
/* Copy to (ACCESS_W) or from the pages at @va. False: there is no access. */
bool copy_pages(translate_fn translate, const void *data, void *mine, u64 va,
		u64 size, u8 access);
/* Access buffers of the host by its virtual addresses. ADDR_INVALID or OK */
int copy_from_host(void *to, u64 va, u64 size);
int copy_to_host(u64 va, const void *from, u64 size);
void raise_spi(u32 spi);
u64 now_us(void);

/* lib.c */
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
/* Is @word one of the words of @s? */
bool has_word(const char *s, const char *word);
/* Print a line of text and numbers, and stop the machine. */
void __attribute__((noreturn)) fatal(const char *text, u64 a, u64 b, u64 c);

#endif /* _EL2_H */
