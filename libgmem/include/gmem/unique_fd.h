// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_UNIQUE_FD_H_
#define GMEM_UNIQUE_FD_H_

#include <utility>

#include "absl/status/statusor.h"

namespace gmem {

/// The owner of a file descriptor: closes it at the end of its life. Move-only.
///
/// @par Thread safety
/// Thread-safe: get(), is_valid(), operator bool(), Duplicate().\n
/// Needs exclusive access: release(), reset(), moving, destroying.
class UniqueFd {
 public:
  /// Owns nothing.
  UniqueFd() = default;
  /// Takes @p fd over; a negative one is nothing.
  explicit UniqueFd(int fd) : fd_(fd < 0 ? -1 : fd) {}

  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  /// The descriptor, still owned; -1 if there is none.
  int get() const { return fd_; }
  bool is_valid() const { return fd_ >= 0; }
  explicit operator bool() const { return is_valid(); }

  /// Gives the descriptor away; -1 if there is none.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

  /// Closes what is owned, and takes @p fd over. errno stays as it was.
  void reset(int fd = -1);

  /// Another descriptor, close-on-exec, for the same open file.
  absl::StatusOr<UniqueFd> Duplicate() const { return Duplicate(fd_); }

  /// The same for a descriptor that somebody else owns.
  static absl::StatusOr<UniqueFd> Duplicate(int fd);

 private:
  int fd_ = -1;
};

}  // namespace gmem

#endif  // GMEM_UNIQUE_FD_H_
