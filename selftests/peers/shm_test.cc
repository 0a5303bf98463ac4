// SPDX-License-Identifier: MIT OR Apache-2.0
// gmem-vhost-shm with QEMU's front-end. The driver asks the device to map a file. The guest and a
// process that has the file open see each other's writes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "lib/peer.h"
#include "lib/qemu_device.h"
#include "shm_protocol.h"

namespace gmem::vhost::peers {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kFileSize = 16 * kPage;
constexpr uint64_t kRegionSize = 4 << 20;
constexpr uint8_t kShmid = 3;
constexpr uint64_t kShmOffset = 1 << 20;

class ShmDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(file()).close();
    ASSERT_EQ(truncate(file().c_str(), kFileSize), 0);
    fd_.reset(open(file().c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fd_);
  }

  std::string file() const { return scratch_.path("file"); }

  void StartDevice(const std::vector<std::string>& options = {}) {
    const char* const tools = getenv("GMEM_TOOLS");
    std::vector<std::string> command = {
        std::string(tools == nullptr ? "." : tools) + "/gmem-vhost-shm",
        "--socket-path=" + scratch_.path("device"), "--shmid=" + std::to_string(kShmid),
        "--size=" + std::to_string(kRegionSize), "--queues=2"};
    command.insert(command.end(), options.begin(), options.end());
    auto device = Peer::Start(command);
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    // QEMU tries to connect only once, so wait for the socket.
    for (int i = 0; i < 1000 && access(scratch_.path("device").c_str(), F_OK) != 0; i++) {
      usleep(10000);
    }
  }

  void StartQemu() {
    auto qemu = QemuDevice::Start(scratch_, scratch_.path("device"), nullptr);
    ASSERT_TRUE(qemu.ok()) << qemu.status();
    qemu_ = *std::move(qemu);
    ASSERT_TRUE(qemu_->regions().contains(kShmid));
    EXPECT_EQ(qemu_->regions().size(), 1u);
    EXPECT_EQ(qemu_->regions().at(kShmid).size, kRegionSize);
    ASSERT_EQ(qemu_->StartDriver(), absl::OkStatus());
  }

  // Returns the device's answer; -1 if it gives none.
  int Ask(const ShmRequest& request) {
    const auto answer =
        qemu_->Ask({reinterpret_cast<const uint8_t*>(&request), sizeof(request)}, sizeof(uint8_t));
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? answer->at(0) : -1;
  }

  static ShmRequest Request(uint32_t op) {
    return {.op = op,
            .file = 0,
            .file_offset = op == kShmMap ? kPage : 0,
            .shm_offset = kShmOffset,
            .length = 2 * kPage,
            .flags = op == kShmMap ? kShmWritable : 0,
            .padding = 0};
  }

  std::string InGuest(uint64_t offset, size_t size) {
    const auto bytes = qemu_->qtest().ReadBytes(qemu_->regions().at(kShmid).address + offset, size);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return bytes.ok() ? std::string(bytes->begin(), bytes->end()) : std::string();
  }

  // Checks that the region has the file, from @file_offset on, at @shm_offset.
  void ExpectShared(uint64_t shm_offset, uint64_t file_offset, const std::string& mark) {
    const std::string ours = "host " + mark;
    ASSERT_EQ(pwrite(fd_.get(), ours.data(), ours.size(), static_cast<off_t>(file_offset)),
              ssize_t(ours.size()));
    EXPECT_EQ(InGuest(shm_offset, ours.size()), ours);
    const std::string theirs = "guest " + mark;
    const std::vector<uint8_t> bytes(theirs.begin(), theirs.end());
    const uint64_t address = qemu_->regions().at(kShmid).address + shm_offset + kPage;
    ASSERT_EQ(qemu_->qtest().WriteBytes(address, bytes), absl::OkStatus());
    std::string got(theirs.size(), '\0');
    ASSERT_EQ(pread(fd_.get(), got.data(), got.size(), static_cast<off_t>(file_offset + kPage)),
              ssize_t(got.size()));
    EXPECT_EQ(got, theirs);
  }
  void ExpectNotShared() { EXPECT_NE(InGuest(kShmOffset, 4), "host"); }

  ScratchFolder scratch_;
  UniqueFd fd_;
  std::optional<Peer> device_;
  std::unique_ptr<QemuDevice> qemu_;
};

TEST_F(ShmDeviceTest, MapsAndUnmapsWhenTheDriverAsks) {
  ASSERT_NO_FATAL_FAILURE(StartDevice({"--map=" + file()}));
  ASSERT_NO_FATAL_FAILURE(StartQemu());
  for (const char* const mark : {"first", "second"}) {
    ASSERT_EQ(Ask(Request(kShmMap)), kShmOk);
    ASSERT_NO_FATAL_FAILURE(ExpectShared(kShmOffset, kPage, mark));
    ASSERT_EQ(Ask(Request(kShmUnmap)), kShmOk);
    ExpectNotShared();
  }
}

TEST_F(ShmDeviceTest, PassesRefusalsToTheDriver) {
  ASSERT_NO_FATAL_FAILURE(StartDevice({"--map=" + file()}));
  ASSERT_NO_FATAL_FAILURE(StartQemu());
  EXPECT_EQ(Ask(Request(kShmUnmap)), kShmRefused);
  ShmRequest request = Request(kShmMap);
  request.shm_offset = kRegionSize;
  EXPECT_EQ(Ask(request), kShmRefused);
  request = Request(kShmMap);
  request.file = 1;
  EXPECT_EQ(Ask(request), kShmInvalid);
  EXPECT_EQ(Ask(Request(7)), kShmInvalid);
  EXPECT_EQ(Ask(Request(kShmMap)), kShmOk);
  // The place is taken.
  EXPECT_EQ(Ask(Request(kShmMap)), kShmRefused);
  ASSERT_NO_FATAL_FAILURE(ExpectShared(kShmOffset, kPage, "still"));
}

// QEMU aborts at a mapping that outlives the reset, so the driver asks for an unmap before.
TEST_F(ShmDeviceTest, MapsAgainAfterAReset) {
  ASSERT_NO_FATAL_FAILURE(StartDevice({"--map=" + file()}));
  ASSERT_NO_FATAL_FAILURE(StartQemu());
  for (const char* const mark : {"first", "second", "third"}) {
    ASSERT_EQ(Ask(Request(kShmMap)), kShmOk);
    ASSERT_NO_FATAL_FAILURE(ExpectShared(kShmOffset, kPage, mark));
    ASSERT_EQ(Ask(Request(kShmUnmap)), kShmOk);
    ASSERT_EQ(qemu_->Reset(), absl::OkStatus());
    ASSERT_EQ(qemu_->StartDriver(), absl::OkStatus());
  }
}

// QEMU doesn't send DRIVER_OK to this device, and the driver never kicks.
TEST_F(ShmDeviceTest, MapsAtTheStart) {
  ASSERT_NO_FATAL_FAILURE(
      StartDevice({"--map=" + file() + "@" + std::to_string(kShmOffset), "--at-start"}));
  ASSERT_EQ(pwrite(fd_.get(), "host", 4, 0), 4);
  ASSERT_NO_FATAL_FAILURE(StartQemu());
  for (int i = 0; i < 1000 && InGuest(kShmOffset, 4) != "host"; i++) usleep(10000);
  ASSERT_NO_FATAL_FAILURE(ExpectShared(kShmOffset, 0, "at once"));
}

// QEMU ends while a file is mapped. The device waits for the next QEMU.
TEST_F(ShmDeviceTest, ServesTheNextQemu) {
  ASSERT_NO_FATAL_FAILURE(StartDevice({"--map=" + file()}));
  for (const char* const mark : {"first", "second", "third"}) {
    ASSERT_NO_FATAL_FAILURE(StartQemu());
    ExpectNotShared();
    ASSERT_EQ(Ask(Request(kShmMap)), kShmOk);
    ASSERT_NO_FATAL_FAILURE(ExpectShared(kShmOffset, kPage, mark));
    qemu_.reset();
    ASSERT_TRUE(device_->is_running());
  }
}

}  // namespace
}  // namespace gmem::vhost::peers
