// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/wire/file_type.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "gmem/unique_fd.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost::wire_internal {
namespace {

TEST(FileTypeTest, KnowsWhatPeersSend) {
  std::array<int, 2> ends;
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  EXPECT_EQ(FileType(out.get()), S_IFIFO);
  EXPECT_EQ(FileType(in.get()), S_IFIFO);
  EXPECT_EQ(FileType(socket.get()), S_IFSOCK);
  EXPECT_EQ(FileType(doubles::NewFile(1).get()), S_IFREG);
  EXPECT_EQ(FileType(event.get()), 0U) << "no file of any type";
  EXPECT_EQ(FileType(-1), std::nullopt);
}

}  // namespace
}  // namespace gmem::vhost::wire_internal
