// SPDX-License-Identifier: MIT OR Apache-2.0
// The library's channels against QEMU's front-end. A scripted back-end maps files into the
// device's shared memory, and the test compares the file with the guest's view.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/protocol.h"
#include "lib/peer.h"
#include "lib/qemu_device.h"
#include "lib/scripted_backend.h"

namespace gmem::vhost::peers {
namespace {

constexpr uint64_t kRegionSize = 4 << 20;
constexpr uint8_t kShmid = 1;
constexpr uint64_t kFileSize = 64 << 10;
constexpr ShmemMapping kMapping = {.shmid = kShmid,
                                   .padding = {},
                                   .fd_offset = 4096,
                                   .shm_offset = 1 << 20,
                                   .len = 8192,
                                   .flags = kShmemMapRw};

class QemuShmemTest : public testing::Test {
 protected:
  void SetUp() override {
    auto listener = Listener::Create(scratch_.path("device"));
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
    backend_.emplace(&*listener_, ScriptedBackend::Options{.shmem_sizes = {0, kRegionSize}});
    file_.reset(memfd_create("mapped", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(file_.get(), kFileSize), 0);
    ASSERT_NO_FATAL_FAILURE(StartQemu());
  }

  void StartQemu() {
    auto qemu = QemuDevice::Start(scratch_, scratch_.path("device"), [this] { backend_->Step(); });
    ASSERT_TRUE(qemu.ok()) << qemu.status();
    qemu_ = *std::move(qemu);
    ASSERT_TRUE(qemu_->regions().contains(kShmid));
    EXPECT_EQ(qemu_->regions().at(kShmid).size, kRegionSize);
  }

  void Start() {
    ASSERT_EQ(qemu_->StartDriver(), absl::OkStatus());
    ASSERT_TRUE(backend_->StepUntil([this] { return backend_->is_enabled(1); }));
    ASSERT_TRUE(backend_->has_backend_channel());
  }

  uint64_t GuestAddress(uint64_t offset) const {
    return qemu_->regions().at(kShmid).address + offset;
  }

  // Each side sees what the other writes.
  void ExpectShared(const std::string& mark) {
    const std::string ours = "device " + mark;
    ASSERT_EQ(pwrite(file_.get(), ours.data(), ours.size(), 4096), ssize_t(ours.size()));
    EXPECT_EQ(InGuest(kMapping.shm_offset, ours.size()), ours);
    const std::string theirs = "guest " + mark;
    const std::vector<uint8_t> bytes(theirs.begin(), theirs.end());
    ASSERT_EQ(qemu_->qtest().WriteBytes(GuestAddress(kMapping.shm_offset + 4096), bytes),
              absl::OkStatus());
    std::string got(theirs.size(), '\0');
    ASSERT_EQ(pread(file_.get(), got.data(), got.size(), 8192), ssize_t(got.size()));
    EXPECT_EQ(got, theirs);
  }

  std::string InGuest(uint64_t offset, size_t size) {
    const auto bytes = qemu_->qtest().ReadBytes(GuestAddress(offset), size);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return bytes.ok() ? std::string(bytes->begin(), bytes->end()) : std::string();
  }

  ScratchFolder scratch_;
  std::optional<Listener> listener_;
  std::optional<ScriptedBackend> backend_;
  std::unique_ptr<QemuDevice> qemu_;
  UniqueFd file_;
};

TEST_F(QemuShmemTest, MapsAndUnmaps) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_EQ(backend_->Map(kMapping, file_.get()), absl::OkStatus());
  ASSERT_NO_FATAL_FAILURE(ExpectShared("first"));
  ASSERT_EQ(backend_->Unmap(kMapping), absl::OkStatus());
  EXPECT_NE(InGuest(kMapping.shm_offset, 6), "device");
}

// QEMU aborts at a mapping that outlives the reset, so the test unmaps before.
TEST_F(QemuShmemTest, MapsAgainAfterAReset) {
  for (const char* const mark : {"first", "second", "third"}) {
    ASSERT_NO_FATAL_FAILURE(Start());
    ASSERT_EQ(backend_->Map(kMapping, file_.get()), absl::OkStatus());
    ASSERT_NO_FATAL_FAILURE(ExpectShared(mark));
    ASSERT_EQ(backend_->Unmap(kMapping), absl::OkStatus());
    ASSERT_EQ(qemu_->Reset(), absl::OkStatus());
    ASSERT_TRUE(backend_->StepUntil([this] { return !backend_->is_enabled(1); }));
  }
}

// QEMU's test device never connects again by itself, so the test starts another QEMU.
TEST_F(QemuShmemTest, MapsAgainForTheNextQemu) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_EQ(backend_->Map(kMapping, file_.get()), absl::OkStatus());
  ASSERT_NO_FATAL_FAILURE(ExpectShared("first"));
  qemu_.reset();
  ASSERT_TRUE(backend_->StepUntil([this] { return !backend_->is_connected(); }));
  EXPECT_EQ(backend_->status().code(), absl::StatusCode::kUnavailable) << backend_->status();

  ASSERT_NO_FATAL_FAILURE(StartQemu());
  ASSERT_NO_FATAL_FAILURE(Start());
  EXPECT_NE(InGuest(kMapping.shm_offset, 6), "device");
  ASSERT_EQ(backend_->Map(kMapping, file_.get()), absl::OkStatus());
  ASSERT_NO_FATAL_FAILURE(ExpectShared("second"));
}

TEST_F(QemuShmemTest, ReportsRefusedRequests) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ShmemMapping bad = kMapping;
  bad.shm_offset = kRegionSize;
  EXPECT_EQ(backend_->Map(bad, file_.get()).code(), absl::StatusCode::kInternal);
  bad = kMapping;
  bad.shmid = 7;
  EXPECT_EQ(backend_->Map(bad, file_.get()).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(backend_->Unmap(kMapping).code(), absl::StatusCode::kInternal);
  // The channel still works.
  EXPECT_EQ(backend_->Map(kMapping, file_.get()), absl::OkStatus());
  EXPECT_EQ(backend_->Map(kMapping, file_.get()).code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace gmem::vhost::peers
