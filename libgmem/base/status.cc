// SPDX-License-Identifier: MIT OR Apache-2.0
#include "base/status.h"

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace gmem {
namespace {

// A type URL names a status payload; this URL is the library's own.
constexpr char kErrnoUrl[] = "type.gmem/errno";

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case EBUSY:
      return absl::StatusCode::kUnavailable;
    case E2BIG:
    case ENOTTY:
    case EOPNOTSUPP:
      return absl::StatusCode::kUnimplemented;
    case EIO:
      return absl::StatusCode::kInternal;
    case EBADMSG:
    case EHWPOISON:
      return absl::StatusCode::kDataLoss;
    case ENOMEM:
      return absl::StatusCode::kResourceExhausted;
    default:
      return absl::ErrnoToStatusCode(error);
  }
}

}  // namespace

std::optional<int> GetErrno(const absl::Status& status) {
  const auto payload = status.GetPayload(kErrnoUrl);
  if (!payload) return std::nullopt;
  std::string text;
  absl::CopyCordToString(*payload, &text);
  int error = 0;
  if (!absl::SimpleAtoi(text, &error)) return std::nullopt;
  return error;
}

namespace internal {

absl::Status CheckError(int error, absl::string_view message) {
  absl::Status status(CodeOf(error), message);
  status.SetPayload(kErrnoUrl, absl::Cord(absl::StrCat(error)));
  return status;
}

absl::Status ErrnoError(int error, absl::string_view message) {
  const char* const name = strerrorname_np(error);
  if (name == nullptr) return CheckError(error, absl::StrCat(message, ": errno ", error));
  return CheckError(error, absl::StrCat(message, ": ", strerrordesc_np(error), " (", name, ")"));
}

}  // namespace internal
}  // namespace gmem
