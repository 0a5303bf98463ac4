// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/numa.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/numa_mode.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"

namespace gmem::kvm {
namespace {

// The type from which the system calls build node masks.
using Word = unsigned long;  // NOLINT(google-runtime-int)

constexpr int kMaxNodes = 1024;
constexpr size_t kBitsPerWord = sizeof(Word) * CHAR_BIT;

// A policy in the form that the system calls take.
struct KernelPolicy {
  int mode = MPOL_DEFAULT;
  std::array<Word, kMaxNodes / kBitsPerWord> nodes = {};

  friend bool operator==(const KernelPolicy& a, const KernelPolicy& b) = default;
};

absl::StatusOr<KernelPolicy> ToKernel(const NumaPolicy& policy) {
  KernelPolicy result;
  result.mode = internal::KernelMode(policy.mode);
  const bool wants_none = policy.mode == NumaMode::kDefault;
  if (policy.nodes.empty() != wants_none ||
      (policy.mode == NumaMode::kPreferred && policy.nodes.size() != 1)) {
    return internal::CheckError(
        EINVAL,
        absl::StrCat("a NUMA policy of ", policy.nodes.size(), " nodes: kDefault takes none, ",
                     "kPreferred takes one, the other modes at least one"));
  }
  for (const int node : policy.nodes) {
    if (node < 0 || node >= kMaxNodes) {
      return internal::CheckError(
          EINVAL, absl::StrCat("NUMA node ", node, " is out of range: use 0 to ", kMaxNodes - 1));
    }
    result.nodes[static_cast<size_t>(node) / kBitsPerWord] |=
        Word{1} << (static_cast<size_t>(node) % kBitsPerWord);
  }
  return result;
}

// The kernel reads one bit less than this number says.
constexpr Word kMaxNodeArgument = kMaxNodes + 1;

int BindOnce(const Mapping& mapping, const KernelPolicy& policy) {
  const auto result = syscall(SYS_mbind, mapping.data(), mapping.size(), policy.mode,
                              policy.nodes.data(), kMaxNodeArgument, 0);
  return result == 0 ? 0 : errno;
}

// A mapping starts with the default policy. mbind() ignores the file if the mapping already has the
// requested policy, so set another policy first.
int Bind(const Mapping& mapping, const KernelPolicy& policy) {
  if (policy.mode == MPOL_DEFAULT) {
    if (const int error = BindOnce(mapping, {.mode = MPOL_LOCAL}); error != 0) return error;
  }
  return BindOnce(mapping, policy);
}

// The kernel silently drops nodes that it can't use and takes the rest of the set.
absl::Status CheckNodes(const NumaPolicy& policy) {
  KernelPolicy allowed;
  if (policy.nodes.empty()) return absl::OkStatus();
  if (syscall(SYS_get_mempolicy, nullptr, allowed.nodes.data(), kMaxNodeArgument, nullptr,
              MPOL_F_MEMS_ALLOWED) != 0) {
    return internal::ErrnoError(errno == ENOSYS ? EOPNOTSUPP : errno,
                                "can't ask for the NUMA nodes of this host");
  }
  for (const int node : policy.nodes) {
    const auto bit = static_cast<size_t>(node);
    if ((allowed.nodes[bit / kBitsPerWord] >> (bit % kBitsPerWord) & 1) != 0) continue;
    return internal::CheckError(
        EINVAL, absl::StrCat("NUMA node ", node,
                             " doesn't exist, has no memory, or this process may not use it"));
  }
  return absl::OkStatus();
}

absl::StatusOr<KernelPolicy> Get(const Mapping& mapping) {
  KernelPolicy policy;
  if (syscall(SYS_get_mempolicy, &policy.mode, policy.nodes.data(), kMaxNodeArgument,
              mapping.data(), MPOL_F_ADDR) != 0) {
    return internal::ErrnoError(errno, "can't ask for the NUMA policy of a file");
  }
  return policy;
}

}  // namespace

absl::Status SetNumaPolicy(int fd, ByteRange range, const NumaPolicy& policy) {
  GMEM_ASSIGN_OR_RETURN(const KernelPolicy wanted, ToKernel(policy));
  if (!IsAligned(range.size, HostPageSize())) {
    return internal::CheckError(
        EINVAL,
        absl::StrCat("a NUMA policy needs a range of whole pages, not ", ToString(range.size)));
  }
  GMEM_RETURN_IF_ERROR(CheckNodes(policy));
  // Set the policy through one mapping, and read it through another. If the file stores no policy,
  // only the first mapping has it.
  GMEM_ASSIGN_OR_RETURN(const Mapping setter,
                        Mapping::OfFile(fd, {.offset = range.start, .size = range.size}));
  GMEM_ASSIGN_OR_RETURN(const Mapping witness,
                        Mapping::OfFile(fd, {.offset = range.start, .size = HostPageSize()}));
  if (const int error = Bind(setter, wanted); error != 0) {
    return internal::ErrnoError(
        error == ENOSYS ? EOPNOTSUPP : error,
        absl::StrCat("can't set the NUMA policy to nodes {", absl::StrJoin(policy.nodes, ", "), "}",
                     error == ENOSYS ? ", the kernel has no NUMA" : ""));
  }
  GMEM_ASSIGN_OR_RETURN(const KernelPolicy seen, Get(witness));
  if (seen == wanted) return absl::OkStatus();
  return internal::CheckError(
      EOPNOTSUPP, absl::StrCat("the file of descriptor ", fd,
                               " keeps no NUMA policy: guest_memfd does from Linux 6.19 on"));
}

}  // namespace gmem::kvm
