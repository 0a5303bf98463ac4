// SPDX-License-Identifier: MIT OR Apache-2.0
// From a device's SHMEM_MAP to the memory of a real KVM guest: the library's back-end and
// front-end, with gmem.ko or plain KVM.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/guest_memory.h"
#include "gmem/kvm/memory_mapper.h"
#include "gmem/kvm/memslot.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/shmem.h"
#include "gmem/vhost/virtqueue.h"
#include "gmem/vm_memory_mapper.h"
#include "gmem/window.h"
#include "testing/kvm_guest.h"
#include "testing/module.h"

namespace gmem::vhost {
namespace {

using doubles::IsOk;
using doubles::kPage;
using gmem::doubles::GuestAccess;
using gmem::doubles::KvmGuest;

constexpr uint64_t kBase = 0x40000000;
constexpr uint8_t kShmid = 1;
constexpr uint64_t kNrPages = 16;
constexpr uint64_t kPageSize = KvmGuest::kPage;

class ShmemDevice : public Device {
 public:
  uint64_t features() const override { return 0; }
  uint16_t nr_queues() const override { return 1; }
  std::vector<uint64_t> shmem_sizes() const override { return {0, kNrPages * kPageSize}; }
  absl::Status HandleQueue(Backend& /*backend*/, Virtqueue& /*queue*/) override {
    return absl::OkStatus();
  }
};

// Runs the device on a thread, as a process of its own: serves the front-end, and executes the
// test's tasks.
class DeviceThread {
 public:
  explicit DeviceThread(Connection connection)
      : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        thread_([this, moved = std::move(connection)]() mutable { Run(std::move(moved)); }) {}
  ~DeviceThread() { Stop(); }

  void Stop() {
    if (!thread_.joinable()) return;
    Do([this](Backend&) {
      stop_ = true;
      return absl::OkStatus();
    });
    thread_.join();
  }

  // Runs one task at a time.
  std::future<absl::Status> Do(std::function<absl::Status(Backend&)> work) {
    work_ = std::move(work);
    result_ = std::promise<absl::Status>();
    const uint64_t one = 1;
    EXPECT_EQ(write(wake_.get(), &one, sizeof(one)), 8);
    return result_.get_future();
  }

 private:
  void Run(Connection connection) {
    auto backend = Backend::Create(std::move(connection), device_);
    ASSERT_TRUE(backend.ok()) << backend.status();
    while (!stop_) {
      pollfd events[] = {{.fd = (*backend)->fd(), .events = POLLIN, .revents = 0},
                         {.fd = wake_.get(), .events = POLLIN, .revents = 0}};
      poll(events, 2, -1);
      uint64_t count = 0;
      if (read(wake_.get(), &count, sizeof(count)) == 8) result_.set_value(work_(**backend));
      if (!(*backend)->Process().ok()) break;
    }
  }

  ShmemDevice device_;
  const UniqueFd wake_;
  bool stop_ = false;
  std::function<absl::Status(Backend&)> work_;
  std::promise<absl::Status> result_;
  std::thread thread_;
};

enum class Host { kGmem, kKvm };

class GuestShmemTest : public doubles::ModuleTest, public testing::WithParamInterface<Host> {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ModuleTest::SetUp());
    auto guest = KvmGuest::Create();
    ASSERT_TRUE(guest.ok()) << guest.status();
    guest_ = *std::move(guest);
    ASSERT_EQ(ftruncate(file_fd_.get(), kNrPages * kPageSize), 0);
    file_ = *Mapping::OfFile(file_fd_.get(), {.size = ByteSize(kNrPages * kPageSize)});
    for (uint64_t page = 0; page < kNrPages; page++) file_.data()[page * kPageSize] = 40 + page;
    auto pair = Connection::Pair();
    ASSERT_TRUE(pair.ok());
    auto other = Connection::Adopt(std::move(pair->second));
    ASSERT_TRUE(other.ok());
    device_thread_ = std::make_unique<DeviceThread>(std::move(*other));
    Frontend::Options options;
    options.shmem_factory = [this](uint8_t shmid, ByteSize size) { return NewRegion(shmid, size); };
    auto frontend = Frontend::Create(std::move(pair->first), std::move(options));
    ASSERT_TRUE(frontend.ok()) << frontend.status();
    frontend_ = *std::move(frontend);
    ASSERT_THAT(frontend_->Negotiate(), IsOk());
    ASSERT_TRUE(frontend_->Has(ProtocolFeature::kShmemMap));
  }
  void TearDown() override {
    frontend_.reset();
    device_thread_.reset();
    slot_.reset();
    guest_.reset();
    window_.reset();
    ModuleTest::TearDown();
  }

  absl::StatusOr<ShmemRegion> NewRegion(uint8_t shmid, ByteSize size) {
    EXPECT_EQ(shmid, kShmid);
    const GuestRange range = {GuestAddress(kBase), size};
    if (GetParam() == Host::kKvm) {
      auto mapper = kvm::NewMemoryMapper(guest_->vm(), range);
      if (!mapper.ok()) return mapper.status();
      return ShmemRegion{.mapper = *std::move(mapper)};
    }
    auto window = Window::Create(NewVm({.provider = "window"}), range);
    if (!window.ok()) return window.status();
    window_ = *std::move(window);
    auto slot =
        guest_->vm().AddMemslot({.guest_address = range.start, .host = window_->HostMemory(range)});
    if (!slot.ok()) return slot.status();
    slot_ = *std::move(slot);
    auto mapper = NewVmMemoryMapper(&*window_, range);
    if (!mapper.ok()) return mapper.status();
    return ShmemRegion{.mapper = *std::move(mapper), .host = window_->data()};
  }

  static ShmemMapping MappingOf(uint64_t page, uint64_t at, uint64_t count, uint64_t flags) {
    return {.shmid = kShmid,
            .padding = {},
            .fd_offset = page * kPageSize,
            .shm_offset = at * kPageSize,
            .len = count * kPageSize,
            .flags = flags};
  }

  // Runs a task on the device's thread, and the front-end's loop until the task ends.
  absl::Status FromDevice(std::function<absl::Status(Backend&)> work) {
    auto result = device_thread_->Do(std::move(work));
    while (result.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
      absl::Status status = frontend_->Process();
      if (!status.ok()) return status;
    }
    return result.get();
  }
  absl::Status Map(int fd, const ShmemMapping& mapping) {
    return FromDevice(
        [fd, mapping](Backend& backend) { return backend.ShmemMapAndWait(mapping, fd); });
  }
  absl::Status Unmap(const ShmemMapping& mapping) {
    return FromDevice([mapping](Backend& backend) { return backend.ShmemUnmapAndWait(mapping); });
  }

  // The guest doesn't continue after the access, and the VMM gets an exit.
  void ExpectExit(const GuestAccess& access) {
    EXPECT_TRUE(access.error == EFAULT || access.error == EIO) << access.error;
  }

  std::unique_ptr<KvmGuest> guest_;
  std::optional<Window> window_;
  std::optional<kvm::Memslot> slot_;
  UniqueFd file_fd_{memfd_create("file", MFD_CLOEXEC)};
  Mapping file_;
  std::unique_ptr<DeviceThread> device_thread_;
  std::unique_ptr<Frontend> frontend_;
};

TEST_P(GuestShmemTest, AFileAppearsInTheGuest) {
  ExpectExit(guest_->Read(kBase));
  ASSERT_THAT(Map(file_fd_.get(), MappingOf(2, 4, 2, kShmemMapRw)), IsOk());
  EXPECT_EQ(guest_->Read(kBase + 4 * kPageSize).value, 42);
  EXPECT_EQ(guest_->Read(kBase + 5 * kPageSize).value, 43);
  // Each side sees the other's writes.
  ASSERT_TRUE(guest_->Write(kBase + 4 * kPageSize + 1, 7).ok());
  EXPECT_EQ(file_.data()[2 * kPageSize + 1], 7);
  file_.data()[2 * kPageSize + 2] = 8;
  EXPECT_EQ(guest_->Read(kBase + 4 * kPageSize + 2).value, 8);
  // The neighbouring pages aren't mapped.
  ExpectExit(guest_->Read(kBase + 3 * kPageSize));
  ExpectExit(guest_->Write(kBase + 6 * kPageSize, 1));

  ASSERT_THAT(Unmap(MappingOf(2, 4, 2, kShmemMapRw)), IsOk());
  ExpectExit(guest_->Read(kBase + 4 * kPageSize));
}

TEST_P(GuestShmemTest, GuestMemoryCanBeTheFile) {
  const GuestMemory memory = NewMemory(4 * kPage);
  ASSERT_THAT(Map(memory.fd(), MappingOf(1, 0, 2, kShmemMapRw)), IsOk());
  ASSERT_TRUE(guest_->Write(kBase, 9).ok());
  const auto mapping = memory.Map();
  ASSERT_THAT(mapping, IsOk());
  EXPECT_EQ(doubles::Peek(mapping->data() + kPageSize), 9);
  if (GetParam() == Host::kGmem) {
    // The memory is bound, so the operator can see it.
    EXPECT_EQ(window_->vm().Query()->size(), 1U);
  }
  ASSERT_THAT(Unmap(MappingOf(1, 0, 2, kShmemMapRw)), IsOk());
  ExpectExit(guest_->Read(kBase));
}

TEST_P(GuestShmemTest, ReadOnlyIsReadOnly) {
  const UniqueFd read_only(
      open(("/proc/self/fd/" + std::to_string(file_fd_.get())).c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(read_only.is_valid());
  ASSERT_THAT(Map(read_only.get(), MappingOf(0, 0, 1, 0)), IsOk());
  EXPECT_EQ(guest_->Read(kBase).value, 40);
  ExpectExit(guest_->Write(kBase, 1));
  EXPECT_EQ(file_.data()[0], 40);
}

TEST_P(GuestShmemTest, RefusalsChangeNothing) {
  ASSERT_THAT(Map(file_fd_.get(), MappingOf(0, 0, 2, kShmemMapRw)), IsOk());
  EXPECT_FALSE(Map(file_fd_.get(), MappingOf(4, 1, 2, kShmemMapRw)).ok());
  EXPECT_FALSE(Map(file_fd_.get(), MappingOf(0, kNrPages, 1, kShmemMapRw)).ok());
  EXPECT_FALSE(Unmap(MappingOf(0, 0, 1, 0)).ok());
  EXPECT_EQ(guest_->Read(kBase + kPageSize).value, 41);
  ExpectExit(guest_->Read(kBase + 2 * kPageSize));
}

TEST_P(GuestShmemTest, ResetUnmapsAll) {
  ASSERT_THAT(Map(file_fd_.get(), MappingOf(0, 0, 1, kShmemMapRw)), IsOk());
  ASSERT_THAT(Map(file_fd_.get(), MappingOf(1, 8, 1, kShmemMapRw)), IsOk());
  ASSERT_THAT(frontend_->ResetDevice(), IsOk());
  ExpectExit(guest_->Read(kBase));
  ExpectExit(guest_->Read(kBase + 8 * kPageSize));
  // The range can be mapped again.
  ASSERT_THAT(Map(file_fd_.get(), MappingOf(3, 0, 1, kShmemMapRw)), IsOk());
  EXPECT_EQ(guest_->Read(kBase).value, 43);
}

TEST_P(GuestShmemTest, ADeadDeviceLeavesNothing) {
  ASSERT_THAT(Map(file_fd_.get(), MappingOf(0, 0, 1, kShmemMapRw)), IsOk());
  EXPECT_EQ(guest_->Read(kBase).value, 40);
  device_thread_.reset();
  for (int i = 0; i < 1000 && frontend_->status().ok(); i++) {
    pollfd event = {.fd = frontend_->fd(), .events = POLLIN, .revents = 0};
    poll(&event, 1, 10);
    frontend_->Process().IgnoreError();
  }
  EXPECT_EQ(frontend_->status().code(), absl::StatusCode::kUnavailable);
  ExpectExit(guest_->Read(kBase));
}

// The guest runs meanwhile. Each access finds the page or makes an exit.
TEST_P(GuestShmemTest, ManyMappingsWhileTheGuestLooks) {
  for (uint64_t round = 0; round < 50; round++) {
    const uint64_t at = round % kNrPages;
    ASSERT_THAT(Map(file_fd_.get(), MappingOf(at, at, 1, kShmemMapRw)), IsOk());
    EXPECT_EQ(guest_->Read(kBase + at * kPageSize).value, 40 + at);
    ASSERT_THAT(Unmap(MappingOf(at, at, 1, kShmemMapRw)), IsOk());
    ExpectExit(guest_->Read(kBase + at * kPageSize));
  }
  EXPECT_EQ(frontend_->shmem().nr_mappings(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Hosts, GuestShmemTest, testing::Values(Host::kGmem, Host::kKvm),
                         [](const auto& info) {
                           return info.param == Host::kGmem ? "Gmem" : "Kvm";
                         });

}  // namespace
}  // namespace gmem::vhost
