// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/memory_fault.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmem/types.h"
#include "kvm/abi.h"

namespace gmem::kvm {
namespace {

// kvm_run::memory_fault, which older headers lack.
struct Payload {
  uint64_t flags;
  uint64_t gpa;
  uint64_t size;
};

// The data of every exit begins at the same place as that of KVM_EXIT_UNKNOWN.
constexpr size_t kPayloadOffset = offsetof(::kvm_run, hw);

}  // namespace

std::optional<MemoryFault> DecodeMemoryFault(const kvm_run& run, int run_errno) {
  if (run_errno != EFAULT && run_errno != EHWPOISON) return std::nullopt;
  if (run.exit_reason != KVM_EXIT_MEMORY_FAULT) return std::nullopt;

  Payload payload = {};
  std::memcpy(&payload, reinterpret_cast<const uint8_t*>(&run) + kPayloadOffset, sizeof(payload));
  return MemoryFault{
      .range = {GuestAddress(payload.gpa), ByteSize(payload.size)},
      .is_private = (payload.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE) != 0,
      .is_poisoned = run_errno == EHWPOISON,
      .unknown_flags = payload.flags & ~uint64_t{KVM_MEMORY_EXIT_FLAG_PRIVATE},
  };
}

std::string ToString(const MemoryFault& fault) {
  return absl::StrCat(fault.is_private ? "private" : "shared", " access to ", ToString(fault.range),
                      fault.is_poisoned ? ", a broken page" : "");
}

}  // namespace gmem::kvm
