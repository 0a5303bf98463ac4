// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/device.h"

#include <cerrno>
#include <cstdint>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

absl::Status HasNo(absl::string_view what) {
  return internal::CheckError(EOPNOTSUPP, absl::StrCat("this device has no ", what));
}

}  // namespace

absl::Status Device::ReadConfig(uint32_t /*offset*/, absl::Span<uint8_t> /*to*/) {
  return HasNo("configuration space");
}
absl::Status Device::WriteConfig(uint32_t /*offset*/, absl::Span<const uint8_t> /*from*/,
                                 uint32_t /*flags*/) {
  return HasNo("configuration space that can be written");
}
absl::StatusOr<std::string> Device::SaveState() { return HasNo("state to save"); }
absl::Status Device::LoadState(absl::string_view /*state*/) { return HasNo("state to load"); }
absl::Status Device::SetMtu(uint64_t /*mtu*/) { return HasNo("MTU"); }
absl::Status Device::SendRarp(uint64_t /*mac_address*/) { return HasNo("network"); }
absl::StatusOr<int64_t> Device::CreateCryptoSession(const CryptoSession& /*session*/) {
  return HasNo("crypto sessions");
}
absl::Status Device::CloseCryptoSession(uint64_t /*session_id*/) {
  return HasNo("crypto sessions");
}
absl::StatusOr<UniqueFd> Device::GetSharedObject(const Uuid& /*uuid*/) {
  return HasNo("shared objects");
}
absl::Status Device::SetGpuSocket(UniqueFd /*socket*/) { return HasNo("use for a GPU socket"); }

absl::Status Device::RunOnThread(absl::AnyInvocable<void()> /*work*/) {
  return HasNo("thread to move its state");
}

}  // namespace gmem::vhost
