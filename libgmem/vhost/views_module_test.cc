// SPDX-License-Identifier: MIT OR Apache-2.0
// The guest's memory in back-ends: one that is hostile, and the library's own.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/gmem.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/driver_ring.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "gmem/vhost/vm_regions.h"
#include "gmem/window.h"
#include "testing/module.h"
#include "vhost/testing/backend.h"
#include "vhost/testing/backend_thread.h"
#include "vhost/testing/driver_memory.h"

namespace gmem::vhost {
namespace {

using doubles::BackendThread;
using doubles::DriverMemory;
using doubles::FakeBackend;
using doubles::kPatience;
using doubles::NewRing;
using gmem::doubles::FailsWith;
using gmem::doubles::IsOk;
using gmem::doubles::kPage;
using gmem::doubles::ModuleTest;
using gmem::doubles::Peek;
using gmem::doubles::Poke;
using testing::ElementsAre;
using Request = FrontendRequest;

constexpr uint64_t kPageSize = kPage.value();
// The guest's pages: the first ones are lent, the others shared.
constexpr uint64_t kNrPages = 64, kFirstShared = 32;

class ViewsTest : public ModuleTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ModuleTest::SetUp());
    memory_ = NewMemory(kNrPages * kPage);
    host_ = *memory_->Map();
    user_base_ = reinterpret_cast<uintptr_t>(host_.data());
    for (uint64_t page = 0; page < kNrPages; ++page) {
      host_.data()[page * kPageSize] = static_cast<uint8_t>(page + 1);
    }
    auto window = Window::Create(NewVm(), {.size = kNrPages * kPage});
    ASSERT_THAT(window, IsOk());
    window_ = *std::move(window);
    ASSERT_THAT(window_->Map(*memory_, Piece(0, kFirstShared, MapMode::kLend)), IsOk());
    ASSERT_THAT(
        window_->Map(*memory_, Piece(kFirstShared, kNrPages - kFirstShared, MapMode::kShare)),
        IsOk());
    ASSERT_THAT(window_->vm().Populate(Pages(0, kFirstShared)), IsOk());
  }
  void TearDown() override {
    frontend_.reset();
    window_.reset();
    host_.Reset();
    memory_.reset();
    ModuleTest::TearDown();
  }

  static GuestRange Pages(uint64_t first, uint64_t count) {
    return {GuestAddress(first * kPageSize), count * kPage};
  }
  static MapOptions Piece(uint64_t first, uint64_t count, MapMode mode) {
    const GuestRange range = Pages(first, count);
    return {.guest_address = range.start,
            .offset = ByteOffset(range.start.value()),
            .size = range.size,
            .mode = mode};
  }
  void Connect(Connection connection) {
    auto frontend = Frontend::Create(std::move(connection), {.timeout = kPatience});
    ASSERT_THAT(frontend, IsOk());
    frontend_ = *std::move(frontend);
    ASSERT_THAT(frontend_->Negotiate(), IsOk());
  }
  // The regions that a VMM sends.
  std::vector<GuestRegion> Regions(GuestRange except = {}) const {
    return SharedRegions(
        *window_->vm().Query(),
        [this](const Binding& binding) -> std::optional<BindingHost> {
          EXPECT_EQ(binding.memory_id, memory_->id());
          return BindingHost{.fd = memory_->fd(),
                             .user_address = user_base_ + binding.offset.value()};
        },
        except);
  }

  std::optional<GuestMemory> memory_;
  Mapping host_;
  // The address of the guest's memory in the front-end.
  uint64_t user_base_ = 0;
  std::optional<Window> window_;
  std::unique_ptr<Frontend> frontend_;
};

// A back-end that keeps all descriptors that it gets.
FakeBackend::Options Keeping(std::vector<UniqueFd>& fds) {
  FakeBackend::Options options = {.protocol_features = Bit(ProtocolFeature::kReplyAck) |
                                                       Bit(ProtocolFeature::kConfigureMemSlots) |
                                                       Bit(ProtocolFeature::kPagefault)};
  options.handlers[Request::kAddMemReg] = [&fds](FakeBackend& backend, Message& message) {
    for (size_t i = 0; i < message.fds.size(); ++i) fds.push_back(message.fds.Take(i));
    backend.Answer(message);
  };
  return options;
}

// Tries all that a process can do with a descriptor of @size bytes, except to map it. Returns the
// names of the calls that worked.
std::vector<std::string> Attack(const gmem::Device& device, int fd, uint64_t size) {
  std::vector<std::string> worked;
  const auto expect_failure = [&worked](const char* call, long result) {
    if (result >= 0) worked.emplace_back(call);
  };
  std::array<char, 16> bytes = {};
  const auto length = static_cast<off_t>(size);
  expect_failure("read", read(fd, bytes.data(), bytes.size()));
  expect_failure("pread", pread(fd, bytes.data(), bytes.size(), 0));
  expect_failure("write", write(fd, bytes.data(), bytes.size()));
  expect_failure("pwrite", pwrite(fd, bytes.data(), bytes.size(), 0));

  const UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(file.get(), 4096), 0);
  std::array<int, 2> ends = {};
  EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd source(ends[0]), sink(ends[1]);
  EXPECT_EQ(write(sink.get(), "x", 1), 1);
  off_t at = 0;
  expect_failure("sendfile from", sendfile(file.get(), fd, &at, 16));
  expect_failure("sendfile to", sendfile(fd, file.get(), &at, 16));
  expect_failure("splice from", splice(fd, nullptr, sink.get(), nullptr, 16, 0));
  expect_failure("splice to", splice(source.get(), nullptr, fd, nullptr, 1, 0));
  expect_failure("copy from", copy_file_range(fd, nullptr, file.get(), nullptr, 16, 0));
  expect_failure("copy to", copy_file_range(file.get(), nullptr, fd, nullptr, 16, 0));

  expect_failure("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, length));
  expect_failure("allocate", fallocate(fd, 0, 0, length));
  expect_failure("extend", fallocate(fd, 0, 0, length + 4096));
  expect_failure("zero", fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, length));
  expect_failure("collapse", fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096));
  expect_failure("ftruncate to 0", ftruncate(fd, 0));
  expect_failure("ftruncate to more", ftruncate(fd, length + 4096));
  expect_failure("fchmod", fchmod(fd, 0777));
  expect_failure("fchown", fchown(fd, 1, 1));
  expect_failure("futimens", futimens(fd, nullptr));
  expect_failure("add seals", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));

  gmem_mem_query query = {};
  query.size = sizeof(query);
  query.length = size;
  expect_failure("GMEM_MEM_QUERY", ioctl(fd, GMEM_MEM_QUERY, &query));
  gmem_mem_view view = {};
  view.size = sizeof(view);
  view.length = size;
  expect_failure("GMEM_MEM_VIEW", ioctl(fd, GMEM_MEM_VIEW, &view));
  gmem_mem_revoke revoke = {};
  revoke.size = sizeof(revoke);
  for (revoke.id = 1; revoke.id < 4; ++revoke.id) {
    expect_failure("GMEM_MEM_REVOKE", ioctl(fd, GMEM_MEM_REVOKE, &revoke));
  }
  EXPECT_FALSE(GuestMemory::IsGuestMemory(fd));
  // The back-end may use /dev/gmem, too.
  const auto vm = device.CreateVm();
  EXPECT_THAT(vm, IsOk());
  for (const MapMode mode : {MapMode::kLend, MapMode::kShare}) {
    const absl::Status bound = vm->Map(fd, {.size = ByteSize(size), .mode = mode});
    if (bound.ok()) worked.emplace_back("bind");
  }
  const UniqueFd uffd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  uffdio_api api = {.api = UFFD_API, .features = 0, .ioctls = 0};
  EXPECT_EQ(ioctl(uffd.get(), UFFDIO_API, &api), 0);

  void* const other = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  expect_failure("a private mapping", other == MAP_FAILED ? -1 : 0);
  void* const beyond = mmap(nullptr, 2 * size, PROT_READ, MAP_SHARED, fd, 0);
  expect_failure("a mapping beyond the end", beyond == MAP_FAILED ? -1 : 0);
  void* const behind = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, length);
  expect_failure("a mapping behind the end", behind == MAP_FAILED ? -1 : 0);

  auto* const mapped =
      static_cast<uint8_t*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  EXPECT_NE(mapped, MAP_FAILED);
  expect_failure("MADV_REMOVE", madvise(mapped, size, MADV_REMOVE));
  expect_failure("remap_file_pages",
                 syscall(SYS_remap_file_pages, mapped, uint64_t{4096}, 0, size_t{1}, 0));
  uffdio_register with = {.range = {.start = reinterpret_cast<uintptr_t>(mapped), .len = size},
                          .mode = UFFDIO_REGISTER_MODE_MISSING,
                          .ioctls = 0};
  expect_failure("userfaultfd", ioctl(uffd.get(), UFFDIO_REGISTER, &with));
  // A page of the guest would lie behind the mapping.
  void* const grown = mremap(mapped, size, size + 4096, MREMAP_MAYMOVE);
  expect_failure("mremap", grown == MAP_FAILED ? -1 : 0);
  munmap(mapped, size);
  return worked;
}

// Attacks as root: whatever fails is refused by the files, not by their modes.
TEST_F(ViewsTest, HostileBackEnd) {
  std::vector<UniqueFd> fds;
  auto pair = Connection::Pair();
  ASSERT_THAT(pair, IsOk());
  FakeBackend backend(std::move(pair->second), Keeping(fds));
  ASSERT_NO_FATAL_FAILURE(Connect(std::move(pair->first)));
  // Two pages in the middle stay with the VMM.
  ASSERT_THAT(frontend_->SetMemory(Regions(Pages(40, 2))), IsOk());
  backend.TakeRequests();
  ASSERT_EQ(fds.size(), 2U);
  const std::array<uint64_t, 2> firsts = {kFirstShared, 42};
  const std::array<uint64_t, 2> sizes = {8 * kPageSize, 22 * kPageSize};

  for (size_t i = 0; i < 2; ++i) {
    const std::string path = "/proc/self/fd/" + std::to_string(fds[i].get());
    for (const int flags : {O_RDWR, O_RDONLY, O_WRONLY, O_RDWR | O_TRUNC, O_RDWR | O_APPEND}) {
      UniqueFd again(open(path.c_str(), flags | O_CLOEXEC));
      if (again && (flags & O_ACCMODE) == O_RDWR) fds.push_back(std::move(again));
    }
  }
  for (const UniqueFd& fd : fds) {
    struct stat stat = {};
    ASSERT_EQ(fstat(fd.get(), &stat), 0);
    const auto size = static_cast<uint64_t>(stat.st_size);
    EXPECT_TRUE(size == sizes[0] || size == sizes[1]) << size;
    EXPECT_EQ(lseek(fd.get(), 0, SEEK_END), stat.st_size);
    EXPECT_THAT(Attack(device(), fd.get(), size), ElementsAre());
  }

  // It has its regions, and they are the guest's.
  std::vector<Mapping> mappings;
  for (size_t i = 0; i < 2; ++i) {
    auto mapping = Mapping::OfFile(fds[i].get(), {.size = ByteSize(sizes[i])});
    ASSERT_THAT(mapping, IsOk());
    EXPECT_EQ(Peek(mapping->data()), firsts[i] + 1);
    EXPECT_TRUE(Poke(mapping->data() + sizes[i] - 1, 0xbb));
    EXPECT_EQ(Peek(window_->data() + firsts[i] * kPageSize + sizes[i] - 1), 0xbb);
    mappings.push_back(*std::move(mapping));
  }
  // Nothing else has changed.
  EXPECT_EQ(memory_->Query({ByteOffset(0), kFirstShared * kPage})->lent, kFirstShared);
  for (const uint64_t page : {uint64_t{0}, kFirstShared - 1, uint64_t{40}, uint64_t{41}}) {
    EXPECT_EQ(Peek(window_->data() + page * kPageSize), page + 1);
  }

  // Postcopy can't work.
  EXPECT_THAT(frontend_->PostcopyAdvise(), FailsWith(EOPNOTSUPP, "can't register the views"));

  // The VMM withdraws a region: the back-end says yes, and keeps its mapping.
  ASSERT_THAT(frontend_->SetMemory(Regions(Pages(40, 24))), IsOk());
  EXPECT_EQ(Peek(mappings[0].data()), kFirstShared + 1);
  EXPECT_EQ(Peek(mappings[1].data()), std::nullopt);
  EXPECT_FALSE(Poke(mappings[1].data() + 4 * kPageSize, 1));
  EXPECT_FALSE(Mapping::OfFile(fds[1].get(), {.size = kPage}).ok());
  // Now the memory is lent, as if the back-end had never had it.
  EXPECT_EQ(*window_->Unmap(Pages(40, 24)), 24U);
  ASSERT_THAT(window_->Map(*memory_, Piece(40, 24, MapMode::kLend)), IsOk());
  ASSERT_THAT(window_->vm().Populate(Pages(40, 24)), IsOk());
  EXPECT_EQ(Peek(mappings[1].data()), std::nullopt);
  EXPECT_EQ(memory_->Query({ByteOffset(40 * kPageSize), 24 * kPage})->lent, 24U);

  // The connection ends: the rest goes, too.
  frontend_->Close();
  EXPECT_EQ(Peek(mappings[0].data()), std::nullopt);
  EXPECT_FALSE(Mapping::OfFile(fds[0].get(), {.size = kPage}).ok());
}

// Under "allow", a host's touch of a lent page takes it back. A back-end's touch doesn't.
TEST_F(ViewsTest, NeverTakesAPageFromTheGuest) {
  auto view = memory_->CreateView({ByteOffset(0), 4 * kPage});
  ASSERT_THAT(view, IsOk());
  const auto mapping = view->Map();
  ASSERT_THAT(mapping, IsOk());
  EXPECT_EQ(Peek(mapping->data()), std::nullopt);
  EXPECT_FALSE(Poke(mapping->data(), 1));
  EXPECT_EQ(memory_->Query({ByteOffset(0), 4 * kPage})->lent, 4U);
  EXPECT_EQ(Peek(host_.data()), 1);
  EXPECT_EQ(Peek(mapping->data()), 1);
  EXPECT_EQ(*memory_->RevokeView(view->id()), 0U);
  EXPECT_EQ(Peek(mapping->data()), std::nullopt);
  EXPECT_THAT(memory_->RevokeView(view->id()), FailsWith(ENOENT, "revoked before"));
}

TEST_F(ViewsTest, ReadOnly) {
  auto view = memory_->CreateView({ByteOffset(kFirstShared * kPageSize), kPage},
                                  {.read_only = true, .name = "rom"});
  ASSERT_THAT(view, IsOk());
  EXPECT_EQ(view->size(), kPage);
  const auto mapping = view->Map(MemoryAccess::kReadOnly);
  ASSERT_THAT(mapping, IsOk());
  EXPECT_EQ(Peek(mapping->data()), kFirstShared + 1);
  EXPECT_EQ(mprotect(mapping->data(), kPageSize, PROT_READ | PROT_WRITE), -1);
  EXPECT_THAT(view->Map(), FailsWith(EACCES, "for writing"));
  // The tests are root, to whom the file's mode says nothing.
  const std::string path = "/proc/self/fd/" + std::to_string(view->fd());
  EXPECT_EQ(open(path.c_str(), O_RDWR | O_CLOEXEC), -1);
  EXPECT_EQ(fchmod(view->fd(), 0666), -1);
  const UniqueFd again(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(again);
}

TEST_F(ViewsTest, Errors) {
  EXPECT_THAT(memory_->CreateView({ByteOffset(1), kPage}), FailsWith(EINVAL, "offset 0x1"));
  EXPECT_THAT(memory_->CreateView({ByteOffset(0), (kNrPages + 1) * kPage}),
              FailsWith(EINVAL, "beyond the 256 KiB of this guestmem"));
  const GuestMemory huge = NewMemory(MiB(4), /*huge_pages=*/true);
  EXPECT_THAT(huge.CreateView({ByteOffset(0), kPage}), FailsWith(EINVAL, "2 MiB page size"));
  EXPECT_THAT(huge.CreateView({ByteOffset(MiB(2).value()), MiB(2)}), IsOk());
  auto read_only = GuestMemory::Adopt(*memory_->Reopen(MemoryAccess::kReadOnly));
  ASSERT_THAT(read_only, IsOk());
  EXPECT_THAT(read_only->CreateView({ByteOffset(0), kPage}), FailsWith(EACCES, "is read-only"));
  EXPECT_THAT(read_only->CreateView({ByteOffset(0), kPage}, {.read_only = true}), IsOk());
  EXPECT_THAT(memory_->RevokeView(4711), FailsWith(ENOENT, "no such view"));
}

// Answers each request with its bytes reversed.
class ReversingDevice : public gmem::vhost::Device {
 public:
  uint64_t features() const override { return 0; }
  uint16_t nr_queues() const override { return 1; }
  absl::Status HandleQueue(Backend& /*backend*/, Virtqueue& queue) override {
    Chain chain;
    while (queue.Pop(chain) == Popped::kChain) {
      std::string bytes(chain.readable_size(), 0);
      chain.Read(0, bytes.data(), bytes.size());
      std::reverse(bytes.begin(), bytes.end());
      queue.Push(chain, chain.Write(0, bytes.data(), bytes.size()));
      queue.Notify();
    }
    return queue.status();
  }
};

// The library's own back-end works on views. The rings are in the guest's shared memory.
TEST_F(ViewsTest, OurBackEnd) {
  auto driver = DriverMemory::Adopt(*UniqueFd::Duplicate(memory_->fd()), kNrPages * kPageSize,
                                    /*guest_address=*/0);
  ASSERT_THAT(driver, IsOk());
  user_base_ = reinterpret_cast<uintptr_t>((*driver)->bytes().data());
  std::memset(host_.data() + kFirstShared * kPageSize, 0, (kNrPages - kFirstShared) * kPageSize);
  // Skip the lent part.
  ASSERT_THAT((*driver)->Allocate(kFirstShared * kPageSize, kPageSize), IsOk());
  auto ring = NewRing(**driver, 16);
  ASSERT_THAT(ring, IsOk());
  const auto request = (*driver)->Allocate(4);
  const auto answer = (*driver)->Allocate(4);
  ASSERT_THAT(answer, IsOk());

  ReversingDevice device;
  std::optional<BackendThread> backend;
  const auto start = [&] {
    auto pair = Connection::Pair();
    ASSERT_THAT(pair, IsOk());
    backend.reset();
    backend.emplace(std::move(pair->second), device);
    if (frontend_ == nullptr) {
      ASSERT_NO_FATAL_FAILURE(Connect(std::move(pair->first)));
      ASSERT_THAT(frontend_->SetFeatures(Bit(VirtioFeature::kVersion1)), IsOk());
    } else {
      ASSERT_THAT(frontend_->Reconnect(std::move(pair->first)), IsOk());
    }
  };
  const auto reverses = [&](const std::string& bytes) {
    std::copy(bytes.begin(), bytes.end(), request->begin());
    EXPECT_THAT(ring->Add({{*request, false}, {*answer, true}}), IsOk());
    ring->Kick();
    const auto used = ring->Wait(kPatience);
    ASSERT_THAT(used, IsOk());
    EXPECT_EQ(std::string(answer->begin(), answer->end()),
              std::string(bytes.rbegin(), bytes.rend()));
  };

  ASSERT_NO_FATAL_FAILURE(start());
  std::vector<GuestRegion> regions = Regions(Pages(60, 4));
  ASSERT_EQ(regions.size(), 1U);
  ASSERT_THAT(frontend_->SetMemory(regions), IsOk());
  ASSERT_THAT(frontend_->StartVring(0, {.size = ring->size(),
                                        .address = ring->address(0),
                                        .kick_fd = ring->kick_fd(),
                                        .call_fd = ring->call_fd()}),
              IsOk());
  ASSERT_THAT(frontend_->DriverOk(), IsOk());
  ASSERT_NO_FATAL_FAILURE(reverses("abcd"));
  // The memory grows while the ring is in use.
  ASSERT_THAT(frontend_->SetMemory(Regions()), IsOk());
  ASSERT_NO_FATAL_FAILURE(reverses("efgh"));
  // The next back-end has views of its own.
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_NO_FATAL_FAILURE(reverses("ijkl"));
  EXPECT_EQ(memory_->Query({ByteOffset(0), kFirstShared * kPage})->lent, kFirstShared);
  frontend_.reset();
  backend.reset();
}

}  // namespace
}  // namespace gmem::vhost
