// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/numa.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem::kvm {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr ByteRange kSecond = {ByteOffset(kPage), ByteSize(kPage)};

class KvmNumaTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(ftruncate(file_.get(), 4 * kPage), 0);
    if (syscall(SYS_get_mempolicy, nullptr, nullptr, 0, nullptr, 0) != 0) {
      GTEST_SKIP() << "the kernel has no NUMA";
    }
  }

  // The policy that the next allocation of the page will follow.
  int Mode(uint64_t page) const {
    const Mapping mapping =
        *Mapping::OfFile(file_.get(), {.offset = ByteOffset(page * kPage), .size = KiB(4)});
    int mode = -1;
    EXPECT_EQ(syscall(SYS_get_mempolicy, &mode, nullptr, 0, mapping.data(), MPOL_F_ADDR), 0);
    return mode;
  }

  UniqueFd file_{memfd_create("file", MFD_CLOEXEC)};
};

TEST_F(KvmNumaTest, EachModeForARange) {
  const std::pair<NumaMode, int> modes[] = {{NumaMode::kPreferred, MPOL_PREFERRED},
                                            {NumaMode::kInterleave, MPOL_INTERLEAVE},
                                            {NumaMode::kBind, MPOL_BIND}};
  for (const auto& [mode, expected] : modes) {
    const absl::Status status = SetNumaPolicy(file_.get(), kSecond, {.mode = mode, .nodes = {0}});
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(Mode(1), expected);
    EXPECT_EQ(Mode(0), MPOL_DEFAULT);
    EXPECT_EQ(Mode(2), MPOL_DEFAULT);
  }
  const absl::Status status = SetNumaPolicy(file_.get(), kSecond, {});
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Mode(1), MPOL_DEFAULT);
}

TEST_F(KvmNumaTest, RefusesInvalidPolicies) {
  const NumaPolicy bad[] = {
      {.mode = NumaMode::kDefault, .nodes = {0}},
      {.mode = NumaMode::kBind, .nodes = {}},
      {.mode = NumaMode::kPreferred, .nodes = {}},
      {.mode = NumaMode::kPreferred, .nodes = {0, 1}},
      {.mode = NumaMode::kInterleave, .nodes = {-1}},
      {.mode = NumaMode::kBind, .nodes = {1024}},
      // No machine that runs this test has so many nodes.
      {.mode = NumaMode::kBind, .nodes = {1023}},
      {.mode = NumaMode::kInterleave, .nodes = {0, 1023}},
  };
  for (const NumaPolicy& policy : bad) {
    const absl::Status status = SetNumaPolicy(file_.get(), kSecond, policy);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
  EXPECT_EQ(Mode(1), MPOL_DEFAULT);
}

TEST_F(KvmNumaTest, RefusesInvalidRanges) {
  const NumaPolicy policy = {.mode = NumaMode::kBind, .nodes = {0}};
  EXPECT_EQ(GetErrno(SetNumaPolicy(file_.get(), {ByteOffset(0), ByteSize(1)}, policy)), EINVAL);
  EXPECT_EQ(GetErrno(SetNumaPolicy(file_.get(), {ByteOffset(0), ByteSize(0)}, policy)), EINVAL);
  EXPECT_EQ(GetErrno(SetNumaPolicy(file_.get(), {ByteOffset(1), ByteSize(kPage)}, policy)), EINVAL);
}

// A file on a disk's file system: mbind() would succeed, but only for its own mapping.
TEST_F(KvmNumaTest, FilesThatKeepNone) {
  std::string path = "/proc/self/exe";
  const UniqueFd self(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(GetErrno(SetNumaPolicy(self.get(), kSecond, {})), EACCES);

  path = testing::TempDir() + "gmem-numa-XXXXXX";
  const UniqueFd file(mkostemp(path.data(), O_CLOEXEC));
  ASSERT_TRUE(file.is_valid());
  unlink(path.c_str());
  ASSERT_EQ(ftruncate(file.get(), 4 * kPage), 0);
  const absl::Status status =
      SetNumaPolicy(file.get(), kSecond, {.mode = NumaMode::kBind, .nodes = {0}});
  if (status.ok()) GTEST_SKIP() << testing::TempDir() << " is on a tmpfs";
  EXPECT_EQ(GetErrno(status), EOPNOTSUPP);
  EXPECT_THAT(std::string(status.message()), HasSubstr("keeps no NUMA policy"));
}

}  // namespace
}  // namespace gmem::kvm
