// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_SHARED_OBJECTS_H_
#define GMEM_VHOST_SHARED_OBJECTS_H_

#include <cstddef>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

class Frontend;

/// The objects (dma-bufs) that the devices of one VM share, by UUID: some are the VMM's
/// own, others belong to a back-end, which is asked for the descriptor when another one
/// looks the object up (virtio 1.3, 2.7 "Exporting Objects").
///
/// Lives longer than the front-ends that use it. Thread-compatible: one thread runs all
/// of them.
class SharedObjects {
 public:
  /// Objects of one back-end: its requests must not fill our memory.
  static constexpr size_t kMaxPerBackend = 1024;

  struct Object {
    /// Null if it is the VMM's own.
    Frontend* owner = nullptr;
    /// Of the VMM's own.
    UniqueFd fd;
  };

  /// Adds one of the VMM's own. AlreadyExists (EEXIST).
  absl::Status Add(const Uuid& uuid, UniqueFd fd) { return Insert(uuid, {nullptr, std::move(fd)}); }
  /// Adds a back-end's. AlreadyExists; ResourceExhausted (ENOSPC) beyond kMaxPerBackend.
  absl::Status Add(const Uuid& uuid, Frontend* owner);

  /// Removes one, which is @p owner's (null: the VMM's own). NotFound (ENOENT) if there is
  /// none; PermissionDenied (EACCES) if it is somebody else's.
  absl::Status Remove(const Uuid& uuid, const Frontend* owner = nullptr);
  /// Removes all of a back-end's.
  void RemoveAll(const Frontend* owner);

  /// Null if there is none. Valid until the next change.
  const Object* Find(const Uuid& uuid) const;
  size_t size() const { return objects_.size(); }

 private:
  absl::Status Insert(const Uuid& uuid, Object object);

  std::map<Uuid, Object> objects_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_SHARED_OBJECTS_H_
