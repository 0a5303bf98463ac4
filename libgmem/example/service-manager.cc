// SPDX-License-Identifier: MIT OR Apache-2.0
// service-manager PROGRAM: plays systemd's file descriptor store. It runs the program twice, and
// gives the second run the descriptors that the first run stored.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gmem/unique_fd.h"
#include "or_die.h"

// An abstract name of a socket, like systemd's.
constexpr char kAddress[] = "@gmem/notify";

struct Stored {
  std::string name;
  gmem::UniqueFd fd;
};

gmem::UniqueFd Listen() {
  gmem::UniqueFd listener(OrDie(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, kAddress + 1, sizeof(kAddress) - 2);
  OrDie(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address),
             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + sizeof(kAddress) - 1)),
        "bind");
  return listener;
}

// A message, with at most one descriptor; false if there is none.
bool Receive(int listener, std::string& text, gmem::UniqueFd& fd) {
  std::array<char, 512> bytes;
  iovec vector = {bytes.data(), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  msghdr header = {};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t size = recvmsg(listener, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return false;
  text.assign(bytes.data(), static_cast<size_t>(size));
  const cmsghdr* const message = CMSG_FIRSTHDR(&header);
  if (message != nullptr && message->cmsg_type == SCM_RIGHTS) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(message), sizeof(number));
    fd.reset(number);
  }
  return true;
}

void Keep(const std::string& text, gmem::UniqueFd fd, std::vector<Stored>& store) {
  const size_t name = text.find("FDNAME=");
  // Close any other descriptor: this answers a barrier.
  if (text.find("FDSTORE=1") == std::string::npos || name == std::string::npos) return;
  const size_t begin = name + std::strlen("FDNAME=");
  store.push_back({text.substr(begin, text.find('\n', begin) - begin), std::move(fd)});
}

// In the child: the stored descriptors become 3, 4, ...
void Start(const char* program, const std::vector<Stored>& store) {
  std::string names;
  std::vector<int> copies;
  for (const Stored& stored : store) {
    names += (names.empty() ? "" : ":") + stored.name;
    // Avoid the numbers that the code below gives to the descriptors.
    copies.push_back(OrDie(fcntl(stored.fd.get(), F_DUPFD_CLOEXEC, 100), "fcntl"));
  }
  for (size_t i = 0; i < copies.size(); ++i) {
    OrDie(dup2(copies[i], 3 + static_cast<int>(i)), "dup2");
  }
  setenv("NOTIFY_SOCKET", kAddress, 1);
  setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
  setenv("LISTEN_FDS", std::to_string(store.size()).c_str(), 1);
  setenv("LISTEN_FDNAMES", names.c_str(), 1);
  OrDie(execl(program, program, nullptr), program);
}

int main(int argc, char** argv) {
  if (argc != 2) Die(absl::InvalidArgumentError("usage: service-manager PROGRAM"));
  const gmem::UniqueFd listener = Listen();
  std::vector<Stored> store;
  for (int start = 0; start < 2; ++start) {
    const pid_t child = OrDie(fork(), "fork");
    if (child == 0) Start(argv[1], store);
    int status = 0;
    while (OrDie(waitpid(child, &status, WNOHANG), "waitpid") == 0) {
      std::string text;
      gmem::UniqueFd fd;
      if (Receive(listener.get(), text, fd)) {
        Keep(text, std::move(fd), store);
      } else {
        usleep(1000);
      }
    }
    if (status != 0) Die(absl::AbortedError("the service failed"));
  }
}
