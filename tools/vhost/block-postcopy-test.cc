// SPDX-License-Identifier: MIT OR Apache-2.0
// gmem-vhost-blk after a postcopy migration: the pages of the guest come later.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <ios>
#include <iterator>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "block_device_test.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "program_test.h"
#include "vhost/testing/ring.h"
#include "vhost/testing/socket.h"

namespace {

using block_test::BlockDeviceTest;
using block_test::Header;
using gmem::vhost::AsBytes;
using gmem::vhost::Format;
using gmem::vhost::FromBytes;
using gmem::vhost::FrontendRequest;
using gmem::vhost::MemoryTable;
using gmem::vhost::Message;
using gmem::vhost::ProtocolFeature;
using gmem::vhost::doubles::kData;
using gmem::vhost::doubles::kWrite;
using gmem::vhost::doubles::TestGuest;

TEST_F(BlockDeviceTest, PostcopyIsOfferedOnRequest) {
  constexpr uint64_t kPagefault = gmem::vhost::Bit(ProtocolFeature::kPagefault);
  program_ = StartProgram();
  ASSERT_NO_FATAL_FAILURE(Begin(kProtocol));
  EXPECT_EQ(*Ask<FrontendRequest::kGetProtocolFeatures>() & kPagefault, 0U);
  EndSession();
  EXPECT_EQ(program_->Wait(), 0);
  program_ = StartProgram({"--postcopy"});
  ASSERT_NO_FATAL_FAILURE(Begin(kProtocol));
  EXPECT_NE(*Ask<FrontendRequest::kGetProtocolFeatures>() & kPagefault, 0U);
}

// Lets the process have only such a userfaultfd as an unprivileged user gets.
void ForbidFaultsOfTheKernel() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, UFFD_USER_MODE_ONLY, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {.len = std::size(code), .filter = code};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

class PostcopyTest : public BlockDeviceTest, public testing::WithParamInterface<bool> {
 protected:
  // Sends the memory table again. The front-end learns where the device has mapped it.
  void SendTable() {
    const MemoryTable table = {.nr_regions = 1, .padding = 0, .regions = {guest_.region()}};
    static constexpr Format kFormat = {.name = "SET_MEM_TABLE with bases",
                                       .has_reply = true,
                                       .min_reply_size = 40,
                                       .max_reply_size = 40};
    frontend_->StartFormat(
        static_cast<uint32_t>(FrontendRequest::kSetMemTable), kFormat, AsBytes(table),
        {guest_.fd()},
        [this](const absl::StatusOr<Message*>& reply) {
          ASSERT_TRUE(reply.ok()) << reply.status();
          base_ = FromBytes<MemoryTable>((*reply)->bytes()).regions[0].user_address;
        },
        /*want_ack=*/false);
    for (int i = 0; i < 5000 && base_ == 0; i++) {
      Run();
      absl::SleepFor(absl::Milliseconds(1));
    }
    ASSERT_NE(base_, 0U);
    frontend_->Start<FrontendRequest::kSetMemTable>(
        {}, {}, [](const absl::StatusOr<Message*>&) {}, /*want_ack=*/false);
  }

  // Begins a request to write a page to the disk that doesn't come yet, with the front-end's
  // userfaultfd in faults_. Skips the test without that.
  void WriteAMissingPage();

  static constexpr uint64_t kMissing = 0x40000;
  uint64_t base_ = 0;
  gmem::UniqueFd faults_;
};

void PostcopyTest::WriteAMissingPage() {
  program_ =
      StartProgram({"--postcopy"}, GetParam() ? ForbidFaultsOfTheKernel : std::function<void()>());
  ASSERT_NO_FATAL_FAILURE(Begin(kProtocol | gmem::vhost::Bit(ProtocolFeature::kPagefault)));
  ASSERT_TRUE(Ask<FrontendRequest::kPostcopyAdvise>().ok());
  if (reply_fds_.size() == 0) GTEST_SKIP() << "userfaultfd is forbidden here";
  faults_ = reply_fds_.Take(0);
  ASSERT_TRUE(Ask<FrontendRequest::kPostcopyListen>().ok());
  // The rings and the request are there.
  std::memset(guest_.at(0), 0, TestGuest::kData + 4096);
  ASSERT_NO_FATAL_FAILURE(SendTable());
  ASSERT_NO_FATAL_FAILURE(StartQueue());

  const std::string header = Header(VIRTIO_BLK_T_OUT, 1);
  std::memcpy(guest_.at(TestGuest::kData), header.data(), header.size());
  ring_.Add({{kData, 16, 0}, {kData + kMissing, 4096, 0}, {kData + 0x100, 1, kWrite}});
  Kick();
  pollfd ready = {.fd = faults_.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&ready, 1, gmem::vhost::doubles::kPatienceMilliseconds), 1);
}

TEST_P(PostcopyTest, RequestsWaitForTheirPages) {
  ASSERT_NO_FATAL_FAILURE(WriteAMissingPage());
  if (!faults_) return;
  const std::string page(4096, 'p');
  uffdio_copy copy = {};
  copy.dst = base_ + TestGuest::kData + kMissing;
  copy.src = reinterpret_cast<uintptr_t>(page.data());
  copy.len = page.size();
  EXPECT_EQ(ioctl(faults_.get(), UFFDIO_COPY, &copy), 0) << errno;
  ASSERT_TRUE(AwaitUsed());
  EXPECT_EQ(*guest_.at(TestGuest::kData + 0x100), VIRTIO_BLK_S_OK);
  EXPECT_EQ(ReadFile(4096, 512), page);
  EXPECT_EQ(*Ask<FrontendRequest::kPostcopyEnd>(), 0U);
}

// Nobody will bring the page. It must not be zeroes then.
class PostcopyEndTest : public PostcopyTest {
 protected:
  void Begin() {
    std::ofstream file(path_, std::ios::in);
    file << old_;
    ASSERT_TRUE(file.flush().good());
    ASSERT_NO_FATAL_FAILURE(WriteAMissingPage());
  }
  void ExpectEnd() {
    const int status = program_->Wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
    EXPECT_THAT(program_->Errors(), testing::HasSubstr("the program ends, too"));
    EXPECT_EQ(ReadFile(block_test::kFileSize), old_);
  }

  const std::string old_ = std::string(block_test::kFileSize, 'd');
};

TEST_P(PostcopyEndTest, TheProgramEndsWithTheFrontend) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  if (!faults_) return;
  EndSession();
  ExpectEnd();
}

TEST_P(PostcopyEndTest, SigtermEndsTheProgram) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  if (!faults_) return;
  kill(program_->pid(), SIGTERM);
  ExpectEnd();
}

INSTANTIATE_TEST_SUITE_P(WithoutPrivileges, PostcopyTest, testing::Bool());
INSTANTIATE_TEST_SUITE_P(WithoutPrivileges, PostcopyEndTest, testing::Bool());

}  // namespace
