/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A KVM guest that does as it is told: read, write or run code at an address.
 *
 * It runs 32-bit code without paging, so guest addresses up to 4 GiB are what they
 * are. Its few instructions ask for a command with IN and report with OUT; the
 * functions below answer. One memslot at guest address 0 is all its memory.
 *
 * C and C++. Not thread-safe: one thread at a time may use an agent.
 */
#ifndef GMEM_TOOLS_KVM_AGENT_H_
#define GMEM_TOOLS_KVM_AGENT_H_

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum kvm_agent_command {
  KVM_AGENT_READ = 0,
  KVM_AGENT_WRITE = 1,
  /* Count up the 32-bit word at the address until the word behind it isn't 0. */
  KVM_AGENT_SPIN = 2,
  /* Jump there; code that sets AL comes back with kvm_agent_return. */
  KVM_AGENT_EXEC = 3,
  /* Write a byte to the address and to others behind it, a stride apart. */
  KVM_AGENT_TOUCH = 4,
};

struct kvm_agent {
  int kvm, vm, vcpu;
  struct kvm_run* run;
  size_t run_size;
  uint32_t code; /* guest address of the agent's code */
  bool irqchip;
  uint32_t exit_reason; /* of the last KVM_RUN that wasn't the agent's own I/O */
};

/* clang-format off */
static const uint8_t kvm_agent_code[] = {
  /* 00 start: */ 0x66, 0xba, 0x10, 0x00,  /* mov dx, 0x10 */
  /* 04 */ 0xed,  /* in eax, dx: command */
  /* 05 */ 0x89, 0xc3,  /* mov ebx, eax */
  /* 07 */ 0xed,  /* in eax, dx: address */
  /* 08 */ 0x89, 0xc7,  /* mov edi, eax */
  /* 0a */ 0x83, 0xfb, 0x01,  /* cmp ebx, 1 */
  /* 0d */ 0x74, 0x18,  /* je write */
  /* 0f */ 0x83, 0xfb, 0x02,  /* cmp ebx, 2 */
  /* 12 */ 0x74, 0x18,  /* je spin */
  /* 14 */ 0x83, 0xfb, 0x03,  /* cmp ebx, 3 */
  /* 17 */ 0x74, 0x1d,  /* je exec */
  /* 19 */ 0x83, 0xfb, 0x04,  /* cmp ebx, 4 */
  /* 1c */ 0x74, 0x1a,  /* je touch */
  /* 1e */ 0x8a, 0x07,  /* mov al, [edi] */
  /* 20 report: */ 0x66, 0xba, 0x12, 0x00,  /* mov dx, 0x12 */
  /* 24 */ 0xee,  /* out dx, al */
  /* 25 */ 0xeb, 0xd9,  /* jmp start */
  /* 27 write: */ 0xed,  /* in eax, dx: value */
  /* 28 */ 0x88, 0x07,  /* mov [edi], al */
  /* 2a */ 0xeb, 0xf4,  /* jmp report */
  /* 2c spin: */ 0xff, 0x07,  /* inc dword [edi] */
  /* 2e */ 0x83, 0x7f, 0x04, 0x00,  /* cmp dword [edi + 4], 0 */
  /* 32 */ 0x74, 0xf8,  /* je spin */
  /* 34 */ 0xeb, 0xea,  /* jmp report */
  /* 36 exec: */ 0xff, 0xe7,  /* jmp edi */
  /* 38 touch: */ 0xed,  /* in eax, dx: how many */
  /* 39 */ 0x89, 0xc1,  /* mov ecx, eax */
  /* 3b */ 0xed,  /* in eax, dx: stride */
  /* 3c */ 0x89, 0xc6,  /* mov esi, eax */
  /* 3e next: */ 0xc6, 0x07, 0x01,  /* mov byte [edi], 1 */
  /* 41 */ 0x01, 0xf7,  /* add edi, esi */
  /* 43 */ 0xe2, 0xf9,  /* loop next */
  /* 45 */ 0xeb, 0xd9,  /* jmp report */
};
/* Code to be run ends with this: EBP holds the address of "report". */
static const uint8_t kvm_agent_return[] = {0xff, 0xe5}; /* jmp ebp */
/* clang-format on */

#define KVM_AGENT_REPORT 0x20

static inline void kvm_agent_close(struct kvm_agent* agent) {
  if (agent->run) munmap(agent->run, agent->run_size);
  if (agent->vcpu >= 0) close(agent->vcpu);
  if (agent->vm >= 0) close(agent->vm);
  if (agent->kvm >= 0) close(agent->kvm);
}

/* Make the vCPU begin anew at the agent's first instruction. */
static inline int kvm_agent_reset(struct kvm_agent* agent) {
  struct kvm_regs regs;

  memset(&regs, 0, sizeof(regs));
  regs.rip = agent->code;
  regs.rbp = agent->code + KVM_AGENT_REPORT;
  /* With an interrupt controller, be interruptible, as real guests are. */
  regs.rflags = agent->irqchip ? 0x202 : 0x2;
  return ioctl(agent->vcpu, KVM_SET_REGS, &regs) ? -errno : 0;
}

static inline int kvm_agent_set_slot(struct kvm_agent* agent, uint32_t slot, uint64_t guest_addr,
                                     uint64_t size, void* memory) {
  struct kvm_userspace_memory_region region;

  memset(&region, 0, sizeof(region));
  region.slot = slot;
  region.guest_phys_addr = guest_addr;
  region.memory_size = size;
  region.userspace_addr = (uintptr_t)memory;
  return ioctl(agent->vm, KVM_SET_USER_MEMORY_REGION, &region) ? -errno : 0;
}

static inline int kvm_agent_set_up_vcpu(struct kvm_agent* agent) {
  struct kvm_segment* segments[6];
  struct kvm_sregs sregs;
  int size = ioctl(agent->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  int i;

  if (size < 0) return -errno;
  agent->run_size = (size_t)size;
  void* run = mmap(NULL, agent->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, agent->vcpu, 0);
  if (run == MAP_FAILED) return -errno;
  agent->run = (struct kvm_run*)run;

  if (ioctl(agent->vcpu, KVM_GET_SREGS, &sregs)) return -errno;
  segments[0] = &sregs.cs;
  segments[1] = &sregs.ds;
  segments[2] = &sregs.es;
  segments[3] = &sregs.fs;
  segments[4] = &sregs.gs;
  segments[5] = &sregs.ss;
  for (i = 0; i < 6; i++) {
    segments[i]->base = 0;
    segments[i]->limit = 0xffffffff;
    segments[i]->selector = i ? 0x10 : 0x08;
    segments[i]->type = i ? 3 : 11; /* data: read, write; code: read, execute */
    segments[i]->present = 1;
    segments[i]->dpl = 0;
    segments[i]->db = 1;
    segments[i]->s = 1;
    segments[i]->l = 0;
    segments[i]->g = 1;
  }
  sregs.cr0 |= 1; /* protected mode */
  if (ioctl(agent->vcpu, KVM_SET_SREGS, &sregs)) return -errno;
  return kvm_agent_reset(agent);
}

/*
 * Create a guest with @size bytes at @memory as its memory from address 0. The
 * caller puts kvm_agent_code at guest address @code before the first command.
 * 0 or -errno; kvm_agent_close() in either case.
 */
static inline int kvm_agent_open(struct kvm_agent* agent, void* memory, uint64_t size,
                                 uint32_t code, bool irqchip) {
  int err;

  memset(agent, 0, sizeof(*agent));
  agent->vm = agent->vcpu = -1;
  agent->code = code;
  agent->irqchip = irqchip;
  agent->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (agent->kvm < 0) return -errno;
  agent->vm = ioctl(agent->kvm, KVM_CREATE_VM, 0);
  if (agent->vm < 0) return -errno;
  if (irqchip && ioctl(agent->vm, KVM_CREATE_IRQCHIP, 0)) return -errno;
  err = kvm_agent_set_slot(agent, 0, 0, size, memory);
  if (err) return err;
  agent->vcpu = ioctl(agent->vm, KVM_CREATE_VCPU, 0);
  if (agent->vcpu < 0) return -errno;
  return kvm_agent_set_up_vcpu(agent);
}

/*
 * Run until the guest reports; the answers to its IN instructions come from
 * @words. -EFAULT: it touched what isn't there; -EIO: another exit, see
 * exit_reason; else what KVM_RUN says.
 */
static inline int kvm_agent_run(struct kvm_agent* agent, const uint32_t* words, int nr_words,
                                uint8_t* report) {
  int next = 0;

  for (;;) {
    if (ioctl(agent->vcpu, KVM_RUN, 0)) {
      agent->exit_reason = agent->run->exit_reason;
      return -errno;
    }
    agent->exit_reason = agent->run->exit_reason;
    if (agent->exit_reason != KVM_EXIT_IO) return -EIO;

    uint8_t* data = (uint8_t*)agent->run + agent->run->io.data_offset;
    if (agent->run->io.direction == KVM_EXIT_IO_OUT) {
      if (report) *report = *data;
      return 0;
    }
    if (next == nr_words) return -EPROTO;
    memcpy(data, &words[next++], sizeof(words[0]));
  }
}

/* Go on after an error, at the instruction that met it. */
static inline int kvm_agent_resume(struct kvm_agent* agent, uint8_t* report) {
  return kvm_agent_run(agent, NULL, 0, report);
}

static inline int kvm_agent_command(struct kvm_agent* agent, enum kvm_agent_command command,
                                    uint32_t addr, uint32_t value, uint8_t* report) {
  const uint32_t words[3] = {(uint32_t)command, addr, value};

  return kvm_agent_run(agent, words, 3, report);
}

static inline int kvm_agent_read(struct kvm_agent* agent, uint32_t addr, uint8_t* value) {
  return kvm_agent_command(agent, KVM_AGENT_READ, addr, 0, value);
}

static inline int kvm_agent_write(struct kvm_agent* agent, uint32_t addr, uint8_t value) {
  return kvm_agent_command(agent, KVM_AGENT_WRITE, addr, value, NULL);
}

static inline int kvm_agent_touch(struct kvm_agent* agent, uint32_t addr, uint32_t count,
                                  uint32_t stride) {
  const uint32_t words[4] = {KVM_AGENT_TOUCH, addr, count, stride};

  return kvm_agent_run(agent, words, 4, NULL);
}

#endif /* GMEM_TOOLS_KVM_AGENT_H_ */
