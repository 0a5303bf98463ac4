// SPDX-License-Identifier: Apache-2.0
#include "guest.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmem/mapping.h"
#include "linux_boot.h"
#include "status_macros.h"

namespace minivmm {

namespace {

absl::StatusOr<gmem::Mapping> MapWholeFile(const std::string& path) {
  gmem::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info = {};
  if (!fd || fstat(fd.get(), &info)) return absl::ErrnoToStatus(errno, path);
  return gmem::Mapping::OfFile(fd.get(),
                               {.offset = gmem::ByteOffset(0),
                                .size = gmem::ByteSize(static_cast<uint64_t>(info.st_size)),
                                .access = gmem::MemoryAccess::kReadOnly});
}

gmem::ByteOffset OffsetOf(gmem::GuestAddress address) { return gmem::ByteOffset(address.value()); }

std::span<uint8_t> Bytes(const gmem::Mapping& mapping) { return {mapping.data(), mapping.size()}; }

}  // namespace

Guest::Guest(gmem::GuestMemory memory, gmem::Vm vm, gmem::Window window, gmem::Mapping host,
             gmem::ByteSize ram, Console* console)
    : console_(console),
      ram_(ram),
      memory_(std::move(memory)),
      vm_(std::move(vm)),
      window_(std::move(window)),
      host_(std::move(host)) {}

absl::StatusOr<std::unique_ptr<Guest>> Guest::Create(const gmem::Device& device,
                                                     const Options& options, Console* console) {
  const gmem::ByteSize size = options.ram + options.pool;
  MINIVMM_ASSIGN_OR_RETURN(gmem::GuestMemory memory, device.CreateGuestMemory(size));
  MINIVMM_ASSIGN_OR_RETURN(gmem::Vm vm, device.CreateVm());
  MINIVMM_ASSIGN_OR_RETURN(
      gmem::Window window,
      gmem::Window::Create(vm, {.start = gmem::GuestAddress(0), .size = size}));
  MINIVMM_ASSIGN_OR_RETURN(gmem::Mapping host, memory.Map());
  std::unique_ptr<Guest> guest(new Guest(std::move(memory), std::move(vm), std::move(window),
                                         std::move(host), options.ram, console));
  MINIVMM_RETURN_IF_ERROR(guest->Plug({gmem::GuestAddress(0), options.ram}, gmem::MapMode::kLend));
  MINIVMM_RETURN_IF_ERROR(guest->Load(options));
  return guest;
}

absl::Status Guest::Load(const Options& options) {
  MINIVMM_ASSIGN_OR_RETURN(gmem::Mapping kernel, MapWholeFile(options.kernel));
  MINIVMM_ASSIGN_OR_RETURN(gmem::Mapping initramfs, MapWholeFile(options.initramfs));
  // The host may write to what is bound as lent, until the guest uses it.
  MINIVMM_ASSIGN_OR_RETURN(
      BootState boot, LoadLinux(Bytes(host_).first(ram_.value()), Bytes(kernel), Bytes(initramfs),
                                options.command_line));
  MINIVMM_ASSIGN_OR_RETURN(machine_,
                           Machine::Create({.memory = {window_.data(), window_.size()},
                                            .console = [this](char byte) { console_->Put(byte); },
                                            .refused_access = [this] { return OnRefusedAccess(); },
                                            .time_limit = options.time_limit}));
  return machine_->SetUpBoot(boot);
}

Guest::~Guest() {
  if (!cpu_.joinable()) return;
  machine_->Stop();
  cpu_.join();
}

void Guest::Start() {
  cpu_ = std::thread([this] {
    ended_ = machine_->Run();
    console_->Close(ended_);
  });
}

absl::Status Guest::Wait() {
  if (cpu_.joinable()) cpu_.join();
  return ended_;
}

absl::Status Guest::PlugLocked(gmem::GuestRange range, gmem::MapMode mode) {
  MINIVMM_RETURN_IF_ERROR(vm_.Map(memory_, {.guest_address = range.start,
                                            .offset = OffsetOf(range.start),
                                            .size = range.size,
                                            .mode = mode}));
  return window_.Refresh(range);
}

absl::Status Guest::Plug(gmem::GuestRange range, gmem::MapMode mode) {
  absl::MutexLock guard(&lock_);
  return PlugLocked(range, mode);
}

absl::StatusOr<uint64_t> Guest::Unplug(gmem::GuestRange range) {
  absl::MutexLock guard(&lock_);
  MINIVMM_ASSIGN_OR_RETURN(uint64_t nr_pages, vm_.Unmap(range));
  MINIVMM_RETURN_IF_ERROR(window_.Refresh(range));
  return nr_pages;
}

absl::Status Guest::OnRefusedAccess() {
  absl::MutexLock guard(&lock_);
  MINIVMM_ASSIGN_OR_RETURN(gmem::FaultReport report, vm_.Faults(faults_seen_));
  faults_seen_ = report.last_sequence;
  if (report.faults.empty()) {
    return absl::InternalError("KVM_RUN failed with EFAULT, but no access was refused");
  }
  for (const gmem::Fault& fault : report.faults) {
    // With an interrupt chip in the kernel, KVM tries these again by itself.
    if (fault.reason == gmem::FaultReason::kPinned) continue;
    const gmem::GuestRange page = {fault.page, memory_.page_size()};
    // Another fault of this report may have been about the same page.
    MINIVMM_ASSIGN_OR_RETURN(std::vector<gmem::Binding> bound, vm_.Query(page));
    const bool changed = fault.reason == gmem::FaultReason::kUnbound ||
                         fault.reason == gmem::FaultReason::kStale;
    if (changed && !bound.empty()) {
      MINIVMM_RETURN_IF_ERROR(window_.Refresh(page));
      continue;
    }
    if (!changed) {
      return absl::InternalError(absl::StrCat("the guest's access to ", gmem::ToString(fault.page),
                                              " was refused: reason ",
                                              static_cast<uint32_t>(fault.reason)));
    }
    MINIVMM_RETURN_IF_ERROR(PlugLocked(page, gmem::MapMode::kLend));
    if (!demand_) demand_ = fault;
  }
  return absl::OkStatus();
}

absl::StatusOr<gmem::Fault> Guest::WaitForDemand(absl::Duration timeout) {
  absl::MutexLock guard(&lock_);
  auto there = [this]() ABSL_SHARED_LOCKS_REQUIRED(lock_) { return demand_.has_value(); };
  if (!lock_.AwaitWithTimeout(absl::Condition(&there), timeout)) {
    return absl::DeadlineExceededError("the guest touched nothing that isn't there");
  }
  return *std::exchange(demand_, std::nullopt);
}

absl::StatusOr<std::string> Guest::Command(const std::string& line) {
  console_->Print(absl::StrCat("  typed | ", line));
  machine_->Type(line + "\n");
  return console_->Expect("guest:");
}

}  // namespace minivmm
