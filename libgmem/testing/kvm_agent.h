/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A KVM guest that executes commands: read, write or run code at an address.
 *
 * The guest runs without paging, so its addresses, up to 4 GiB, are physical ones. Its few
 * instructions read a command from a port of the machine, and report there; the functions below
 * answer. One memslot at guest address 0 is all its memory.
 *
 * Usable from C and C++. Not thread-safe: only one thread at a time may use an agent.
 */
#ifndef GMEM_TESTING_KVM_AGENT_H_
#define GMEM_TESTING_KVM_AGENT_H_

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
  /* Increment the 32-bit word at the address until the next word isn't 0. */
  KVM_AGENT_SPIN = 2,
  /* Jump to the address. The code returns to the agent with the value to report. */
  KVM_AGENT_EXEC = 3,
  /* Write a byte to the address, and to further addresses, a stride apart. */
  KVM_AGENT_TOUCH = 4,
};

struct kvm_agent {
  int kvm, vm, vcpu;
  struct kvm_run* run;
  size_t run_size;
  uint32_t code; /* guest address of the agent's code */
  bool irqchip;
  uint32_t exit_reason; /* of the last KVM_RUN */
};

/*
 * Each architecture defines:
 * - kvm_agent_code, the agent's code, and kvm_agent_answer, code for KVM_AGENT_EXEC that reports
 *   KVM_AGENT_ANSWER
 * - kvm_agent_reset(): restarts the vCPU at the agent's first instruction
 * - kvm_agent_set_up_machine(): sets up the rest of the machine for agent->vcpu
 * - kvm_agent_port(): returns the place for the answer if the guest reads the port, or the place of
 *   the report if the guest writes it; NULL if the vCPU stopped for another reason
 */
#define KVM_AGENT_ANSWER 0x5a

#if defined(__x86_64__)
#include "kvm_agent_x86.h"
#elif defined(__aarch64__)
#include "kvm_agent_arm64.h"
#endif

static inline void kvm_agent_close(struct kvm_agent* agent) {
  if (agent->run) munmap(agent->run, agent->run_size);
  if (agent->vcpu >= 0) close(agent->vcpu);
  if (agent->vm >= 0) close(agent->vm);
  if (agent->kvm >= 0) close(agent->kvm);
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

/* Sets up agent->vcpu, so that it runs the agent's code. */
static inline int kvm_agent_set_up_vcpu(struct kvm_agent* agent) {
  int size = ioctl(agent->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  int err;

  if (size < 0) return -errno;
  agent->run_size = (size_t)size;
  void* run = mmap(NULL, agent->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, agent->vcpu, 0);
  if (run == MAP_FAILED) return -errno;
  agent->run = (struct kvm_run*)run;
  err = kvm_agent_set_up_machine(agent);
  return err ? err : kvm_agent_reset(agent);
}

/*
 * Creates a guest whose memory from address 0 on is the @size bytes at @memory. Before the first
 * command, the caller copies kvm_agent_code to guest address @code. Returns 0 or -errno; call
 * kvm_agent_close() in either case.
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
 * Adds vCPU number @id, from 1, to the guest of @first. It runs the same code. Returns 0 or -errno;
 * call kvm_agent_close() in either case.
 */
static inline int kvm_agent_add(struct kvm_agent* agent, const struct kvm_agent* first,
                                unsigned int id) {
  *agent = *first;
  agent->run = NULL;
  agent->kvm = dup(first->kvm);
  agent->vm = dup(first->vm);
  agent->vcpu = ioctl(agent->vm, KVM_CREATE_VCPU, id);
  if (agent->vcpu < 0) return -errno;
  return kvm_agent_set_up_vcpu(agent);
}

/*
 * Runs the guest until it reports; the guest's reads of the port get @words, one after the other.
 * Returns -EFAULT if the guest touched memory that isn't there, -EIO for another exit (see
 * exit_reason), -EPROTO if the guest reads more words, else the errno of KVM_RUN.
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
    bool is_report = false;
    void* data = kvm_agent_port(agent, &is_report);
    if (!data) return -EIO;
    if (is_report) {
      if (report) *report = *(uint8_t*)data;
      return 0;
    }
    if (next == nr_words) return -EPROTO;
    memcpy(data, &words[next++], sizeof(words[0]));
  }
}

/* Continues after an error, at the instruction that failed. */
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

#endif /* GMEM_TESTING_KVM_AGENT_H_ */
