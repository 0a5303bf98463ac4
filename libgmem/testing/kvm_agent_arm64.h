/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The agent on arm64: code for EL1 with the MMU off. Its port is an address far above all memory.
 * KVM runs it without an interrupt controller, because one would change nothing. Only kvm_agent.h
 * includes this.
 */
#ifndef GMEM_TESTING_KVM_AGENT_ARM64_H_
#define GMEM_TESTING_KVM_AGENT_ARM64_H_

#define KVM_AGENT_PORT (1ULL << 36)

/* clang-format off */
static const uint32_t kvm_agent_code[] = {
  /* 00 start: */ 0xb9400381,  /* ldr w1, [x28] */
  /* 04 */ 0xb9400380,  /* ldr w0, [x28] */
  /* 08 */ 0x7100043f,  /* cmp w1, #1 */
  /* 0c */ 0x54000140,  /* b.eq write */
  /* 10 */ 0x7100083f,  /* cmp w1, #2 */
  /* 14 */ 0x54000160,  /* b.eq spin */
  /* 18 */ 0x71000c3f,  /* cmp w1, #3 */
  /* 1c */ 0x540001e0,  /* b.eq exec */
  /* 20 */ 0x7100103f,  /* cmp w1, #4 */
  /* 24 */ 0x540001c0,  /* b.eq touch */
  /* 28 */ 0x39400002,  /* ldrb w2, [x0] */
  /* 2c report: */ 0x39000382,  /* strb w2, [x28] */
  /* 30 */ 0x17fffff4,  /* b start */
  /* 34 write: */ 0xb9400382,  /* ldr w2, [x28] */
  /* 38 */ 0x39000002,  /* strb w2, [x0] */
  /* 3c */ 0x17fffffc,  /* b report */
  /* 40 spin: */ 0xb9400003,  /* ldr w3, [x0] */
  /* 44 */ 0x11000463,  /* add w3, w3, #1 */
  /* 48 */ 0xb9000003,  /* str w3, [x0] */
  /* 4c */ 0xb9400404,  /* ldr w4, [x0, #4] */
  /* 50 */ 0x34ffff84,  /* cbz w4, spin */
  /* 54 */ 0x17fffff6,  /* b report */
  /* 58 exec: */ 0xd61f0000,  /* br x0 */
  /* 5c touch: */ 0xb9400385,  /* ldr w5, [x28] */
  /* 60 */ 0xb9400386,  /* ldr w6, [x28] */
  /* 64 */ 0x52800022,  /* mov w2, #1 */
  /* 68 next: */ 0x39000002,  /* strb w2, [x0] */
  /* 6c */ 0x8b060000,  /* add x0, x0, x6 */
  /* 70 */ 0x710004a5,  /* subs w5, w5, #1 */
  /* 74 */ 0x54ffffa1,  /* b.ne next */
  /* 78 */ 0x17ffffed,  /* b report */
};
static const uint32_t kvm_agent_answer[] = {
  0x52800002 | (KVM_AGENT_ANSWER << 5),  /* mov w2, #KVM_AGENT_ANSWER */
  0xd61f03a0,  /* br x29: "report" */
};
/* clang-format on */

static inline int kvm_agent_set_register(struct kvm_agent* agent, uint64_t offset, uint64_t value) {
  struct kvm_one_reg reg;

  reg.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | (offset / sizeof(uint32_t));
  reg.addr = (uintptr_t)&value;
  return ioctl(agent->vcpu, KVM_SET_ONE_REG, &reg) ? -errno : 0;
}

/* KVM ends the access that made it exit when it runs next: then it adds 4 to the PC. */
static inline int kvm_agent_end_access(struct kvm_agent* agent) {
  int err = 0;

  agent->run->immediate_exit = 1;
  if (ioctl(agent->vcpu, KVM_RUN, 0) && errno != EINTR) err = -errno;
  agent->run->immediate_exit = 0;
  return err;
}

static inline int kvm_agent_reset(struct kvm_agent* agent) {
  int err = kvm_agent_end_access(agent);

  if (!err)
    err = kvm_agent_set_register(agent, offsetof(struct kvm_regs, regs.regs[28]), KVM_AGENT_PORT);
  if (!err)
    err =
        kvm_agent_set_register(agent, offsetof(struct kvm_regs, regs.regs[29]), agent->code + 0x2c);
  if (!err) err = kvm_agent_set_register(agent, offsetof(struct kvm_regs, regs.pc), agent->code);
  return err;
}

static inline int kvm_agent_set_up_machine(struct kvm_agent* agent) {
  struct kvm_vcpu_init init;

  if (agent->irqchip) return -EOPNOTSUPP;
  memset(&init, 0, sizeof(init));
  if (ioctl(agent->vm, KVM_ARM_PREFERRED_TARGET, &init)) return -errno;
  return ioctl(agent->vcpu, KVM_ARM_VCPU_INIT, &init) ? -errno : 0;
}

static inline void* kvm_agent_port(struct kvm_agent* agent, bool* is_report) {
  if (agent->run->exit_reason != KVM_EXIT_MMIO || agent->run->mmio.phys_addr != KVM_AGENT_PORT)
    return NULL;
  *is_report = agent->run->mmio.is_write;
  return agent->run->mmio.data;
}

#endif /* GMEM_TESTING_KVM_AGENT_ARM64_H_ */
