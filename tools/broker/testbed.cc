// SPDX-License-Identifier: MIT OR Apache-2.0
// gmem-broker-testbed PATH: maps a file, as a VMM does, and touches it. Takes commands from
// standard input, a line each, and answers each with a line:
//
//   write OFFSET VALUE     set the byte
//   read OFFSET            print the byte, or the signal that the touch raised
//   discard OFFSET SIZE    free a range, by fallocate()
//   info 0                 try one of the VM's calls
//   connect COUNT PATH     connect to a socket that often, and send nothing
//   quit STATUS
//
// Numbers are hexadecimal.
//
// gmem-broker-testbed --ignore-sigchld COMMAND [ARGUMENT]...: starts a command that ignores
// SIGCHLD.
#include <fcntl.h>
#include <linux/gmem.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>

namespace {

sigjmp_buf env;

void OnSignal(int signal) { siglongjmp(env, signal); }

// Returns 0, or the signal that the touch raised.
int Touch(volatile uint8_t* byte, bool write, uint8_t* value) {
  if (const int signal = sigsetjmp(env, 1)) return signal;
  if (write) {
    *byte = *value;
  } else {
    *value = *byte;
  }
  return 0;
}

void Answer(const std::string& text) { std::cout << text << std::endl; }

void AnswerCall(int result) { Answer(result < 0 ? strerrorname_np(errno) : "ok"); }

// Returns 0, or -1. The connection lasts as long as this process.
int Connect(const std::string& path) {
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 2 && std::strcmp(argv[1], "--ignore-sigchld") == 0) {
    signal(SIGCHLD, SIG_IGN);
    execv(argv[2], argv + 2);
    return 1;
  }
  const int fd = argc == 2 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
  const off_t size = lseek(fd, 0, SEEK_END);
  void* const map =
      mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    Answer(std::string("mmap: ") + strerrorname_np(errno));
    return 1;
  }
  signal(SIGBUS, OnSignal);
  signal(SIGSEGV, OnSignal);
  auto* const memory = static_cast<volatile uint8_t*>(map);
  Answer("size " + std::to_string(size) + ", user " + std::to_string(geteuid()) + ", group " +
         std::to_string(getegid()));
  std::string command;
  std::string path;
  uint64_t offset = 0;
  while (std::cin >> command >> std::hex >> offset) {
    uint64_t number = 0;
    if (command == "write" && std::cin >> number) {
      auto value = static_cast<uint8_t>(number);
      const int signal = Touch(memory + offset, true, &value);
      Answer(signal != 0 ? sigabbrev_np(signal) : "ok");
    } else if (command == "read") {
      uint8_t value = 0;
      const int signal = Touch(memory + offset, false, &value);
      Answer(signal != 0 ? sigabbrev_np(signal) : std::to_string(value));
    } else if (command == "discard" && std::cin >> number) {
      AnswerCall(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           static_cast<off_t>(offset), static_cast<off_t>(number)));
    } else if (command == "info") {
      gmem_vm_faults faults = {};
      faults.size = sizeof(faults);
      AnswerCall(ioctl(fd, GMEM_VM_FAULTS, &faults));
    } else if (command == "connect" && std::cin >> path) {
      int result = 0;
      for (uint64_t i = 0; result == 0 && i < offset; i++) result = Connect(path);
      AnswerCall(result);
    } else if (command == "quit") {
      return static_cast<int>(offset);
    } else {
      Answer("what?");
    }
  }
  return 1;
}
