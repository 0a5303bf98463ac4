// SPDX-License-Identifier: MIT OR Apache-2.0
#include "restore.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"

namespace broker {
namespace {

// The pages that one call of Work() brings ahead: requests wait for no more.
constexpr int kAhead = 16;

}  // namespace

absl::StatusOr<Restore> Restore::Open(const std::string& path, gmem::ByteSize size,
                                      gmem::ByteSize page) {
  gmem::UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat stat = {};
  if (!file || fstat(file.get(), &stat) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("can't open ", path));
  }
  if (static_cast<uint64_t>(stat.st_size) != size.value()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", stat.st_size,
                                                   " bytes, but the guest's memory has ",
                                                   size.value()));
  }
  return Restore(std::move(file), size.value() / page.value(), page);
}

Restore::Restore(gmem::UniqueFd file, size_t nr_pages, gmem::ByteSize page)
    : file_(std::move(file)),
      page_(page),
      order_(nr_pages),
      is_there_(nr_pages),
      nr_missing_(nr_pages),
      buffer_(page.value()) {
  std::iota(order_.begin(), order_.end(), 0);
  std::shuffle(order_.begin(), order_.end(), std::mt19937(std::random_device()()));
}

bool Restore::TakeMissing(size_t number) {
  if (is_there_[number]) return false;
  is_there_[number] = true;
  --nr_missing_;
  return true;
}

absl::Status Restore::Bring(const gmem::Vm& vm, const gmem::GuestMemory& memory, size_t number) {
  // The guest may have changed the page since.
  if (!TakeMissing(number)) return absl::OkStatus();
  const uint64_t at = number * page_.value();
  const ssize_t got = pread(file_.get(), buffer_.data(), buffer_.size(), static_cast<off_t>(at));
  absl::Status status = got == static_cast<ssize_t>(buffer_.size())
                            ? vm.Fill(memory,
                                      {.guest_address = gmem::GuestAddress(at),
                                       .offset = gmem::ByteOffset(at),
                                       .size = page_,
                                       .join = true},
                                      buffer_.data())
                            : absl::ErrnoToStatus(got < 0 ? errno : EIO, "can't read the file");
  if (!status.ok()) {
    vm.SetAbsent({gmem::GuestAddress(at), page_}, gmem::AbsentPages::kFail).IgnoreError();
  }
  return status;
}

absl::Status Restore::Work(const gmem::Vm& vm, const gmem::GuestMemory& memory, bool prefetch) {
  const absl::StatusOr<std::vector<gmem::PageRequest>> requests = vm.TakeRequests();
  if (!requests.ok()) return requests.status();
  absl::Status first_error;
  for (const gmem::PageRequest& request : *requests) {
    ++nr_wanted_;
    first_error.Update(Bring(vm, memory, request.page.value() / page_.value()));
  }
  for (int i = 0; prefetch && i < kAhead && next_ < order_.size(); ++i) {
    first_error.Update(Bring(vm, memory, order_[next_++]));
  }
  return first_error;
}

void Restore::Skip(gmem::GuestRange range) {
  const uint64_t end = (range.start.value() + range.size.value()) / page_.value();
  for (uint64_t page = range.start.value() / page_.value(); page < end; ++page) {
    if (page < is_there_.size()) TakeMissing(page);
  }
}

}  // namespace broker
