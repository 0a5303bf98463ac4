// SPDX-License-Identifier: MIT OR Apache-2.0
// A fixture: gmem-vhost-blk, driven by a scripted front-end and a scripted driver.
#ifndef GMEM_TOOLS_VHOST_BLOCK_DEVICE_TEST_H_
#define GMEM_TOOLS_VHOST_BLOCK_DEVICE_TEST_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "program_test.h"
#include "vhost/testing/ring.h"

namespace block_test {

using gmem::vhost::ConfigSpace;
using gmem::vhost::FromBytes;
using gmem::vhost::FrontendRequest;
using gmem::vhost::ProtocolFeature;
using gmem::vhost::doubles::kData;
using gmem::vhost::doubles::kWrite;
using gmem::vhost::doubles::Piece;
using gmem::vhost::doubles::TestGuest;

inline constexpr uint64_t kFileSize = 1 << 20;

template <typename T>
std::string Bytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

inline std::string Header(uint32_t type, uint64_t sector = 0) {
  return Bytes(virtio_blk_outhdr{.type = type, .ioprio = 0, .sector = sector});
}

class BlockDeviceTest : public ProgramTest {
 protected:
  BlockDeviceTest() : path_(std::filesystem::temp_directory_path() / "gmem-disk-test.XXXXXX") {
    const int fd = mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    EXPECT_EQ(ftruncate(fd, kFileSize), 0);
    close(fd);
  }
  ~BlockDeviceTest() override { unlink(path_.c_str()); }

  std::unique_ptr<Program> StartProgram(const std::vector<std::string>& more = {},
                                        const std::function<void()>& before = {}) const {
    std::vector<std::string> words = {"gmem-vhost-blk", "--blk-file=" + path_};
    words.insert(words.end(), more.begin(), more.end());
    return std::make_unique<Program>(words, before);
  }
  // Starts the program and one virtqueue, with all features except @without.
  void Start(const std::vector<std::string>& more = {}, uint64_t without = 0) {
    program_ = StartProgram(more);
    ASSERT_NO_FATAL_FAILURE(Begin(kProtocol, without));
    ASSERT_NO_FATAL_FAILURE(StartQueue());
  }
  // Sends one request of the driver: the bytes of @readable, and room for an answer.
  std::optional<uint32_t> Request(const std::string& readable, uint32_t writable) {
    std::memcpy(guest_.at(TestGuest::kData), readable.data(), readable.size());
    std::memset(guest_.at(kAnswer), 0xee, writable);
    std::vector<Piece> pieces = {{kData, static_cast<uint32_t>(readable.size()), 0},
                                 {TestGuest::kGuest + kAnswer, writable, kWrite}};
    if (writable == 0) pieces.pop_back();
    ring_.Add(pieces);
    Kick();
    const auto used = AwaitUsed();
    if (!used) return std::nullopt;
    return used->written;
  }
  std::string Answer(uint32_t size) const {
    return {reinterpret_cast<const char*>(guest_.at(kAnswer)), size};
  }
  // Returns the status byte of the answer; -1 if there is no answer.
  int Status(const std::string& readable, uint32_t size = 0) {
    if (!Request(readable, size + 1)) return -1;
    return static_cast<uint8_t>(Answer(size + 1).back());
  }
  virtio_blk_config Config() {
    const auto reply = Ask<FrontendRequest::kGetConfig>(
        {.offset = 0, .size = sizeof(virtio_blk_config), .flags = 0, .bytes = {}});
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? FromBytes<virtio_blk_config>(reply->bytes) : virtio_blk_config{};
  }
  absl::Status WriteConfig(uint32_t offset, const std::string& bytes, uint32_t flags = 0) {
    ConfigSpace config = {
        .offset = offset, .size = static_cast<uint32_t>(bytes.size()), .flags = flags, .bytes = {}};
    std::memcpy(config.bytes.data(), bytes.data(), bytes.size());
    return Ask<FrontendRequest::kSetConfig>(config).status();
  }
  bool Offers(unsigned feature) const { return (features_ >> feature & 1) != 0; }
  std::string ReadFile(size_t size, off_t offset = 0) const {
    std::string bytes(size, '\xee');
    const gmem::UniqueFd fd(open(path_.c_str(), O_RDONLY));
    EXPECT_EQ(pread(fd.get(), bytes.data(), size, offset), static_cast<ssize_t>(size));
    return bytes;
  }
  // Bytes of the disk's file that take room.
  uint64_t AllocatedSize() const {
    struct stat info = {};
    EXPECT_EQ(stat(path_.c_str(), &info), 0);
    return static_cast<uint64_t>(info.st_blocks) * 512;
  }

  static constexpr uint64_t kAnswer = TestGuest::kData + 0x10000;
  static constexpr uint64_t kProtocol =
      gmem::vhost::Bit(ProtocolFeature::kReplyAck) | gmem::vhost::Bit(ProtocolFeature::kConfig) |
      gmem::vhost::Bit(ProtocolFeature::kBackendReq) |
      gmem::vhost::Bit(ProtocolFeature::kBackendSendFd) | gmem::vhost::Bit(ProtocolFeature::kMq);

  std::string path_;
};

}  // namespace block_test

#endif  // GMEM_TOOLS_VHOST_BLOCK_DEVICE_TEST_H_
