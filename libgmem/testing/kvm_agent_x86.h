/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The agent on x86: 32-bit code, which reads the port with IN and writes it with OUT. Only
 * kvm_agent.h includes this.
 */
#ifndef GMEM_TESTING_KVM_AGENT_X86_H_
#define GMEM_TESTING_KVM_AGENT_X86_H_

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
static const uint8_t kvm_agent_answer[] = {
  0xb0, KVM_AGENT_ANSWER,  /* mov al, KVM_AGENT_ANSWER */
  0xff, 0xe5,  /* jmp ebp: "report" */
};
/* clang-format on */

static inline int kvm_agent_reset(struct kvm_agent* agent) {
  struct kvm_regs regs;

  memset(&regs, 0, sizeof(regs));
  regs.rip = agent->code;
  regs.rbp = agent->code + 0x20;
  /* With an interrupt controller, let interrupts come, as real guests do. */
  regs.rflags = agent->irqchip ? 0x202 : 0x2;
  return ioctl(agent->vcpu, KVM_SET_REGS, &regs) ? -errno : 0;
}

static inline int kvm_agent_set_up_machine(struct kvm_agent* agent) {
  struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
  struct kvm_segment* segments[6];
  struct kvm_sregs sregs;
  int i;

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
  /* With an interrupt controller, only the first vCPU runs by itself. */
  return agent->irqchip && ioctl(agent->vcpu, KVM_SET_MP_STATE, &runnable) ? -errno : 0;
}

static inline void* kvm_agent_port(struct kvm_agent* agent, bool* is_report) {
  if (agent->run->exit_reason != KVM_EXIT_IO) return NULL;
  *is_report = agent->run->io.direction == KVM_EXIT_IO_OUT;
  return (uint8_t*)agent->run + agent->run->io.data_offset;
}

#endif /* GMEM_TESTING_KVM_AGENT_X86_H_ */
