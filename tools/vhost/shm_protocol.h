// SPDX-License-Identifier: MIT OR Apache-2.0
// The requests of a driver to gmem-vhost-shm: one per chain, on any virtqueue. The readable bytes
// of the chain are the request, the writable byte is for the answer. All numbers are little-endian.
#ifndef GMEM_TOOLS_VHOST_SHM_PROTOCOL_H_
#define GMEM_TOOLS_VHOST_SHM_PROTOCOL_H_

#include <cstdint>

// Map part of a file: `length` bytes from `file_offset` on, at `shm_offset` of the shared memory
// region. All three are multiples of the page size.
constexpr uint32_t kShmMap = 1;
// Unmap the mapping at `shm_offset`: `length` must be its whole length.
constexpr uint32_t kShmUnmap = 2;

// A bit of ShmRequest::flags: without it, the mapping is read-only.
constexpr uint32_t kShmWritable = 1;

struct ShmRequest {
  uint32_t op;
  // Files are numbered as on the device's command line, from 0 on.
  uint32_t file;
  uint64_t file_offset;
  uint64_t shm_offset;
  uint64_t length;
  uint32_t flags;
  uint32_t padding;
};
static_assert(sizeof(ShmRequest) == 40);

// The answer 0: the driver can use the mapping, or the mapping is gone.
constexpr uint8_t kShmOk = 0;
// The request is malformed, or its file doesn't exist, or it goes beyond the file's end, or it asks
// to write to a read-only file.
constexpr uint8_t kShmInvalid = 1;
// The front-end refused the request.
constexpr uint8_t kShmRefused = 2;

#endif  // GMEM_TOOLS_VHOST_SHM_PROTOCOL_H_
