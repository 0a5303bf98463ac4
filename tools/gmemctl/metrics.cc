// SPDX-License-Identifier: MIT OR Apache-2.0
#include "metrics.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/text.h"
#include "gmem/device.h"
#include "gmem/monitor.h"
#include "output.h"

namespace gmemctl {
namespace {

// Escapes the value of a label, a printable text, for both formats.
std::string Label(absl::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\' || c == '"') result += '\\';
    result += c;
  }
  return result;
}

class Writer {
 public:
  explicit Writer(MetricsFormat format) : format_(format) {}

  // These begin a metric; its samples follow.
  void Gauge(absl::string_view name, absl::string_view help) { Begin(name, name, "gauge", help); }
  void Counter(absl::string_view name, absl::string_view help) {
    const std::string sample = absl::StrCat(name, "_total");
    Begin(format_ == MetricsFormat::kOpenMetrics ? name : sample, sample, "counter", help);
  }

  void Sample(uint64_t value, absl::string_view labels = "") {
    absl::StrAppend(&text_, sample_, labels, " ", value, "\n");
  }

  std::string Finish() && {
    if (format_ == MetricsFormat::kOpenMetrics) absl::StrAppend(&text_, "# EOF\n");
    return std::move(text_);
  }

 private:
  void Begin(absl::string_view name, absl::string_view sample, absl::string_view type,
             absl::string_view help) {
    absl::StrAppend(&text_, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
    sample_.assign(sample.data(), sample.size());
  }

  const MetricsFormat format_;
  std::string text_;
  std::string sample_;
};

}  // namespace

std::string MetricsText(MetricsFormat format, const gmem::DeviceStats& stats,
                        const std::vector<gmem::VmState>& vms) {
  Writer out(format);
  out.Gauge("gmem_vms", "VMs that exist.");
  out.Sample(stats.vms);
  out.Gauge("gmem_guestmems", "Guestmems that exist.");
  out.Sample(stats.guest_memories);
  out.Gauge("gmem_bindings", "Bindings that exist.");
  out.Sample(stats.bindings);
  out.Gauge("gmem_lent_pages", "Pages lent now.");
  out.Sample(stats.lent_pages);
  out.Gauge("gmem_leaked_pages", "Pages out of use until the host reboots.");
  out.Sample(stats.leaked_pages);
  out.Counter("gmem_lends", "Pages lent.");
  out.Sample(stats.lends);
  out.Counter("gmem_reclaims", "Pages taken back.");
  out.Sample(stats.reclaims);
  out.Counter("gmem_refused", "Guest accesses refused.");
  out.Sample(stats.refused);

  const auto each_vm = [&](uint64_t gmem::VmState::*member) {
    for (const gmem::VmState& vm : vms) {
      out.Sample(
          vm.*member,
          absl::StrCat("{vm=\"", vm.id, "\",name=\"", Label(tools::Printable(vm.name)), "\",pid=\"",
                       vm.pid, "\",comm=\"", Label(tools::Printable(vm.command)), "\"}"));
    }
  };
  out.Gauge("gmem_vm_bindings", "Bindings of the VM.");
  each_vm(&gmem::VmState::bindings);
  out.Gauge("gmem_vm_lent_pages", "Pages lent to the VM now.");
  each_vm(&gmem::VmState::lent_pages);
  out.Counter("gmem_vm_refused", "Accesses of the VM refused.");
  each_vm(&gmem::VmState::refused);
  return std::move(out).Finish();
}

}  // namespace gmemctl
