// SPDX-License-Identifier: MIT OR Apache-2.0
// A device's program under test, driven by a scripted front-end and a scripted driver.
#ifndef GMEM_TOOLS_VHOST_PROGRAM_TEST_H_
#define GMEM_TOOLS_VHOST_PROGRAM_TEST_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/ring.h"
#include "vhost/testing/scripted_frontend.h"
#include "vhost/testing/socket.h"

// A process that runs one of the programs in the folder GMEM_TOOLS, behind a connected socket.
class Program {
 public:
  // @words: the program and its arguments, besides --fd. @before: runs in the process, before the
  // program.
  explicit Program(const std::vector<std::string>& words,
                   const std::function<void()>& before = {}) {
    std::array<int, 2> sockets;
    std::array<int, 2> errors;
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()), 0);
    EXPECT_EQ(pipe2(errors.data(), O_CLOEXEC), 0);
    socket_.reset(sockets[0]);
    errors_.reset(errors[0]);
    const gmem::UniqueFd its_socket(sockets[1]);
    const gmem::UniqueFd its_errors(errors[1]);
    const char* const folder = getenv("GMEM_TOOLS");
    std::vector<std::string> texts = words;
    texts[0] = absl::StrCat(folder == nullptr ? "." : folder, "/", words[0]);
    texts.push_back(absl::StrCat("--fd=", its_socket.get()));
    std::vector<char*> arguments;
    for (std::string& text : texts) arguments.push_back(text.data());
    arguments.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      fcntl(its_socket.get(), F_SETFD, 0);
      dup2(its_errors.get(), STDERR_FILENO);
      if (before) before();
      execv(arguments[0], arguments.data());
      _exit(127);
    }
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  pid_t pid() const { return pid_; }
  gmem::UniqueFd TakeSocket() { return std::move(socket_); }
  // Waits for the end. Returns the status of wait(2).
  int Wait() {
    int status = -1;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }
  // The text on standard error, to the end of the program.
  std::string Errors() const {
    std::string text;
    std::array<char, 1000> piece;
    for (ssize_t size = 0; (size = read(errors_.get(), piece.data(), piece.size())) > 0;) {
      text.append(piece.data(), static_cast<size_t>(size));
    }
    return text;
  }

 private:
  pid_t pid_ = -1;
  gmem::UniqueFd socket_;
  gmem::UniqueFd errors_;
};

// A test that runs a device's program.
class ProgramTest : public gmem::vhost::doubles::ScriptedFrontendTest {
 protected:
  ~ProgramTest() override {
    EndSession();
    program_.reset();
  }

  // Begins a session with the program, with all features except @without.
  void Begin(uint64_t protocol_features, uint64_t without = 0) {
    gmem::UniqueFd socket = program_->TakeSocket();
    session_socket_ = *gmem::UniqueFd::Duplicate(socket.get());
    ConnectOutside(*gmem::vhost::Connection::Adopt(std::move(socket)));
    const auto features = Ask<gmem::vhost::FrontendRequest::kGetFeatures>();
    ASSERT_TRUE(features.ok()) << features.status();
    features_ = *features;
    constexpr uint64_t kOfDevices = 0xffffff;
    Negotiate((features_ & kOfDevices & ~without) |
                  gmem::vhost::Bit(gmem::vhost::VirtioFeature::kIndirectDesc),
              protocol_features);
    SetTable();
  }

  void EndSession() {
    Disconnect();
    session_socket_.reset();
  }
  // Waits until the device has completed a request, or has failed.
  std::optional<gmem::vhost::doubles::Used> AwaitUsed() {
    const absl::Time end = absl::Now() + gmem::vhost::doubles::kPatience;
    while (absl::Now() < end) {
      if (const auto used = ring_.TakeUsed()) return used;
      if (error_ && Take(error_)) {
        has_failed_ = true;
        return std::nullopt;
      }
      absl::SleepFor(absl::Microseconds(200));
    }
    ADD_FAILURE() << "the device does nothing";
    return std::nullopt;
  }

  std::unique_ptr<Program> program_;
  // Keeps a session open after its front-end.
  gmem::UniqueFd session_socket_;
  uint64_t features_ = 0;
  bool has_failed_ = false;
};

#endif  // GMEM_TOOLS_VHOST_PROGRAM_TEST_H_
