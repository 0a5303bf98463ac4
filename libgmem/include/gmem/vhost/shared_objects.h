// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_SHARED_OBJECTS_H_
#define GMEM_VHOST_SHARED_OBJECTS_H_

#include <cstddef>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

class Frontend;

/// The objects (dma-bufs) that the devices of one VM share, by UUID (virtio 1.3, 2.7
/// "Exporting Objects"): some are the VMM's own, others a back-end's, which is asked for the
/// descriptor as soon as it adds one. Whoever looks one up has it at once, or not at all:
/// also between the acknowledgement that the owner gets and its answer, so one that tells
/// the guest of its object right then is too early. Should it remove an object before it
/// is asked, it is asked all the same.
///
/// Lives longer than the front-ends that use it. Thread-compatible: one thread runs all
/// of them.
class SharedObjects {
 public:
  /// Objects of one back-end at a time: each keeps a descriptor of ours, of which a process
  /// has 1,024, usually.
  static constexpr size_t kMaxPerBackend = 128;

  /// Adds one of the VMM's own. AlreadyExists (EEXIST).
  absl::Status Add(const Uuid& uuid, UniqueFd fd);
  /// Adds a back-end's, whose descriptor goes into what is returned when it is known: the
  /// object isn't found before. AlreadyExists; ResourceExhausted (ENOSPC) beyond
  /// kMaxPerBackend.
  absl::StatusOr<std::shared_ptr<UniqueFd>> Add(const Uuid& uuid, const Frontend* owner);

  /// Removes one, which is @p owner's (null: the VMM's own). NotFound (ENOENT) if there is
  /// none; PermissionDenied (EACCES) if it is somebody else's.
  absl::Status Remove(const Uuid& uuid, const Frontend* owner = nullptr);
  /// Removes all of a back-end's.
  void RemoveAll(const Frontend* owner);

  /// The object's descriptor, valid until the next change; -1 if there is none.
  int Find(const Uuid& uuid) const;
  /// How many were added, and not removed.
  size_t size() const { return objects_.size(); }

 private:
  struct Object {
    // Null if it is the VMM's own.
    const Frontend* owner = nullptr;
    // Shared with the request for it, which may outlive the object.
    std::shared_ptr<UniqueFd> fd;
  };

  absl::StatusOr<std::shared_ptr<UniqueFd>> Insert(const Uuid& uuid, const Frontend* owner);

  std::map<Uuid, Object> objects_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_SHARED_OBJECTS_H_
