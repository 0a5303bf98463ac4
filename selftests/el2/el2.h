/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An EL2 monitor for QEMU's virt machine. It runs Linux at EL1 as the host, takes
 * pages away from it by stage 2, and speaks as much of Gunyah's ABI as the tests of
 * the gunyah provider need. A test program, not a hypervisor: one big lock, one
 * vCPU per VM, the interrupt controller and the timers stay the host's.
 *
 * Where it is narrower than Gunyah, so that a driver that strays is caught: a page has
 * one mapping, in the VM of its extent; flags, types and extents must go together as
 * Linux uses them; user's and kernel's access are one; a VM's capabilities end with
 * its reset, its number not before its memory; parcels can't be reclaimed from a VM that
 * has run until it is reset. Doorbells, guests' own calls, accepting and donating by
 * RPC, and vmmio ranges are not there.
 *
 * Who calls whom: entry.S -> trap.c -> hypercall.c (memory.c, msgqueue.c, control.c) and
 * vcpu.c; the message queue feeds rm.c (rm_vm.c, rm_memory.c), which uses vm.c and
 * parcel.c. memdb.c is the ownership database; stage-2 tables are derived from it.
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

/* What of RAM is the monitor's, where Linux begins, and where the image is linked. */
#define MONITOR_BASE		0x40000000UL
#define HOST_RAM_BASE		0x42000000UL

/* QEMU's virt machine. */
#define UART_BASE		0x09000000UL
#define GICD_BASE		0x08000000UL
/* SPIs that no device of the machine uses. */
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

/* Gunyah's errors of hypercalls. */
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

#define VMID_HOST		3
#define VMID_FIRST		0x80
#define MAX_VMS			64

/* What entry.S saves of the interrupted context, in its order. */
struct regs {
	u64 x[31];
	u64 pc;
	u64 pstate;
};

/* Everything but the assembly and the MMU's set-up runs under this. */
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
bool platform_extents(void);

/* trap.c */
void set_host_traps(void);
/* Make the interrupted context take an external abort, as if the bus had refused. */
void inject_abort(struct regs *regs, u64 esr, u64 far);

/* psci.c */
void handle_psci(struct regs *regs);
bool is_psci(u64 function);

/* host.c: buffers of the host, by its own virtual addresses; ADDR_INVALID or OK */
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
/* Print a line of text and numbers, end the machine. */
void __attribute__((noreturn)) fatal(const char *text, u64 a, u64 b, u64 c);

#endif /* _EL2_H */
