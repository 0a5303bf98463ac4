// SPDX-License-Identifier: MIT OR Apache-2.0
// gmemctl exec: runs a command that inherits a guestmem.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/exit_status.h"
#include "base/program.h"
#include "commands.h"
#include "flags.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/kvm/fd_table.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmemctl {
namespace {

// The first descriptor that isn't standard input, output or error.
constexpr int kFirstFd = 3;

// Moves the descriptor to the number that the command expects. It is still close-on-exec.
absl::StatusOr<gmem::UniqueFd> WithNumber(gmem::UniqueFd fd, int wanted) {
  if (wanted >= 0 && wanted < kFirstFd) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--fd ", wanted, " is standard input, output or error: take a number from 3 on"));
  }
  if (fd.get() >= kFirstFd && (wanted < 0 || wanted == fd.get())) return fd;
  if (wanted >= 0 && fcntl(wanted, F_GETFD) >= 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("--fd ", wanted, " is open already: take another number"));
  }
  gmem::UniqueFd moved(wanted < 0 ? fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstFd)
                                  : dup3(fd.get(), wanted, O_CLOEXEC));
  if (moved) return moved;
  return absl::ErrnoToStatus(errno, wanted < 0
                                        ? "can't duplicate the guestmem's descriptor"
                                        : absl::StrCat("can't give the guestmem --fd ", wanted));
}

absl::Status SetVariable(const char* name, const std::string& value) {
  if (setenv(name, value.c_str(), 1) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("can't set $", name));
}

// Passes @fd to the next program, with the descriptors that this program inherited.
absl::Status PrepareNamed(gmem::kvm::FdTable& table, const std::string& name, gmem::UniqueFd fd) {
  if (absl::Status status = table.Adopt(name, std::move(fd)); !status.ok()) {
    if (!absl::IsInvalidArgument(status)) return status;
    // A mistake of the user has another exit status than a call that fails.
    return absl::InvalidArgumentError(absl::StrCat("--name: ", status.message()));
  }
  const auto variable = table.PrepareExec();
  if (!variable.ok()) return variable.status();
  // The value comes after the name and '='.
  return SetVariable(gmem::kvm::FdTable::kVariable,
                     variable->substr(sizeof(gmem::kvm::FdTable::kVariable)));
}

}  // namespace

absl::StatusOr<int> RunExec(Arguments arguments) {
  const gmem::ByteSize size(absl::GetFlag(FLAGS_size).value_or(0));
  if (size.value() == 0) return absl::InvalidArgumentError("exec needs --size, say --size 256M");
  if (arguments.empty()) {
    return absl::InvalidArgumentError("exec needs a command: gmemctl exec --size 256M -- COMMAND");
  }
  const std::string name = absl::GetFlag(FLAGS_name);
  absl::StatusOr<gmem::kvm::FdTable> table = gmem::kvm::FdTable();
  if (!name.empty()) table = gmem::kvm::FdTable::Inherit(getenv);
  if (!table.ok()) return table.status();

  auto device = gmem::Device::Open();
  if (!device.ok()) return device.status();
  const auto info = device->Info();
  if (!info.ok()) return info.status();
  gmem::GuestMemoryOptions options = {.huge_pages = absl::GetFlag(FLAGS_hugepages)};
  // An older module has no names. The table of descriptors allows longer ones, and reports those
  // that aren't printable.
  if (info->has_names && std::all_of(name.begin(), name.end(), [](char c) {
        return absl::ascii_isprint(static_cast<unsigned char>(c));
      })) {
    options.name = name.substr(0, gmem::kMaxNameLength);
  }
  auto memory = device->CreateGuestMemory(size, options);
  // Close the device: its number may be the one that --fd asks for.
  device = absl::CancelledError();
  if (!memory.ok()) return memory.status();
  const FdNumber wanted = absl::GetFlag(FLAGS_fd);
  auto numbered =
      WithNumber((*std::move(memory)).Release(), wanted ? static_cast<int>(*wanted) : -1);
  if (!numbered.ok()) return numbered.status();
  const int fd = numbered->get();
  if (name.empty()) {
    if (fcntl(fd, F_SETFD, 0) != 0) {
      return absl::ErrnoToStatus(errno, "can't let the command inherit the guestmem");
    }
  } else if (absl::Status status = PrepareNamed(*table, name, *std::move(numbered)); !status.ok()) {
    return status;
  }
  if (absl::Status status = SetVariable("GMEM_FD", absl::StrCat(fd)); !status.ok()) return status;

  std::vector<std::string> words;
  for (const char* const argument : arguments) {
    words.push_back(absl::StrReplaceAll(argument, {{"{}", absl::StrCat(fd)}}));
  }
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  const int error = errno;
  tools::PrintError("gmemctl", absl::StrCat("can't run ", words[0], ": ", strerror(error)));
  return error == ENOENT ? tools::kExitNotFound : tools::kExitCantRun;
}

}  // namespace gmemctl
