// SPDX-License-Identifier: Apache-2.0
// gmemctl exec: a command with a guestmem.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "commands.h"
#include "flags.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmemctl {
namespace {

// The descriptor that the command is to have: not close-on-exec, under the number asked for.
absl::StatusOr<int> MakeInheritable(const gmem::GuestMemory& memory, int wanted) {
  if (wanted < 0) {
    // Away from standard input, output and error.
    const int fd = fcntl(memory.fd(), F_DUPFD, 3);
    if (fd < 0) return absl::ErrnoToStatus(errno, "can't duplicate the guestmem's descriptor");
    return fd;
  }
  if (wanted < 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--fd ", wanted, " is standard input, output or error: take a number from 3 on"));
  }
  if (wanted != memory.fd() && fcntl(wanted, F_GETFD) >= 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("--fd ", wanted, " is open already: take another number"));
  }
  const bool ok =
      wanted == memory.fd() ? fcntl(wanted, F_SETFD, 0) == 0 : dup2(memory.fd(), wanted) >= 0;
  if (!ok) return absl::ErrnoToStatus(errno, absl::StrCat("can't use --fd ", wanted));
  return wanted;
}

absl::Status SetVariables(int fd, const std::string& name) {
  if (setenv("GMEM_FD", absl::StrCat(fd).c_str(), 1) != 0) {
    return absl::ErrnoToStatus(errno, "can't set $GMEM_FD");
  }
  if (name.empty()) return absl::OkStatus();
  // As gmem::kvm::FdTable reads it.
  const auto wrong = [](char c) { return c < ' ' || c >= 0x7f || c == ':'; };
  if (name.size() > 255 || std::any_of(name.begin(), name.end(), wrong)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--name \"", absl::CHexEscape(name),
                     "\" is not up to 255 printable ASCII characters without a colon"));
  }
  const char* const others = getenv("GMEM_FDS");
  const std::string entry = absl::StrCat(fd, "=", name);
  const std::string all =
      others == nullptr || *others == '\0' ? entry : absl::StrCat(others, ":", entry);
  if (setenv("GMEM_FDS", all.c_str(), 1) != 0) {
    return absl::ErrnoToStatus(errno, "can't set $GMEM_FDS");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int> RunExec(Arguments arguments) {
  const gmem::ByteSize size(absl::GetFlag(FLAGS_size).bytes);
  if (size.value() == 0) return absl::InvalidArgumentError("exec needs --size, say --size 256M");
  if (arguments.empty()) {
    return absl::InvalidArgumentError("exec needs a command: gmemctl exec --size 256M -- COMMAND");
  }
  auto device = gmem::Device::Open();
  if (!device.ok()) return device.status();
  const auto memory =
      device->CreateGuestMemory(size, {.huge_pages = absl::GetFlag(FLAGS_hugepages)});
  // Its number may be the one that is asked for.
  device = absl::CancelledError();
  if (!memory.ok()) return memory.status();
  const auto fd = MakeInheritable(*memory, absl::GetFlag(FLAGS_fd));
  if (!fd.ok()) return fd.status();
  if (absl::Status status = SetVariables(*fd, absl::GetFlag(FLAGS_name)); !status.ok()) {
    return status;
  }

  std::vector<std::string> words;
  for (const char* const argument : arguments) {
    words.push_back(absl::StrReplaceAll(argument, {{"{}", absl::StrCat(*fd)}}));
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  const int error = errno;
  std::cerr << "gmemctl: can't run " << words[0] << ": " << strerror(error) << "\n";
  return error == ENOENT ? kExitNotFound : kExitCantRun;
}

}  // namespace gmemctl
