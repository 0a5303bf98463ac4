// SPDX-License-Identifier: Apache-2.0
#include "vhost/backend/vring_set.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/vhost/device.h"
#include "vhost/backend/vring.h"

namespace gmem::vhost::backend_internal {

VringSet::VringSet(const Vring::Context& context) {
  const uint16_t nr_queues = context.device.nr_queues();
  vrings_.reserve(nr_queues);
  for (uint16_t i = 0; i < nr_queues; i++) vrings_.push_back(std::make_unique<Vring>(i, context));
}

absl::StatusOr<Vring*> VringSet::Find(uint64_t index) {
  if (index < vrings_.size()) return vrings_[index].get();
  return internal::CheckError(
      EINVAL, absl::StrCat("there is no virtqueue ", index, ", only ", vrings_.size()));
}

void VringSet::ServeAll() {
  for (const auto& vring : vrings_) vring->Serve();
}

void VringSet::RefreshAll() {
  for (const auto& vring : vrings_) vring->Refresh();
}

void VringSet::StopAll() {
  for (const auto& vring : vrings_) vring->Stop();
}

void VringSet::EnableAll(bool is_enabled) {
  for (const auto& vring : vrings_) vring->set_enabled(is_enabled);
}

bool VringSet::has_started() const {
  return std::any_of(vrings_.begin(), vrings_.end(),
                     [](const auto& vring) { return vring->has_started(); });
}

bool VringSet::wants_poll() const {
  return std::any_of(vrings_.begin(), vrings_.end(),
                     [](const auto& vring) { return vring->wants_poll(); });
}

bool VringSet::has_in_flight() const {
  return std::any_of(vrings_.begin(), vrings_.end(),
                     [](const auto& vring) { return vring->in_flight() > 0; });
}

}  // namespace gmem::vhost::backend_internal
