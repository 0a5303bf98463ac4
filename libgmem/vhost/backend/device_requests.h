// SPDX-License-Identifier: MIT OR Apache-2.0
// Converts the payloads of requests to calls of the device's methods, and the results to replies.
// Not installed.
#ifndef GMEM_VHOST_BACKEND_DEVICE_REQUESTS_H_
#define GMEM_VHOST_BACKEND_DEVICE_REQUESTS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// InvalidArgument (EINVAL) if the device's numbers and sizes are out of their bounds.
absl::Status CheckDevice(const Device& device);

// GET_CONFIG: the reply, of the request's size; bytes behind the device's are 0. InvalidArgument
// (EINVAL) if the device has none of the bytes, or the device's error.
absl::StatusOr<ConfigSpace> ReadConfig(Device& device, const ConfigSpace& request);
// SET_CONFIG. InvalidArgument (EINVAL) for bytes outside of the configuration space.
absl::Status WriteConfig(Device& device, const ConfigSpace& request);

// GET_SHMEM_CONFIG.
ShmemConfig ShmemConfigOf(const Device& device);

// CREATE_CRYPTO_SESSION: the reply, whose session_id is a negative errno after an error.
CryptoSession CreateCryptoSession(Device& device, const CryptoSession& request);

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_DEVICE_REQUESTS_H_
