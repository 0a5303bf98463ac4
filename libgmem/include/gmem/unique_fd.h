// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_UNIQUE_FD_H_
#define GMEM_UNIQUE_FD_H_

#include <utility>

#include "absl/status/statusor.h"

namespace gmem {

/// Owns a file descriptor, and closes it when destroyed. Move-only.
///
/// @par Thread safety
/// Thread-safe: get(), is_valid(), operator bool(), Duplicate().\n
/// Needs exclusive access: release(), reset(), moving, destroying.
class UniqueFd {
 public:
  /// Owns nothing.
  UniqueFd() = default;
  /// Takes over @p fd. If @p fd is negative, the object owns nothing.
  explicit UniqueFd(int fd) : fd_(fd < 0 ? -1 : fd) {}

  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  /// The descriptor, which the object still owns; -1 if it owns nothing.
  int get() const { return fd_; }
  bool is_valid() const { return fd_ >= 0; }
  explicit operator bool() const { return is_valid(); }

  /// Gives the descriptor to the caller, who must close it; -1 if the object owns nothing.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

  /// Closes the owned descriptor, if any, and takes over @p fd. Preserves errno.
  void reset(int fd = -1);

  /// Returns another descriptor, close-on-exec, for the same open file.
  absl::StatusOr<UniqueFd> Duplicate() const { return Duplicate(fd_); }

  /// Duplicates a descriptor that belongs to another owner.
  static absl::StatusOr<UniqueFd> Duplicate(int fd);

 private:
  int fd_ = -1;
};

}  // namespace gmem

#endif  // GMEM_UNIQUE_FD_H_
