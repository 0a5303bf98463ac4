// SPDX-License-Identifier: MIT OR Apache-2.0
// A VMM hands its VM to a new VMM: "hand-over exec" replaces its own program,
// "hand-over socket" sends the descriptors to another process.
// Documentation/libgmem/hand-over.rst goes through it.
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "gmem/device.h"
#include "gmem/kvm/fd_table.h"
#include "gmem/window.h"
#include "or_die.h"

// The process plays a guest, too: a touch of a window counts as the guest's.
constexpr size_t kGuestByte = 0x5000;

void PrintLent(const char* who, const gmem::GuestMemory& memory) {
  std::printf("%s: pages lent: %" PRIu64 "\n", who, OrDie(memory.Query()).lent);
  std::fflush(stdout);
}

struct Guest {
  gmem::Vm vm;
  gmem::GuestMemory memory;
};

// The old VMM: a VM whose guest has used one page.
Guest Begin() {
  const gmem::Device device = OrDie(gmem::Device::Open());
  // kDeny: no host process can look at the page, not even the new VMM.
  Guest guest = {OrDie(device.CreateVm({.policy = gmem::ReclaimPolicy::kDeny})),
                 OrDie(device.CreateGuestMemory(gmem::MiB(1)))};
  OrDie(guest.vm.Map(guest.memory, {.size = guest.memory.size()}));
  const gmem::Window window = OrDie(gmem::Window::Create(guest.vm, {.size = gmem::MiB(1)}));
  window.data()[kGuestByte] = 42;
  PrintLent("old VMM", guest.memory);
  return guest;
}

// The new VMM: the same VM, with its bindings and its lent pages. It makes its own window, and its
// own KVM VM with a memslot on the window.
void GoOn(gmem::UniqueFd vm_fd, gmem::UniqueFd memory_fd) {
  const gmem::Vm vm = OrDie(gmem::Vm::Adopt(std::move(vm_fd)));
  const gmem::GuestMemory memory = OrDie(gmem::GuestMemory::Adopt(std::move(memory_fd)));
  PrintLent("new VMM", memory);
  for (const gmem::Binding& binding : OrDie(vm.Query())) {
    std::printf("new VMM: bound: %s\n", gmem::ToString(binding.range).c_str());
  }
  const gmem::Window window = OrDie(gmem::Window::Create(vm, {.size = gmem::MiB(1)}));
  std::printf("new VMM: the guest's byte: %d\n", window.data()[kGuestByte]);
}

// By exec(): one program after the other in the same process.
void Exec(const Guest& guest) {
  gmem::kvm::FdTable table;
  OrDie(table.Save("vm", guest.vm.fd()));
  OrDie(table.Save("ram", guest.memory.fd()));
  const std::string variable = OrDie(table.PrepareExec());
  const size_t equals = variable.find('=');
  OrDie(setenv(variable.substr(0, equals).c_str(), variable.substr(equals + 1).c_str(), 1),
        "setenv");
  OrDie(execl("/proc/self/exe", "hand-over", "new", nullptr), "exec");
}

void AfterExec() {
  gmem::kvm::FdTable table = OrDie(gmem::kvm::FdTable::Inherit(getenv));
  GoOn(OrDie(table.Take("vm")), OrDie(table.Take("ram")));
}

// A message of two descriptors.
struct Message {
  Message() {
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
  }

  char byte = 0;
  iovec vector = {&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control = {};
  msghdr header = {};
};

void Send(int socket, const Guest& guest) {
  const int fds[2] = {guest.vm.fd(), guest.memory.fd()};
  Message message;
  cmsghdr* control = CMSG_FIRSTHDR(&message.header);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(sizeof(fds));
  std::memcpy(CMSG_DATA(control), fds, sizeof(fds));
  OrDie(sendmsg(socket, &message.header, MSG_NOSIGNAL), "sendmsg");
}

void Receive(int socket) {
  Message message;
  OrDie(recvmsg(socket, &message.header, MSG_CMSG_CLOEXEC), "recvmsg");
  const cmsghdr* control = CMSG_FIRSTHDR(&message.header);
  int fds[2];
  if (control == nullptr || control->cmsg_type != SCM_RIGHTS ||
      control->cmsg_len != CMSG_LEN(sizeof(fds))) {
    Die(absl::DataLossError("two descriptors should have come"));
  }
  std::memcpy(fds, CMSG_DATA(control), sizeof(fds));
  GoOn(gmem::UniqueFd(fds[0]), gmem::UniqueFd(fds[1]));
}

// Over a socket: the child is the old VMM, and has ended when the parent continues.
void OverSocket() {
  int ends[2];
  OrDie(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
  const gmem::UniqueFd here(ends[0]), there(ends[1]);
  const pid_t child = OrDie(fork(), "fork");
  if (child == 0) {
    Send(there.get(), Begin());
    return;
  }
  OrDie(waitpid(child, nullptr, 0), "waitpid");
  Receive(here.get());
}

int main(int argc, char** argv) {
  const std::string_view how = argc == 2 ? argv[1] : "";
  if (how == "exec") {
    Exec(Begin());
  } else if (how == "new") {
    AfterExec();
  } else if (how == "socket") {
    OverSocket();
  } else {
    Die(absl::InvalidArgumentError("usage: hand-over exec|socket"));
  }
}
