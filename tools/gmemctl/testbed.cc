// SPDX-License-Identifier: Apache-2.0
// Helps gmemctl-test.sh, which has only busybox besides:
//   gmemctl-testbed vm [COMM [NAME]]
//                                keeps a VM called NAME and its guestmem, "ram of NAME", until
//                                standard input ends, in a process with the name COMM; with a
//                                NAME, also a view of the guestmem, "disk of NAME", and a
//                                descriptor of the VM's window, "window of NAME"; prints
//                                "VM-DESCRIPTOR MEMORY-DESCRIPTOR"
//   gmemctl-testbed json POINTER prints the value at POINTER of the JSON on standard input
//   gmemctl-testbed jsonlines    counts the lines of standard input, each of which must be JSON
#include <sys/prctl.h>
#include <unistd.h>

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
#include "gmem/window_descriptor.h"
#include "nlohmann/json.hpp"

namespace {

constexpr gmem::ByteSize kPage = gmem::KiB(4);

int Fail(const absl::Status& status) {
  std::cerr << "gmemctl-testbed: " << status.message() << "\n";
  return 1;
}

// Lends 16 pages at 0x10000, of which the guest has used 4, and shares 4 pages at 0x100000, which
// the guest has used, with a policy of their own. When an "s" comes over the standard input, shares
// the first page of the lent ones; another byte closes the VM. Ends with the input.
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
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
    if (byte != 's') {
      vm = absl::CancelledError("only the window is left");
      continue;
    }
    status = vm->Change({gmem::GuestAddress(0x10000), kPage}, {.mode = gmem::MapMode::kShare});
    if (!status.ok()) return Fail(status);
  }
  return 0;
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

}  // namespace

int main(int argc, char** argv) {
  const absl::string_view word = argc > 1 ? argv[1] : "";
  try {
    if (word == "vm") {
      if (argc > 2) prctl(PR_SET_NAME, argv[2]);
      return HoldVm(argc > 3 ? argv[3] : "");
    }
    if (word == "json" && argc > 2) return PrintValue(argv[2]);
    if (word == "jsonlines") return CountLines();
  } catch (const std::exception& error) {
    std::cerr << "gmemctl-testbed: " << error.what() << "\n";
    return 1;
  }
  std::cerr << "usage: gmemctl-testbed vm [COMM [NAME]] | json POINTER | jsonlines\n";
  return 1;
}
