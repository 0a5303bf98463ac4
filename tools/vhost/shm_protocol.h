// SPDX-License-Identifier: Apache-2.0
// What a driver says to gmem-vhost-shm: one request a chain, on any virtqueue, as bytes to
// read, then one byte to write for the answer. All numbers are little-endian.
#ifndef GMEM_TOOLS_VHOST_SHM_PROTOCOL_H_
#define GMEM_TOOLS_VHOST_SHM_PROTOCOL_H_

#include <cstdint>

// Map part of a file: `length` bytes from `file_offset` on, at `shm_offset` of the shared
// memory region. All three are multiples of the page size.
constexpr uint32_t kShmMap = 1;
// Unmap what was mapped at `shm_offset`: `length` must be all of it.
constexpr uint32_t kShmUnmap = 2;

// ShmRequest::flags: without it, the mapping is read-only.
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

// The answer. When it is there, the mapping can be used, or is gone.
constexpr uint8_t kShmOk = 0;
// The request is none, or asks for what there isn't: a file, bytes behind its end, writing
// to what is read-only.
constexpr uint8_t kShmInvalid = 1;
// The front-end refused.
constexpr uint8_t kShmRefused = 2;

#endif  // GMEM_TOOLS_VHOST_SHM_PROTOCOL_H_
