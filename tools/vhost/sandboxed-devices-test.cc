// SPDX-License-Identifier: MIT OR Apache-2.0
// The programs work in their sandboxes. block-device-test.cc has the disk's part.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "program_test.h"
#include "shm_protocol.h"
#include "vhost/testing/ring.h"
#include "virtio_net.h"

namespace {

using gmem::vhost::FrontendRequest;
using gmem::vhost::Message;
using gmem::vhost::ProtocolFeature;
using gmem::vhost::doubles::kData;
using gmem::vhost::doubles::kWrite;
using gmem::vhost::doubles::TestGuest;
using gmem::vhost::doubles::Used;

class SandboxedDevicesTest : public ProgramTest {
 protected:
  // A line of the program's status.
  bool HasStatus(const std::string& line) const {
    std::ifstream status(absl::StrCat("/proc/", program_->pid(), "/status"));
    for (std::string next; std::getline(status, next);) {
      if (next == line) return true;
    }
    return false;
  }
  static constexpr uint64_t kProtocol = gmem::vhost::Bit(ProtocolFeature::kReplyAck) |
                                        gmem::vhost::Bit(ProtocolFeature::kConfig) |
                                        gmem::vhost::Bit(ProtocolFeature::kMq);
};

TEST_F(SandboxedDevicesTest, TheUserMayGoWithoutOne) {
  std::array<int, 2> link;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, link.data()), 0);
  const gmem::UniqueFd its_end(link[0]);
  const gmem::UniqueFd our_end(link[1]);
  for (const bool is_on : {true, false}) {
    program_ = std::make_unique<Program>(
        std::vector<std::string>{"gmem-vhost-net", absl::StrCat("--link-fds=", its_end.get()),
                                 absl::StrCat("--sandbox=", is_on ? "on" : "off")});
    ASSERT_NO_FATAL_FAILURE(Begin(kProtocol));
    EXPECT_EQ(HasStatus("Seccomp:\t2"), is_on);
    EXPECT_EQ(HasStatus("NoNewPrivs:\t1"), is_on);
    EndSession();
    EXPECT_EQ(program_->Wait(), 0);
  }
}

TEST_F(SandboxedDevicesTest, NetReceivesAndSends) {
  std::array<int, 2> link;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, link.data()), 0);
  const gmem::UniqueFd its_end(link[0]);
  const gmem::UniqueFd our_end(link[1]);
  program_ = std::make_unique<Program>(
      std::vector<std::string>{"gmem-vhost-net", absl::StrCat("--link-fds=", its_end.get())});
  ASSERT_NO_FATAL_FAILURE(Begin(kProtocol));
  EXPECT_TRUE(HasStatus("Seccomp:\t2"));
  ASSERT_NO_FATAL_FAILURE(StartQueue(0));
  ring_.Add({{kData, 200, kWrite}});
  Kick();
  ASSERT_EQ(send(our_end.get(), "a frame", 7, 0), 7);
  std::optional<Used> used = AwaitUsed();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, sizeof(virtio_net_hdr_v1) + 7);
  EXPECT_EQ(std::memcmp(guest_.at(TestGuest::kData + sizeof(virtio_net_hdr_v1)), "a frame", 7), 0);
  ASSERT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  ASSERT_NO_FATAL_FAILURE(StartQueue(1, /*base=*/1));
  std::memset(guest_.at(TestGuest::kData), 0, sizeof(virtio_net_hdr_v1));
  ring_.Add({{kData, sizeof(virtio_net_hdr_v1) + 7, 0}});
  Kick();
  ASSERT_TRUE(AwaitUsed());
  std::array<char, 100> frame;
  EXPECT_EQ(recv(our_end.get(), frame.data(), frame.size(), MSG_DONTWAIT), 7);
  EndSession();
  EXPECT_EQ(program_->Wait(), 0);
}

TEST_F(SandboxedDevicesTest, ShmMapsAFile) {
  std::string path = std::filesystem::temp_directory_path() / "gmem-shm-test.XXXXXX";
  const gmem::UniqueFd file(mkstemp(path.data()));
  ASSERT_EQ(ftruncate(file.get(), 4096), 0);
  program_ = std::make_unique<Program>(std::vector<std::string>{"gmem-vhost-shm", "--map=" + path});
  ASSERT_NO_FATAL_FAILURE(Begin(gmem::vhost::Bit(ProtocolFeature::kReplyAck) |
                                gmem::vhost::Bit(ProtocolFeature::kBackendReq) |
                                gmem::vhost::Bit(ProtocolFeature::kBackendSendFd) |
                                gmem::vhost::Bit(ProtocolFeature::kShmemMap)));
  unlink(path.c_str());
  EXPECT_TRUE(HasStatus("Seccomp:\t2"));
  ASSERT_NO_FATAL_FAILURE(StartQueue());
  OpenChannel();
  guest_.Put(TestGuest::kData, ShmRequest{.op = kShmMap,
                                          .file = 0,
                                          .file_offset = 0,
                                          .shm_offset = 0,
                                          .length = 4096,
                                          .flags = 0,
                                          .padding = 0});
  ring_.Add({{kData, sizeof(ShmRequest), 0}, {kData + 0x100, 1, kWrite}});
  Kick();
  Message* message = nullptr;
  for (int i = 0; i < 5000 && message == nullptr; i++) {
    message = NextOfChannel();
    absl::SleepFor(absl::Milliseconds(1));
  }
  ASSERT_NE(message, nullptr);
  EXPECT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
  ASSERT_TRUE(AwaitUsed());
  EXPECT_EQ(*guest_.at(TestGuest::kData + 0x100), kShmOk);
  EndSession();
  EXPECT_EQ(program_->Wait(), 0);
}

}  // namespace
