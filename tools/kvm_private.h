/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's calls for private memory, for systems whose headers are older than Linux
 * 6.8, where they came in. Numbers and layouts are KVM's ABI.
 */
#ifndef GMEM_TOOLS_KVM_PRIVATE_H_
#define GMEM_TOOLS_KVM_PRIVATE_H_

#include <linux/kvm.h>

#ifndef KVM_CREATE_GUEST_MEMFD

#define KVM_X86_SW_PROTECTED_VM 1
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
#define KVM_MEMORY_ATTRIBUTE_PRIVATE (1ULL << 3)

struct kvm_userspace_memory_region2 {
  __u32 slot;
  __u32 flags;
  __u64 guest_phys_addr;
  __u64 memory_size;
  __u64 userspace_addr;
  __u64 guest_memfd_offset;
  __u32 guest_memfd;
  __u32 pad1;
  __u64 pad2[14];
};

struct kvm_memory_attributes {
  __u64 address;
  __u64 size;
  __u64 attributes;
  __u64 flags;
};

struct kvm_create_guest_memfd {
  __u64 size;
  __u64 flags;
  __u64 reserved[6];
};

#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#define KVM_SET_MEMORY_ATTRIBUTES _IOW(KVMIO, 0xd2, struct kvm_memory_attributes)
#define KVM_CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct kvm_create_guest_memfd)

#endif

#endif /* GMEM_TOOLS_KVM_PRIVATE_H_ */
