// SPDX-License-Identifier: MIT OR Apache-2.0
// All virtqueues of a session. Not installed.
#ifndef GMEM_VHOST_BACKEND_VRING_SET_H_
#define GMEM_VHOST_BACKEND_VRING_SET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/iotlb_misses.h"
#include "vhost/backend/vring.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

class VringSet {
 public:
  // Makes as many virtqueues as the device has.
  explicit VringSet(const Vring::Context& context);
  VringSet(const VringSet&) = delete;
  VringSet& operator=(const VringSet&) = delete;

  size_t size() const { return vrings_.size(); }
  // @i: less than size().
  Vring& at(size_t i) { return *vrings_[i]; }
  const Vring& at(size_t i) const { return *vrings_[i]; }
  // InvalidArgument (EINVAL) if there is no virtqueue @index, of which all bits count
  // (CVE-2020-10723).
  absl::StatusOr<Vring*> Find(uint64_t index);

  // See Vring. ServeAll() is for a loop without threads.
  void AttendAll();
  void ServeAll();
  void RefreshAll();
  void RestartAll();
  void HandleIotlb(const IotlbMessage& change);
  void ReleaseMemory();
  void BeginStopAll();
  // After BeginStopAll(): stops those that can stop by now. True if that were the last.
  bool FinishStopAll();
  // Stops all at once.
  void StopAll();
  void DisableAll();

  bool has_started() const;
  // Of all virtqueues together.
  size_t in_flight() const;
  bool wants_poll() const;

 private:
  IotlbMisses misses_;
  // A virtqueue's callbacks point to it: it must not move.
  std::vector<std::unique_ptr<Vring>> vrings_;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_VRING_SET_H_
