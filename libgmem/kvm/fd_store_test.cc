// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/fd_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"

namespace gmem::kvm {
namespace {

struct Message {
  std::string text;
  UniqueFd fd;
};

// The service manager's end of the socket.
class FakeManager {
 public:
  // @address is as in $NOTIFY_SOCKET.
  explicit FakeManager(const std::string& address) {
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, address.data(), address.size());
    if (address[0] == '@') name.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
    EXPECT_EQ(bind(socket_.get(), reinterpret_cast<const sockaddr*>(&name), length), 0);
  }

  Message Receive() const {
    std::array<char, 1024> text;
    iovec data = {text.data(), text.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
    msghdr header = {};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    const ssize_t length = recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
    if (length < 0) return {};
    Message message = {std::string(text.data(), static_cast<size_t>(length)), UniqueFd()};
    if (const cmsghdr* rights = CMSG_FIRSTHDR(&header)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(rights), sizeof(fd));
      message.fd.reset(fd);
    }
    return message;
  }

 private:
  UniqueFd socket_{socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
};

ino_t Inode(int fd) {
  struct stat stat = {};
  EXPECT_EQ(fstat(fd, &stat), 0);
  return stat.st_ino;
}

std::string AbstractAddress() { return absl::StrCat("@gmem-fd-store-test-", getpid()); }

TEST(KvmFdStoreTest, StoresAndRemoves) {
  const std::string address = AbstractAddress();
  const FakeManager manager(address);
  const auto store = FdStore::Open(address.c_str());
  ASSERT_TRUE(store.ok()) << store.status();
  const UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  ASSERT_TRUE(store->Store("ram0", file.get()).ok());
  const Message stored = manager.Receive();
  EXPECT_EQ(stored.text, "FDSTORE=1\nFDNAME=ram0");
  ASSERT_TRUE(stored.fd.is_valid());
  EXPECT_EQ(Inode(stored.fd.get()), Inode(file.get()));

  ASSERT_TRUE(store->Remove("ram0").ok());
  const Message removed = manager.Receive();
  EXPECT_EQ(removed.text, "FDSTOREREMOVE=1\nFDNAME=ram0");
  EXPECT_FALSE(removed.fd.is_valid());
}

TEST(KvmFdStoreTest, SocketWithAPath) {
  std::string directory = absl::StrCat(testing::TempDir(), "gmem-XXXXXX");
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const std::string path = directory + "/notify";
  {
    const FakeManager manager(path);
    ASSERT_TRUE(FdStore::Open(path.c_str())->Remove("a").ok());
    EXPECT_EQ(manager.Receive().text, "FDSTOREREMOVE=1\nFDNAME=a");
  }
  unlink(path.c_str());
  const auto store = FdStore::Open(path.c_str());
  EXPECT_EQ(GetErrno(store->Remove("a")), ENOENT);
  rmdir(directory.c_str());
}

TEST(KvmFdStoreTest, SyncWaitsForTheManager) {
  const std::string address = AbstractAddress();
  const FakeManager manager(address);
  const auto store = FdStore::Open(address.c_str());
  ASSERT_TRUE(store->Store("ram", 0).ok());
  std::string seen;
  std::thread thread([&] {
    seen = manager.Receive().text;
    const Message barrier = manager.Receive();
    seen += "|" + barrier.text;
  });
  EXPECT_TRUE(store->Sync(absl::Seconds(20)).ok());
  thread.join();
  EXPECT_EQ(seen, "FDSTORE=1\nFDNAME=ram|BARRIER=1");
}

TEST(KvmFdStoreTest, SyncGivesUp) {
  const std::string address = AbstractAddress();
  const FakeManager manager(address);
  const auto store = FdStore::Open(address.c_str());
  EXPECT_EQ(store->Sync(absl::Milliseconds(20)).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(store->Sync(absl::ZeroDuration()).code(), absl::StatusCode::kDeadlineExceeded);
}

// A manager that reads nothing, and whose queue is full.
TEST(KvmFdStoreTest, SyncGivesUpBeforeItCanSend) {
  const std::string address = AbstractAddress();
  const FakeManager manager(address);
  const UniqueFd filler(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path + 1, address.data() + 1, address.size() - 1);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
  while (sendto(filler.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), length) == 1) {
  }
  ASSERT_EQ(errno, EAGAIN);
  const auto store = FdStore::Open(address.c_str());
  EXPECT_EQ(store->Sync(absl::Milliseconds(20)).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(KvmFdStoreTest, RefusesInvalidAddresses) {
  EXPECT_EQ(FdStore::Open(nullptr).status().code(), absl::StatusCode::kFailedPrecondition);
  for (const char* address : {"", "@", "relative", "vsock:2:1234"}) {
    EXPECT_EQ(GetErrno(FdStore::Open(address).status()), EOPNOTSUPP) << address;
  }
  EXPECT_EQ(GetErrno(FdStore::Open(("/" + std::string(107, 'a')).c_str()).status()), ENAMETOOLONG);
}

// A line break in a name would let the caller write a message of its own.
TEST(KvmFdStoreTest, RefusesInvalidNamesAndDescriptors) {
  const std::string address = AbstractAddress();
  const FakeManager manager(address);
  const auto store = FdStore::Open(address.c_str());
  EXPECT_EQ(GetErrno(store->Store("a\nREADY=1", 0)), EINVAL);
  EXPECT_EQ(GetErrno(store->Remove("a\nREADY=1")), EINVAL);
  EXPECT_EQ(GetErrno(store->Remove("")), EINVAL);
  EXPECT_EQ(GetErrno(store->Store("a", -1)), EBADF);
  EXPECT_EQ(GetErrno(store->Store("a", 1 << 20)), EBADF);
}

}  // namespace
}  // namespace gmem::kvm
