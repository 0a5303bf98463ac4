// SPDX-License-Identifier: MIT OR Apache-2.0
// Addresses of this process for guest memory. Not installed.
#ifndef GMEM_VHOST_QUEUE_GUEST_SPACE_H_
#define GMEM_VHOST_QUEUE_GUEST_SPACE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/mapping.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

// A range of guest addresses that has a range of this process's addresses. Files that are mapped
// into it lie to each other as they do in the guest, so memory that is contiguous in the guest is
// contiguous here, too, whenever its parts come.
class GuestSpace {
 public:
  // Spaces reserve more addresses than the first of their regions needs: before it and behind it.
  static constexpr uint64_t kSlack = uint64_t{64} << 30;
  // The bytes that the spaces of one guest may reserve so. A front-end can't use up the addresses
  // of this process by regions far from each other: further spaces have no slack.
  static constexpr uint64_t kMaxSlack = uint64_t{512} << 30;

  // Whole pages of a file, and the guest address of their first byte. All sizes are in bytes.
  struct Pages {
    uint64_t guest_address = 0;
    uint64_t size = 0;
    uint64_t page_size = 0;
    uint64_t offset = 0;
    int fd = -1;
  };

  // Reserves addresses for @first and, if possible, for @reach bytes from its start on. Takes the
  // slack from @slack_left, which must outlive the space, and gives it back in the end.
  static absl::StatusOr<std::shared_ptr<GuestSpace>> Reserve(const Pages& first, uint64_t reach,
                                                             uint64_t& slack_left);
  GuestSpace(const GuestSpace&) = delete;
  GuestSpace& operator=(const GuestSpace&) = delete;
  ~GuestSpace() { slack_left_ += slack_; }

  // Can Map() have @pages? Not if something is there.
  bool HasRoom(const Pages& pages) const;
  absl::StatusOr<absl::Span<uint8_t>> Map(const Pages& pages);
  // Takes what Map() returned. The addresses stay reserved.
  void Unmap(absl::Span<uint8_t> pages);

 private:
  GuestSpace(Mapping addresses, uint64_t start, uint64_t slack, uint64_t& slack_left)
      : addresses_(std::move(addresses)), start_(start), slack_(slack), slack_left_(slack_left) {}

  Mapping addresses_;
  // The guest address of the first byte. It wraps around below 0.
  const uint64_t start_;
  const uint64_t slack_;
  uint64_t& slack_left_;
  // The offsets of what is mapped, and the ends.
  std::map<uint64_t, uint64_t> taken_;
};

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_GUEST_SPACE_H_
