// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/vring_set.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/iotlb_misses.h"
#include "vhost/backend/vring.h"

namespace gmem::vhost::backend_internal {

VringSet::VringSet(const Vring::Context& context)
    : misses_(context.channel, [this](const IotlbMiss& miss, IotlbMisses::Failure failure) {
        for (const auto& vring : vrings_) vring->HandleMissFailure(miss, failure);
      }) {
  const uint16_t nr_queues = context.device.nr_queues();
  vrings_.reserve(nr_queues);
  for (uint16_t i = 0; i < nr_queues; i++) {
    vrings_.push_back(std::make_unique<Vring>(i, context, misses_));
  }
}

absl::StatusOr<Vring*> VringSet::Find(uint64_t index) {
  if (index < vrings_.size()) return vrings_[index].get();
  return internal::CheckError(
      EINVAL, absl::StrCat("there is no virtqueue ", index, ", only ", vrings_.size()));
}

void VringSet::AttendAll() {
  for (const auto& vring : vrings_) vring->Attend();
}

void VringSet::ServeAll() {
  for (const auto& vring : vrings_) {
    vring->Attend();
    vring->ServeQueue();
    vring->Attend();
  }
}

void VringSet::RefreshAll() {
  for (const auto& vring : vrings_) vring->Refresh();
}

void VringSet::RestartAll() {
  misses_.AskAgain();
  for (const auto& vring : vrings_) vring->Restart();
}

void VringSet::HandleIotlb(const IotlbMessage& change) {
  if (change.type == IotlbType::kUpdate) misses_.Answer(change);
  for (const auto& vring : vrings_) vring->HandleIotlb(change);
}

void VringSet::ReleaseMemory() {
  for (const auto& vring : vrings_) vring->ReleaseMemory();
}

void VringSet::BeginStopAll() {
  for (const auto& vring : vrings_) vring->BeginStop();
}

bool VringSet::FinishStopAll() {
  bool is_finished = true;
  for (const auto& vring : vrings_) {
    if (!vring->is_stopping()) continue;
    if (vring->can_stop()) {
      vring->Stop();
    } else {
      is_finished = false;
    }
  }
  return is_finished;
}

void VringSet::StopAll() {
  for (const auto& vring : vrings_) vring->Stop();
}

void VringSet::DisableAll() {
  for (const auto& vring : vrings_) vring->Disable();
}

bool VringSet::has_started() const {
  return std::any_of(vrings_.begin(), vrings_.end(),
                     [](const auto& vring) { return vring->has_started(); });
}

size_t VringSet::in_flight() const {
  size_t count = 0;
  for (const auto& vring : vrings_) count += vring->in_flight();
  return count;
}

bool VringSet::wants_poll() const {
  return std::any_of(vrings_.begin(), vrings_.end(),
                     [](const auto& vring) { return vring->wants_poll(); });
}

}  // namespace gmem::vhost::backend_internal
