// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/frontend_handler.h"

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"
#include "base/status.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

absl::Status Refused() {
  return internal::CheckError(EOPNOTSUPP, "the front-end doesn't handle this request");
}

}  // namespace

absl::Status FrontendHandler::OnIotlb(const IotlbMessage& /*message*/) { return Refused(); }
absl::Status FrontendHandler::OnVringCall(unsigned /*index*/) { return Refused(); }
absl::Status FrontendHandler::OnVringErr(unsigned /*index*/) { return Refused(); }
absl::Status FrontendHandler::OnHostNotifier(unsigned /*index*/, uint8_t* /*page*/) {
  return Refused();
}
void FrontendHandler::OnDisconnect(const absl::Status& /*why*/) {}

}  // namespace gmem::vhost
