// SPDX-License-Identifier: MIT OR Apache-2.0
#include "sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <linux/landlock.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

namespace {

// Each test enters the sandbox in a process of its own.
class SandboxTest : public testing::Test {
 protected:
  SandboxTest() : folder_(std::filesystem::temp_directory_path() / "gmem-sandbox-test.XXXXXX") {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    // The test's process has one thread, so a fork is safe.
    GTEST_FLAG_SET(death_test_style, "fast");
  }
  ~SandboxTest() override { std::filesystem::remove_all(folder_); }

  // Ends the process with 0 if @work returns true in the sandbox.
  void RunInside(const std::function<bool()>& work) const {
    if (!EnterSandbox("the-program", folder_ + "/socket",
                      {.calls = {"pipe2"}, .ioctls = {FIONREAD}})
             .ok()) {
      _exit(2);
    }
    _exit(work() ? 0 : 1);
  }
  void ExpectWorks(const std::function<bool()>& work) const {
    EXPECT_EXIT(RunInside(work), testing::ExitedWithCode(0), "");
  }
  void ExpectDies(const std::function<void()>& work) const {
    EXPECT_EXIT(RunInside([&work] {
                  work();
                  return true;
                }),
                testing::KilledBySignal(SIGSYS), "^the-program: the sandbox forbids system call ");
  }

  std::string folder_;
};

TEST_F(SandboxTest, ForbiddenCallsEndTheProcess) {
  ExpectDies([] { execl("/bin/true", "true", nullptr); });
  ExpectDies([] { socket(AF_INET, SOCK_STREAM, 0); });
  ExpectDies([] { fork(); });
  ExpectDies(
      [] { mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); });
  ExpectDies([] { kill(1, 0); });
  ExpectDies([] { fcntl(0, F_SETSIG, SIGKILL); });
}

TEST_F(SandboxTest, ForbiddenCallsOfOtherThreadsEndTheProcess) {
  ExpectDies([] { std::thread([] { setuid(0); }).join(); });
}

TEST_F(SandboxTest, OnlyTheDevicesCommandsReachTheDriver) {
  ExpectWorks([] {
    int size = 0;
    return ioctl(0, FIONREAD, &size) == 0 || errno == ENOTTY || errno == EINVAL;
  });
  ExpectDies([] { ioctl(0, TUNSETIFF, nullptr); });
}

TEST_F(SandboxTest, TheDevicesCallsWork) {
  ExpectWorks([] {
    int fds[2];
    return pipe2(fds, 0) == 0;
  });
}

TEST_F(SandboxTest, ThreadsAndMemoryWork) {
  ExpectWorks([] {
    bool has_run = false;
    std::thread([&has_run] {
      pthread_setname_np(pthread_self(), "a thread");
      has_run = std::string(1 << 20, 'x').size() == 1 << 20;
    }).join();
    return has_run && eventfd(0, 0) >= 0 && memfd_create("memory", 0) >= 0;
  });
}

TEST_F(SandboxTest, FilesCannotBeOpened) {
  ExpectWorks([] { return open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES; });
}

TEST_F(SandboxTest, OnlyTheSocketsFolderLosesFiles) {
  if (syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION) < 0) {
    GTEST_SKIP() << "the kernel has no Landlock";
  }
  close(open((folder_ + "/socket").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  ExpectWorks([this] { return unlink((folder_ + "/socket").c_str()) == 0; });
  std::string elsewhere = std::filesystem::temp_directory_path() / "gmem-sandbox-file.XXXXXX";
  const int fd = mkstemp(elsewhere.data());
  ExpectWorks([&elsewhere] { return unlink(elsewhere.c_str()) != 0 && errno == EACCES; });
  close(fd);
  unlink(elsewhere.c_str());
}

}  // namespace
