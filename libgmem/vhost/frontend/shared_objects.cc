// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/shared_objects.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <iterator>
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

absl::StatusOr<std::shared_ptr<UniqueFd>> SharedObjects::Insert(const Uuid& uuid,
                                                                const Frontend* owner) {
  const auto [entry, is_new] = objects_.try_emplace(uuid);
  if (!is_new) return CheckError(EEXIST, absl::StrCat("object ", Hex(uuid), " exists already"));
  entry->second = {.owner = owner, .fd = std::make_shared<UniqueFd>()};
  return entry->second.fd;
}

absl::Status SharedObjects::Add(const Uuid& uuid, UniqueFd fd) {
  GMEM_ASSIGN_OR_RETURN(const std::shared_ptr<UniqueFd> object, Insert(uuid, nullptr));
  *object = std::move(fd);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<UniqueFd>> SharedObjects::Add(const Uuid& uuid,
                                                             const Frontend* owner) {
  const auto count = std::count_if(objects_.begin(), objects_.end(), [owner](const auto& entry) {
    return entry.second.owner == owner;
  });
  if (static_cast<size_t>(count) >= kMaxPerBackend) {
    return CheckError(ENOSPC, absl::StrCat("the back-end has ", kMaxPerBackend,
                                           " objects already: remove one first"));
  }
  return Insert(uuid, owner);
}

absl::Status SharedObjects::Remove(const Uuid& uuid, const Frontend* owner) {
  const auto found = objects_.find(uuid);
  if (found == objects_.end()) {
    return CheckError(ENOENT, absl::StrCat("there is no object ", Hex(uuid)));
  }
  if (found->second.owner != owner) {
    return CheckError(EACCES, absl::StrCat("object ", Hex(uuid), " is somebody else's"));
  }
  objects_.erase(found);
  return absl::OkStatus();
}

void SharedObjects::RemoveAll(const Frontend* owner) {
  for (auto entry = objects_.begin(); entry != objects_.end();) {
    entry = entry->second.owner == owner ? objects_.erase(entry) : std::next(entry);
  }
}

int SharedObjects::Find(const Uuid& uuid) const {
  const auto found = objects_.find(uuid);
  return found == objects_.end() ? -1 : found->second.fd->get();
}

}  // namespace gmem::vhost
