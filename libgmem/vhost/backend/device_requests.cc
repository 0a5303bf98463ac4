// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/device_requests.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost::backend_internal {

using internal::CheckError;

absl::Status CheckDevice(const Device& device) {
  if (device.nr_queues() == 0 || device.nr_queues() > kMaxQueues ||
      device.config_size() > kMaxConfigSize) {
    return CheckError(
        EINVAL, absl::StrCat("a device with ", device.nr_queues(), " queues and ",
                             device.config_size(), " bytes of configuration: 1 to ", kMaxQueues,
                             " queues and at most ", kMaxConfigSize, " bytes are possible"));
  }
  const std::vector<uint64_t> sizes = device.shmem_sizes();
  const auto is_bad = [](uint64_t size) { return size % HostPageSize().value() != 0; };
  if (sizes.size() > kMaxShmemRegions || std::any_of(sizes.begin(), sizes.end(), is_bad)) {
    return CheckError(
        EINVAL, absl::StrCat("a device with ", sizes.size(), " shared memory regions: at most ",
                             kMaxShmemRegions, ", of whole pages, are possible"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ConfigSpace> ReadConfig(Device& device, const ConfigSpace& request) {
  ConfigSpace reply = request;
  // No byte of the request may go back.
  reply.bytes = {};
  const uint32_t size = device.config_size();
  const uint32_t begin = std::min(request.offset, size);
  const uint32_t count = std::min(request.size, size - begin);
  if (count == 0) {
    return CheckError(EINVAL,
                      absl::StrCat("GET_CONFIG of ", request.size, " bytes at ", request.offset,
                                   ": the configuration has ", size, " bytes"));
  }
  GMEM_RETURN_IF_ERROR(device.ReadConfig(begin, {reply.bytes.data(), count}));
  return reply;
}

absl::Status WriteConfig(Device& device, const ConfigSpace& request) {
  const uint32_t size = device.config_size();
  if (request.offset > size || request.size > size - request.offset || request.flags > 1) {
    return CheckError(EINVAL, absl::StrCat("SET_CONFIG of ", request.size, " bytes at ",
                                           request.offset, " with flags ", request.flags,
                                           ": the configuration has ", size, " bytes"));
  }
  return device.WriteConfig(request.offset, {request.bytes.data(), request.size}, request.flags);
}

ShmemConfig ShmemConfigOf(const Device& device) {
  ShmemConfig config = {};
  const std::vector<uint64_t> sizes = device.shmem_sizes();
  std::copy(sizes.begin(), sizes.end(), config.sizes.begin());
  config.nr_regions = static_cast<uint32_t>(
      std::count_if(sizes.begin(), sizes.end(), [](uint64_t size) { return size != 0; }));
  return config;
}

CryptoSession CreateCryptoSession(Device& device, const CryptoSession& request) {
  CryptoSession reply = request;
  const absl::StatusOr<int64_t> id = device.CreateCryptoSession(request);
  reply.session_id = id.ok() ? *id : -GetErrno(id.status()).value_or(EIO);
  return reply;
}

}  // namespace gmem::vhost::backend_internal
