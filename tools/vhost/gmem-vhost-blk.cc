// SPDX-License-Identifier: MIT OR Apache-2.0
// gmem-vhost-blk: a virtio block device on a file, for a VMM that speaks vhost-user.
#include <linux/userfaultfd.h>
#include <linux/virtio_blk.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/program.h"
#include "block_device.h"
#include "block_image.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/device.h"
#include "sandbox.h"
#include "serve.h"

using Locking = BlockDevice::Locking;

// The value of --lock. Abseil finds these functions in the namespace of the type.
struct LockFlag {
  Locking value = Locking::kFromStart;
};

bool AbslParseFlag(absl::string_view text, LockFlag* flag, std::string* error) {
  if (text == "on") {
    flag->value = Locking::kFromStart;
  } else if (text == "late") {
    flag->value = Locking::kWhileUsed;
  } else if (text == "off") {
    flag->value = Locking::kNever;
  } else {
    *error = "use on, late or off";
    return false;
  }
  return true;
}

std::string AbslUnparseFlag(LockFlag flag) {
  switch (flag.value) {
    case Locking::kFromStart:
      return "on";
    case Locking::kWhileUsed:
      return "late";
    case Locking::kNever:
      break;
  }
  return "off";
}

ABSL_FLAG(std::string, blk_file, "", "the disk: a file, or a block device of the host");
ABSL_FLAG(bool, read_only, false, "refuse writes");
ABSL_FLAG(QueueCount, queues, 4, "number of virtqueues, 1 to 256");
ABSL_FLAG(std::string, serial, "gmem-vhost-blk", "the disk's serial number, 1 to 20 bytes");
ABSL_FLAG(LockFlag, lock, {},
          "lock the disk against other writers: on, late (only while the guest uses it, for the "
          "destination of a migration) or off");
ABSL_FLAG(bool, postcopy, false,
          "offer postcopy migration, with which the front-end gets a userfaultfd of this process");

namespace {

// A descriptor that is readable when the file may have grown.
absl::StatusOr<gmem::UniqueFd> GrowthSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGHUP);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  gmem::UniqueFd fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return absl::ErrnoToStatus(errno, "can't wait for SIGHUP");
  return fd;
}

absl::StatusOr<std::unique_ptr<gmem::vhost::Device>> Make() {
  if (absl::GetFlag(FLAGS_blk_file).empty()) {
    return absl::InvalidArgumentError("--blk-file is missing: give the path of the disk");
  }
  const std::string serial = absl::GetFlag(FLAGS_serial);
  if (serial.empty() || serial.size() > VIRTIO_BLK_ID_BYTES) {
    return absl::InvalidArgumentError(
        absl::StrCat("--serial=", serial, ": use 1 to ", VIRTIO_BLK_ID_BYTES, " bytes"));
  }
  absl::StatusOr<std::unique_ptr<BlockImage>> image =
      BlockImage::Open(absl::GetFlag(FLAGS_blk_file), absl::GetFlag(FLAGS_read_only));
  if (!image.ok()) return image.status();
  absl::StatusOr<gmem::UniqueFd> growth = GrowthSignals();
  if (!growth.ok()) return growth.status();
  return BlockDevice::Create(*std::move(image), *std::move(growth),
                             {.nr_queues = static_cast<uint16_t>(*absl::GetFlag(FLAGS_queues)),
                              .locking = absl::GetFlag(FLAGS_lock).value,
                              .serial = serial,
                              .has_postcopy = absl::GetFlag(FLAGS_postcopy)});
}

SandboxRules Sandbox() {
  // The last ones are for a disk without rings.
  SandboxRules rules = {.calls = {"io_uring_enter", "preadv", "pwritev", "fdatasync"}};
  if (absl::GetFlag(FLAGS_postcopy)) {
    rules.calls.emplace_back("userfaultfd");
    rules.ioctls = {UFFDIO_API, UFFDIO_REGISTER, UFFDIO_UNREGISTER};
  }
  return rules;
}

absl::StatusOr<int> Run(tools::Words words) {
  return RunDevice({.name = "gmem-vhost-blk",
                    .type = "block",
                    .features = {"read-only", "blk-file"},
                    .has_queue_threads = true,
                    .sandbox = Sandbox(),
                    .make = Make},
                   words);
}

}  // namespace

int main(int argc, char** argv) {
  return tools::RunProgram(
      {.name = "gmem-vhost-blk",
       .run = Run,
       .usage = "gmem-vhost-blk --socket-path=PATH --blk-file=IMAGE [--read-only] [--queues=N]\n"
                "               [--serial=TEXT] [--lock=on|late|off] [--postcopy]\n"
                "               [--sandbox=on|off]\n"
                "gmem-vhost-blk --fd=N --blk-file=IMAGE [...]\n"
                "gmem-vhost-blk --print-capabilities",
       .summary = "a virtio block device on a file, over vhost-user"},
      argc, argv);
}
