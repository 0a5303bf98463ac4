// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "gmem/status.h"

namespace gmem {
namespace {

int OpenNull() { return open("/dev/null", O_RDWR | O_CLOEXEC); }
bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFdTest, OwnsNothingByDefault) {
  UniqueFd fd;
  EXPECT_FALSE(fd);
  EXPECT_EQ(fd.get(), -1);
  EXPECT_EQ(UniqueFd(-5).get(), -1);
}

TEST(UniqueFdTest, ClosesAtTheEnd) {
  const int raw = OpenNull();
  {
    UniqueFd fd(raw);
    EXPECT_TRUE(IsOpen(raw));
  }
  EXPECT_FALSE(IsOpen(raw));
}

TEST(UniqueFdTest, MoveLeavesNothingBehind) {
  const int raw = OpenNull();
  UniqueFd a(raw);
  UniqueFd b(std::move(a));
  EXPECT_FALSE(a.is_valid());  // NOLINT(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
  EXPECT_EQ(b.get(), raw);

  const int other = OpenNull();
  UniqueFd c(other);
  c = std::move(b);
  EXPECT_EQ(c.get(), raw);
  EXPECT_FALSE(IsOpen(other));
}

TEST(UniqueFdTest, MoveOntoItselfKeeps) {
  UniqueFd fd(OpenNull());
  UniqueFd& same = fd;
  fd = std::move(same);
  EXPECT_TRUE(IsOpen(fd.get()));
}

TEST(UniqueFdTest, ReleaseGivesAway) {
  UniqueFd fd(OpenNull());
  const int raw = fd.release();
  EXPECT_FALSE(fd);
  EXPECT_TRUE(IsOpen(raw));
  close(raw);
}

TEST(UniqueFdTest, ResetKeepsErrno) {
  UniqueFd fd(OpenNull());
  errno = EXDEV;
  fd.reset();
  EXPECT_EQ(errno, EXDEV);
  EXPECT_FALSE(fd);
}

TEST(UniqueFdTest, DuplicateIsAnother) {
  UniqueFd fd(OpenNull());
  auto copy = fd.Duplicate();
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_NE(copy->get(), fd.get());
  EXPECT_TRUE(fcntl(copy->get(), F_GETFD) & FD_CLOEXEC);
}

TEST(UniqueFdTest, DuplicateOfNothing) {
  auto copy = UniqueFd().Duplicate();
  EXPECT_EQ(GetErrno(copy.status()), EBADF) << copy.status();
}

}  // namespace
}  // namespace gmem
