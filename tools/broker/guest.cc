// SPDX-License-Identifier: MIT OR Apache-2.0
#include "guest.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/text.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/monitor.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gmem/unique_fd.h"
#include "gmem/window_descriptor.h"
#include "restore.h"

namespace broker {
namespace {

std::string Access(bool read, bool write, bool execute) {
  return {read ? 'r' : '-', write ? 'w' : '-', execute ? 'x' : '-'};
}

absl::Status StillRestoring() {
  return absl::FailedPreconditionError("the memory is still being restored: see status");
}

absl::Status Write(const std::string& path, const gmem::Mapping& memory) {
  const gmem::UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return absl::ErrnoToStatus(errno, absl::StrCat("can't create ", path));
  for (uint64_t done = 0; done < memory.size();) {
    const ssize_t written = write(file.get(), memory.data() + done, memory.size() - done);
    if (written <= 0) return absl::ErrnoToStatus(errno, absl::StrCat("can't write ", path));
    done += static_cast<uint64_t>(written);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Guest> Guest::Create(const Options& options) {
  const absl::StatusOr<gmem::Device> device = gmem::Device::Open();
  if (!device.ok()) return device.status();
  absl::StatusOr<gmem::GuestMemory> memory = device->CreateGuestMemory(
      options.size, {.huge_pages = options.huge_pages, .name = options.name});
  if (!memory.ok()) return memory.status();
  // A VMM that doesn't know waits treats an interruption as an error.
  const auto absent =
      options.restore.empty() ? gmem::AbsentPages::kFail : gmem::AbsentPages::kWait;
  absl::StatusOr<gmem::Vm> vm = device->CreateVm({.policy = options.policy,
                                                  .windows = gmem::WindowKind::kLive,
                                                  .huge_pages = options.huge_pages,
                                                  .name = options.name,
                                                  .absent = absent});
  if (!vm.ok()) return vm.status();
  absl::StatusOr<gmem::WindowDescriptor> window = vm->OpenWindow(
      {.size = options.size}, {.allow_discard = options.allow_discard, .name = options.name});
  if (!window.ok()) return window.status();
  Guest guest(*std::move(memory), *std::move(vm), (*std::move(window)).Release());
  guest.policy_ = options.policy;
  if (!options.restore.empty()) {
    absl::StatusOr<Restore> restore =
        Restore::Open(options.restore, options.size, guest.memory_.page_size());
    if (!restore.ok()) return restore.status();
    guest.restore_ = *std::move(restore);
    guest.prefetch_ = options.prefetch;
    return guest;
  }
  if (absl::Status status = guest.Bind({.size = options.size}, gmem::MapMode::kLend, true);
      !status.ok()) {
    return status;
  }
  return guest;
}

absl::Status Guest::Bind(gmem::GuestRange range, gmem::MapMode mode, bool writable) const {
  if (IsRestoring()) return StillRestoring();
  return vm_.Map(memory_, {.guest_address = range.start,
                           .offset = gmem::ByteOffset(range.start.value()),
                           .size = range.size,
                           .mode = mode,
                           .write = writable});
}

absl::StatusOr<uint64_t> Guest::Unbind(gmem::GuestRange range) {
  if (restore_) {
    // Nobody brings the memory again, so an access must not wait for it.
    if (absl::Status status = vm_.SetAbsent(range, gmem::AbsentPages::kFail); !status.ok()) {
      return status;
    }
    restore_->Skip(range);
  }
  return vm_.Unmap(range);
}

absl::Status Guest::Prefetch() {
  if (!restore_) return absl::FailedPreconditionError("nothing is restored: run with --restore");
  prefetch_ = true;
  return absl::OkStatus();
}

absl::Status Guest::Save(const std::string& path) const {
  if (IsRestoring()) return StillRestoring();
  if (policy_ != gmem::ReclaimPolicy::kAllow) {
    return absl::FailedPreconditionError(
        "save: the policy wipes or denies what the guest has; run with --policy=allow");
  }
  const absl::StatusOr<gmem::Mapping> memory = memory_.Map();
  if (!memory.ok()) return memory.status();
  const std::string part = absl::StrCat(path, ".part");
  absl::Status status = Write(part, *memory);
  if (status.ok() && rename(part.c_str(), path.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, absl::StrCat("can't rename ", part, " to ", path));
  }
  if (!status.ok()) unlink(part.c_str());
  return status;
}

absl::Status Guest::Trim(gmem::GuestRange range) const {
  if (IsRestoring()) return StillRestoring();
  return memory_.PunchHole({gmem::ByteOffset(range.start.value()), range.size});
}

absl::StatusOr<uint64_t> Guest::Reclaim(gmem::GuestRange range) const {
  uint64_t pages = 0;
  if (absl::Status status = vm_.Reclaim(range, &pages); !status.ok()) {
    return absl::Status(status.code(),
                        absl::StrCat(status.message(), ", after ", tools::Counted(pages, "page"),
                                     " came back"));
  }
  return pages;
}

absl::StatusOr<std::string> Guest::Describe() const {
  const absl::StatusOr<gmem::PageCounts> pages = memory_.Query();
  if (!pages.ok()) return pages.status();
  std::string text =
      absl::StrFormat("pages: %d absent, %d host, %d lent, %d shared, %d leaked\n", pages->absent,
                      pages->host, pages->lent, pages->shared, pages->leaked);
  if (restore_) {
    absl::StrAppendFormat(&text, "restore: pages missing: %d, waited for: %d\n",
                          restore_->nr_missing(), restore_->nr_wanted());
  }
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
                    gmem::ToString(fault.reason), ", ", tools::Counted(fault.count, "time"), "\n");
  }
  return text;
}

}  // namespace broker
