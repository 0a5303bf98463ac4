// SPDX-License-Identifier: MIT OR Apache-2.0
#include "base/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <utility>

namespace gmem::internal {
namespace {

using testing::HasSubstr;

TEST(StatusTest, CodeAndErrnoOfEveryDocumentedErrno) {
  constexpr std::pair<int, absl::StatusCode> kCases[] = {
      {ENOTTY, absl::StatusCode::kUnimplemented},
      {EOPNOTSUPP, absl::StatusCode::kUnimplemented},
      {E2BIG, absl::StatusCode::kUnimplemented},
      {EINVAL, absl::StatusCode::kInvalidArgument},
      {EOVERFLOW, absl::StatusCode::kOutOfRange},
      {EBADF, absl::StatusCode::kFailedPrecondition},
      {EACCES, absl::StatusCode::kPermissionDenied},
      {EPERM, absl::StatusCode::kPermissionDenied},
      {EEXIST, absl::StatusCode::kAlreadyExists},
      {EALREADY, absl::StatusCode::kAlreadyExists},
      {ENOENT, absl::StatusCode::kNotFound},
      {EBUSY, absl::StatusCode::kUnavailable},
      {EIO, absl::StatusCode::kInternal},
      {EHWPOISON, absl::StatusCode::kDataLoss},
      {ENOMEM, absl::StatusCode::kResourceExhausted},
      {ENOSPC, absl::StatusCode::kResourceExhausted},
      {EINTR, absl::StatusCode::kUnavailable},
  };
  for (const auto& [error, code] : kCases) {
    const absl::Status status = ErrnoError(error, "x");
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_EQ(GetErrno(status), error) << status;
  }
}

TEST(StatusTest, MessageNamesTheErrno) {
  EXPECT_EQ(ErrnoError(EINVAL, "can't do 7").message(), "can't do 7: Invalid argument (EINVAL)");
  EXPECT_THAT(std::string(ErrnoError(9999, "can't").message()), HasSubstr("errno 9999"));
  EXPECT_EQ(CheckError(EINVAL, "7 isn't 8").message(), "7 isn't 8");
}

TEST(StatusTest, NoErrno) {
  EXPECT_EQ(GetErrno(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(GetErrno(absl::InternalError("x")), std::nullopt);
}

absl::StatusOr<int> Twice(absl::StatusOr<int> value) {
  GMEM_ASSIGN_OR_RETURN(const int number, std::move(value));
  return 2 * number;
}

TEST(StatusTest, Macros) {
  EXPECT_EQ(*Twice(2), 4);
  EXPECT_EQ(GetErrno(Twice(ErrnoError(EIO, "x")).status()), EIO);
}

}  // namespace
}  // namespace gmem::internal
