// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/shared_objects.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

std::string Hex(const Uuid& uuid) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(uuid.data()), uuid.size()));
}

}  // namespace

struct [[gnu::visibility("hidden")]] SharedObjects::Impl {
  struct Object {
    // Null if the object belongs to the VMM.
    const Frontend* owner = nullptr;
    // The request for the descriptor shares this, since it may outlive the object.
    std::shared_ptr<UniqueFd> fd;
  };

  // Returns the place for the descriptor.
  absl::StatusOr<std::shared_ptr<UniqueFd>> Insert(const Uuid& uuid, const Frontend* owner);

  std::map<Uuid, Object> objects;
};

absl::StatusOr<std::shared_ptr<UniqueFd>> SharedObjects::Impl::Insert(const Uuid& uuid,
                                                                      const Frontend* owner) {
  const auto [entry, is_new] = objects.try_emplace(uuid);
  if (!is_new) return CheckError(EEXIST, absl::StrCat("object ", Hex(uuid), " exists already"));
  entry->second = {.owner = owner, .fd = std::make_shared<UniqueFd>()};
  return entry->second.fd;
}

SharedObjects::SharedObjects() : impl_(std::make_unique<Impl>()) {}
SharedObjects::~SharedObjects() = default;

size_t SharedObjects::size() const { return impl_->objects.size(); }

absl::Status SharedObjects::Add(const Uuid& uuid, UniqueFd fd) {
  GMEM_ASSIGN_OR_RETURN(const std::shared_ptr<UniqueFd> object, impl_->Insert(uuid, nullptr));
  *object = std::move(fd);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<UniqueFd>> SharedObjects::Add(const Uuid& uuid,
                                                             const Frontend* owner) {
  const auto& objects = impl_->objects;
  const auto count = std::count_if(objects.begin(), objects.end(), [owner](const auto& entry) {
    return entry.second.owner == owner;
  });
  if (static_cast<size_t>(count) >= kMaxPerBackend) {
    return CheckError(ENOSPC, absl::StrCat("the back-end has ", kMaxPerBackend,
                                           " objects already: remove one first"));
  }
  return impl_->Insert(uuid, owner);
}

absl::Status SharedObjects::Remove(const Uuid& uuid, const Frontend* owner) {
  const auto found = impl_->objects.find(uuid);
  if (found == impl_->objects.end()) {
    return CheckError(ENOENT, absl::StrCat("there is no object ", Hex(uuid)));
  }
  if (found->second.owner != owner) {
    return CheckError(EACCES, absl::StrCat("object ", Hex(uuid), " belongs to somebody else"));
  }
  impl_->objects.erase(found);
  return absl::OkStatus();
}

void SharedObjects::RemoveAll(const Frontend* owner) {
  std::erase_if(impl_->objects, [owner](const auto& entry) { return entry.second.owner == owner; });
}

int SharedObjects::Find(const Uuid& uuid) const {
  const auto found = impl_->objects.find(uuid);
  return found == impl_->objects.end() ? -1 : found->second.fd->get();
}

}  // namespace gmem::vhost
