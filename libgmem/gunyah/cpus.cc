// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gunyah/cpus.h"

#include <libfdt.h>

#include <cerrno>
#include <cstdint>
#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gunyah/fdt.h"

namespace gmem::gunyah_internal {
namespace {

using internal::CheckError;

using Tree = absl::Span<const uint8_t>;

constexpr int kRoot = 0;

absl::Status ForEachCpu(Tree tree, int cpus,
                        absl::FunctionRef<absl::Status(int, absl::string_view)> visit) {
  int cpu = 0;
  fdt_for_each_subnode(cpu, tree.data(), cpus) {
    if (GetText(tree, cpu, "device_type") != "cpu") continue;
    const absl::string_view status = GetText(tree, cpu, "status").value_or("");
    if (status == "fail" || absl::StartsWith(status, "fail-")) continue;
    GMEM_RETURN_IF_ERROR(visit(cpu, status));
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<int> FindConfig(Tree tree) {
  const auto config = FindChild(tree, kRoot, "gunyah-vm-config");
  return config ? config : FindChild(tree, kRoot, "qcom,vm-config");
}

uint32_t CountCpus(Tree tree, int cpus) {
  uint32_t count = 0;
  ForEachCpu(tree, cpus, [&](int, absl::string_view) {
    count++;
    return absl::OkStatus();
  }).IgnoreError();
  return count;
}

absl::Status CheckCpus(Tree tree, int cpus) {
  const auto usual_method = GetText(tree, cpus, "enable-method");
  uint32_t nr_started = 0;
  GMEM_RETURN_IF_ERROR(ForEachCpu(tree, cpus, [&](int cpu, absl::string_view status) {
    // Without a status, the first CPU starts with the VM, and the others don't.
    if (status == "okay" || (status.empty() && nr_started == 0)) {
      nr_started++;
      return absl::OkStatus();
    }
    if (!status.empty() && status != "disabled") {
      return CheckError(EINVAL, absl::StrCat(PathOf(tree, cpu), " has status \"", Printable(status),
                                             "\": Gunyah knows okay, disabled and fail"));
    }
    const auto own_method = GetText(tree, cpu, "enable-method");
    const absl::string_view method = (own_method ? own_method : usual_method).value_or("");
    if (method == "psci" || method == "qcom,gunyah-hvc") return absl::OkStatus();
    return CheckError(EINVAL, absl::StrCat(PathOf(tree, cpu), " has enable-method \"",
                                           Printable(method), "\": set it to \"psci\""));
  }));
  if (nr_started > 0) return absl::OkStatus();
  return CheckError(EINVAL, absl::StrCat(PathOf(tree, cpus),
                                         " has no CPU that starts with the VM: add a node with "
                                         "device_type \"cpu\""));
}

}  // namespace gmem::gunyah_internal
