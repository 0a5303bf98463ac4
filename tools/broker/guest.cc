// SPDX-License-Identifier: Apache-2.0
#include "guest.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/monitor.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gmem/window_descriptor.h"

namespace broker {
namespace {

std::string Access(bool read, bool write, bool execute) {
  return {read ? 'r' : '-', write ? 'w' : '-', execute ? 'x' : '-'};
}

}  // namespace

absl::StatusOr<Guest> Guest::Create(const Options& options) {
  const absl::StatusOr<gmem::Device> device = gmem::Device::Open();
  if (!device.ok()) return device.status();
  absl::StatusOr<gmem::GuestMemory> memory = device->CreateGuestMemory(
      options.size, {.huge_pages = options.huge_pages, .name = options.name});
  if (!memory.ok()) return memory.status();
  absl::StatusOr<gmem::Vm> vm = device->CreateVm({.policy = options.policy,
                                                  .windows = gmem::WindowKind::kLive,
                                                  .huge_pages = options.huge_pages,
                                                  .name = options.name});
  if (!vm.ok()) return vm.status();
  absl::StatusOr<gmem::WindowDescriptor> window = vm->OpenWindow(
      {.size = options.size}, {.allow_discard = options.allow_discard, .name = options.name});
  if (!window.ok()) return window.status();
  Guest guest(*std::move(memory), *std::move(vm), (*std::move(window)).Release());
  if (absl::Status status = guest.Bind({.size = options.size}, gmem::MapMode::kLend, true);
      !status.ok()) {
    return status;
  }
  return guest;
}

absl::Status Guest::Bind(gmem::GuestRange range, gmem::MapMode mode, bool writable) const {
  return vm_.Map(memory_, {.guest_address = range.start,
                           .offset = gmem::ByteOffset(range.start.value()),
                           .size = range.size,
                           .mode = mode,
                           .write = writable});
}

absl::StatusOr<uint64_t> Guest::Unbind(gmem::GuestRange range) const { return vm_.Unmap(range); }

absl::Status Guest::Trim(gmem::GuestRange range) const {
  return memory_.PunchHole({gmem::ByteOffset(range.start.value()), range.size});
}

absl::StatusOr<uint64_t> Guest::Reclaim(gmem::GuestRange range) const {
  uint64_t pages = 0;
  if (absl::Status status = vm_.Reclaim(range, &pages); !status.ok()) {
    return absl::Status(status.code(),
                        absl::StrCat(status.message(), ", after ", pages, " pages came back"));
  }
  return pages;
}

absl::StatusOr<std::string> Guest::Describe() const {
  const absl::StatusOr<gmem::PageCounts> pages = memory_.Query();
  if (!pages.ok()) return pages.status();
  std::string text =
      absl::StrFormat("pages: %d absent, %d host, %d lent, %d shared, %d leaked\n", pages->absent,
                      pages->host, pages->lent, pages->shared, pages->leaked);
  absl::Status status =
      vm_.ForEachBinding({.size = memory_.size()}, [&text](const gmem::Binding& binding) {
        absl::StrAppend(&text, "bound: ", gmem::ToString(binding.range),
                        binding.mode == gmem::MapMode::kShare ? " share " : " lend ",
                        Access(binding.read, binding.write, binding.execute), "\n");
        return true;
      });
  if (!status.ok()) return status;
  const absl::StatusOr<gmem::FaultReport> report = vm_.Faults();
  if (!report.ok()) return report.status();
  for (const gmem::Fault& fault : report->faults) {
    absl::StrAppend(&text, "refused: ", gmem::ToString(fault.page), " ",
                    Access(fault.read, fault.write, fault.execute), " ",
                    gmem::ToString(fault.reason), ", ", fault.count, " times\n");
  }
  return text;
}

}  // namespace broker
