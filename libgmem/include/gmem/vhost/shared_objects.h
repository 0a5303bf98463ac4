// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_SHARED_OBJECTS_H_
#define GMEM_VHOST_SHARED_OBJECTS_H_

#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

class Frontend;

/// The objects (dma-bufs) that the devices of one VM share, by UUID (virtio 1.3, 2.11 "Exporting
/// Objects"). Some belong to the VMM, others to a back-end. When a back-end adds an object, its
/// Frontend asks it for the descriptor at once, so that a lookup never waits: it finds the object
/// or fails. A lookup fails until the owner has sent the descriptor, which is after the owner gets
/// its acknowledgement; an owner that tells the guest of the object before that is too early. The
/// Frontend asks for the descriptor even if the owner has removed the object meanwhile.
///
/// Must outlive the front-ends that use it. Thread-compatible: one thread runs all of them.
class SharedObjects {
 public:
  /// Objects of one back-end at a time. Each takes one of this process's descriptors, of which it
  /// has 1,024 by default.
  static constexpr size_t kMaxPerBackend = 128;

  SharedObjects();
  SharedObjects(const SharedObjects&) = delete;
  SharedObjects& operator=(const SharedObjects&) = delete;
  ~SharedObjects();

  /// Adds an object of the VMM. AlreadyExists (EEXIST) if the UUID is in use.
  absl::Status Add(const Uuid& uuid, UniqueFd fd);
  /// Adds an object of @p owner's back-end. Returns a place for the descriptor: Find() fails until
  /// the caller puts the descriptor there. AlreadyExists (EEXIST) if the UUID is in use;
  /// ResourceExhausted (ENOSPC) beyond kMaxPerBackend.
  absl::StatusOr<std::shared_ptr<UniqueFd>> Add(const Uuid& uuid, const Frontend* owner);

  /// Removes an object of @p owner's back-end (null: of the VMM). NotFound (ENOENT) if there is no
  /// such object; PermissionDenied (EACCES) if it belongs to somebody else.
  absl::Status Remove(const Uuid& uuid, const Frontend* owner = nullptr);
  /// Removes all objects of @p owner's back-end.
  void RemoveAll(const Frontend* owner);

  /// The object's descriptor, valid until the next change; -1 if there is none.
  int Find(const Uuid& uuid) const;
  /// How many objects were added and not removed.
  size_t size() const;

 private:
  struct Impl;

  const std::unique_ptr<Impl> impl_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_SHARED_OBJECTS_H_
