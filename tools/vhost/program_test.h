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
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmem/unique_fd.h"

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

#endif  // GMEM_TOOLS_VHOST_PROGRAM_TEST_H_
