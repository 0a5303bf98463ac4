// SPDX-License-Identifier: MIT OR Apache-2.0
// Helps gmemctl-test.sh, which has only busybox besides:
//   gmemctl-testbed vm [COMM [NAME]]
//                                keeps a VM called NAME and its guestmem, "ram of NAME", until
//                                standard input ends, in a process with the name COMM; with a
//                                NAME, also a view of the guestmem, "disk of NAME", and a
//                                descriptor of the VM's window, "window of NAME"; prints
//                                "VM-DESCRIPTOR MEMORY-DESCRIPTOR"
//   gmemctl-testbed large        the same with a larger VM: 8 GiB in four bindings, "db-1"
//   gmemctl-testbed scattered N  the same with N bindings of a page, far from each other
//   gmemctl-testbed terminal KEYS COMMAND...
//                                runs the command in a terminal, types the keys, one each 200 ms,
//                                and prints what the command printed
//   gmemctl-testbed json POINTER prints the value at POINTER of the JSON on standard input
//   gmemctl-testbed compact      prints each JSON text on standard input on a line of its own
//   gmemctl-testbed jsonlines    counts the lines of standard input, each of which must be JSON
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/memory_view.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gmem/window.h"
#include "gmem/window_descriptor.h"
#include "nlohmann/json.hpp"

namespace {

constexpr gmem::ByteSize kPage = gmem::KiB(4);

int Fail(const absl::Status& status) {
  std::cerr << "gmemctl-testbed: " << status.message() << "\n";
  return 1;
}

sigjmp_buf refused;
void OnRefused(int /*signal*/) { siglongjmp(refused, 1); }

// Makes an access as the guest that the module must refuse.
absl::Status TouchUnbound(const gmem::Vm& vm, uint64_t address, bool write) {
  auto window = gmem::Window::Create(vm, {gmem::GuestAddress(address), kPage});
  if (!window.ok()) return window.status();
  signal(SIGBUS, OnRefused);
  volatile uint8_t* const page = window->data();
  if (sigsetjmp(refused, 1) != 0) return absl::OkStatus();
  if (write) {
    *page = 1;
  } else {
    (void)*page;
  }
  return absl::InternalError("an access to an unbound page wasn't refused");
}

// Does what a byte of the standard input asks for. Cancelled: close the VM.
absl::Status Obey(char byte, const gmem::Vm& vm) {
  switch (byte) {
    case 's':
      return vm.Change({gmem::GuestAddress(0x10000), kPage}, {.mode = gmem::MapMode::kShare});
    case 'l':
      return vm.Change({gmem::GuestAddress(0x10000), kPage}, {.mode = gmem::MapMode::kLend});
    case 'f': {
      absl::Status status = TouchUnbound(vm, 0x200000, /*write=*/false);
      status.Update(TouchUnbound(vm, 0x200000, /*write=*/false));
      status.Update(TouchUnbound(vm, 0x201000, /*write=*/true));
      return status;
    }
    case 'p': {
      pollfd poll_fd = {.fd = vm.fd(), .events = POLLPRI, .revents = 0};
      if (poll(&poll_fd, 1, 0) != 1) return absl::OkStatus();
      return TouchUnbound(vm, 0x300000, /*write=*/false);
    }
    default:
      return absl::CancelledError("only the window is left");
  }
}

// Lends 16 pages at 0x10000, of which the guest has used 4, and shares 4 pages at 0x100000, which
// the guest has used, with a policy of their own. Obeys the bytes that come over the standard
// input:
//   s, l: shares the first page of the lent ones, or lends it again
//   f: makes three accesses that are refused
//   p: makes another one if poll() reports that there are refused ones
//   another byte closes the VM
// Ends with the input.
int HoldVm(const std::string& name) {
  const auto device = gmem::Device::Open();
  if (!device.ok()) return Fail(device.status());
  auto vm = device->CreateVm({.name = name});
  if (!vm.ok()) return Fail(vm.status());
  const auto memory = device->CreateGuestMemory(
      32 * kPage, {.name = name.empty() ? std::string() : absl::StrCat("ram of ", name)});
  if (!memory.ok()) return Fail(memory.status());
  absl::Status status =
      vm->Map(*memory, {.guest_address = gmem::GuestAddress(0x10000), .size = 16 * kPage});
  status.Update(vm->Map(*memory, {.guest_address = gmem::GuestAddress(0x100000),
                                  .offset = gmem::ByteOffset(0x14000),
                                  .size = 4 * kPage,
                                  .mode = gmem::MapMode::kShare,
                                  .policy = gmem::ReclaimPolicy::kScrub}));
  status.Update(memory->Allocate({gmem::ByteOffset(0xc000), 2 * kPage}));
  status.Update(vm->Populate({gmem::GuestAddress(0x10000), 4 * kPage}));
  status.Update(vm->Populate({gmem::GuestAddress(0x100000), 4 * kPage}));
  if (!status.ok()) return Fail(status);
  std::optional<gmem::MemoryView> view;
  std::optional<gmem::WindowDescriptor> window;
  if (!name.empty()) {
    auto new_view = memory->CreateView({gmem::ByteOffset(0x14000), 4 * kPage},
                                       {.read_only = true, .name = absl::StrCat("disk of ", name)});
    if (!new_view.ok()) return Fail(new_view.status());
    view.emplace(*std::move(new_view));
    auto new_window = vm->OpenWindow({gmem::GuestAddress(0x10000), 16 * kPage},
                                     {.name = absl::StrCat("window of ", name)});
    if (!new_window.ok()) return Fail(new_window.status());
    window.emplace(*std::move(new_window));
  }
  std::cout << vm->fd() << " " << memory->fd();
  if (!name.empty()) std::cout << " " << window->fd() << " " << view->fd();
  std::cout << std::endl;
  for (char byte = 0; read(STDIN_FILENO, &byte, 1) > 0;) {
    if (absl::Status obeyed = Obey(byte, *vm); !obeyed.ok()) {
      if (!absl::IsCancelled(obeyed)) return Fail(obeyed);
      vm = obeyed;
    }
  }
  return 0;
}

// Prints the number of the VM's descriptor, and waits for the end of the input.
int HoldUntilEnd(const gmem::Vm& vm) {
  std::cout << vm.fd() << std::endl;
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}

// A VM such as a host has: RAM below and above the hole for devices, of which the guest has used a
// part, a ring that is shared with a device, and a ROM.
int HoldLargeVm() {
  const auto device = gmem::Device::Open();
  if (!device.ok()) return Fail(device.status());
  const auto vm = device->CreateVm({.name = "db-1"});
  if (!vm.ok()) return Fail(vm.status());
  const auto ram = device->CreateGuestMemory(gmem::GiB(8), {.name = "ram of db-1"});
  const auto ring = device->CreateGuestMemory(gmem::MiB(64), {.name = "ring of db-1"});
  if (!ram.ok()) return Fail(ram.status());
  if (!ring.ok()) return Fail(ring.status());
  const gmem::ByteSize low = gmem::GiB(3);
  absl::Status status = vm->Map(*ram, {.size = low});
  status.Update(vm->Map(*ram, {.guest_address = gmem::GuestAddress(uint64_t{4} << 30),
                               .offset = gmem::ByteOffset(low.value()),
                               .size = gmem::GiB(5)}));
  status.Update(vm->Map(*ring, {.guest_address = gmem::GuestAddress(uint64_t{0xd0000000}),
                                .size = gmem::MiB(64),
                                .mode = gmem::MapMode::kShare}));
  // The kernel and its data, then what was used here and there.
  status.Update(vm->Populate({gmem::GuestAddress(0), gmem::MiB(48)}));
  for (uint64_t at = 160; at < 8000; at += 440) {
    const uint64_t place = at < 3072 - 32 ? at : at + 1024;
    status.Update(vm->Populate({gmem::GuestAddress(place << 20), gmem::MiB(at % 3 == 0 ? 12 : 2)}));
  }
  status.Update(vm->Populate({gmem::GuestAddress(uint64_t{0xd0000000}), gmem::MiB(8)}));
  status.Update(ram->Allocate({gmem::ByteOffset(uint64_t{1400} << 20), gmem::MiB(24)}));
  if (!status.ok()) return Fail(status);
  return HoldUntilEnd(*vm);
}

int HoldScatteredVm(int nr_bindings) {
  const auto device = gmem::Device::Open();
  if (!device.ok()) return Fail(device.status());
  const auto vm = device->CreateVm({.name = "scattered"});
  if (!vm.ok()) return Fail(vm.status());
  const auto ram =
      device->CreateGuestMemory(static_cast<uint64_t>(nr_bindings) * kPage, {.name = "scraps"});
  if (!ram.ok()) return Fail(ram.status());
  for (int i = 0; i < nr_bindings; ++i) {
    const absl::Status status =
        vm->Map(*ram, {.guest_address = gmem::GuestAddress(static_cast<uint64_t>(i) << 21),
                       .offset = gmem::ByteOffset(static_cast<uint64_t>(i) * kPage.value()),
                       .size = kPage});
    if (!status.ok()) return Fail(status);
  }
  if (absl::Status status = vm->Populate({gmem::GuestAddress(0), kPage}); !status.ok()) {
    return Fail(status);
  }
  return HoldUntilEnd(*vm);
}

int RunInTerminal(const char* keys, char** command) {
  int terminal = -1;
  winsize size = {.ws_row = 40, .ws_col = 120, .ws_xpixel = 0, .ws_ypixel = 0};
  const pid_t child = forkpty(&terminal, nullptr, nullptr, &size);
  if (child < 0) return Fail(absl::ErrnoToStatus(errno, "forkpty"));
  if (child == 0) {
    execvp(command[0], command);
    _exit(127);
  }
  char buffer[4096];
  while (true) {
    pollfd poll_fd = {.fd = terminal, .events = POLLIN, .revents = 0};
    if (poll(&poll_fd, 1, *keys != 0 ? 200 : -1) == 0) {
      if (write(terminal, keys++, 1) != 1) break;
      continue;
    }
    const ssize_t got = read(terminal, buffer, sizeof(buffer));
    // EIO: the command has ended.
    if (got <= 0) break;
    std::cout.write(buffer, got);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int PrintValue(const char* pointer) {
  const nlohmann::json json = nlohmann::json::parse(std::cin);
  const nlohmann::json& value = json.at(nlohmann::json::json_pointer(pointer));
  std::cout << (value.is_string() ? value.get<std::string>() : value.dump()) << "\n";
  return 0;
}

int CountLines() {
  int lines = 0;
  for (std::string line; std::getline(std::cin, line); ++lines) {
    if (nlohmann::json::parse(line).is_null()) return 1;
  }
  std::cout << lines << "\n";
  return 0;
}

// Prints each JSON text of the input, of which there may be several, on a line.
int Compact() {
  const std::string text(std::istreambuf_iterator<char>(std::cin), {});
  size_t begin = 0;
  for (size_t end = 0; begin < text.size(); ++end) {
    // A text begins and ends without a space before it.
    end = text.find("\n", end);
    if (end == std::string::npos) return 1;
    const std::string part = text.substr(begin, end + 1 - begin);
    if (!nlohmann::json::accept(part)) continue;
    std::cout << nlohmann::json::parse(part).dump() << "\n";
    begin = end + 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const absl::string_view word = argc > 1 ? argv[1] : "";
  try {
    if (word == "vm") {
      if (argc > 2) prctl(PR_SET_NAME, argv[2]);
      return HoldVm(argc > 3 ? argv[3] : "");
    }
    if (word == "large") return HoldLargeVm();
    if (word == "scattered" && argc > 2) return HoldScatteredVm(std::stoi(argv[2]));
    if (word == "terminal" && argc > 3) return RunInTerminal(argv[2], argv + 3);
    if (word == "compact") return Compact();
    if (word == "json" && argc > 2) return PrintValue(argv[2]);
    if (word == "jsonlines") return CountLines();
  } catch (const std::exception& error) {
    std::cerr << "gmemctl-testbed: " << error.what() << "\n";
    return 1;
  }
  std::cerr << "usage: gmemctl-testbed vm [COMM [NAME]] | large | scattered N |\n"
               "  terminal KEYS COMMAND... | json POINTER | jsonlines | compact\n";
  return 1;
}
