// SPDX-License-Identifier: MIT OR Apache-2.0
// gmem-vhost-net: a virtio network device on a tap or on sockets, for a VMM that speaks vhost-user.
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/flag_types.h"
#include "base/program.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/device.h"
#include "net_device.h"
#include "net_link.h"
#include "serve.h"

// With the control queue, that is all the virtqueues that a device may have.
using PairCount = tools::NumberIn<1, 127>;

ABSL_FLAG(std::string, tap, "", "the tap to use; it is made if there is none");
ABSL_FLAG(std::vector<std::string>, link_fds, {},
          "instead of --tap: descriptors of taps or sockets, one for each pair of queues");
ABSL_FLAG(PairCount, queue_pairs, 1, "with --tap: pairs of queues, 1 to 127");
ABSL_FLAG(std::string, mac, "", "MAC address; the default is the front-end's choice");

namespace {

absl::StatusOr<std::vector<NetLink>> OpenLinks() {
  const std::string tap = absl::GetFlag(FLAGS_tap);
  const std::vector<std::string> numbers = absl::GetFlag(FLAGS_link_fds);
  if (tap.empty() == numbers.empty()) {
    return absl::InvalidArgumentError("give either --tap or --link-fds");
  }
  if (!tap.empty()) return NetLink::OpenTap(tap, *absl::GetFlag(FLAGS_queue_pairs));
  std::vector<NetLink> links;
  for (const std::string& number : numbers) {
    int fd = -1;
    if (!absl::SimpleAtoi(number, &fd) || fd < 3 || links.size() == 127) {
      return absl::InvalidArgumentError(
          absl::StrCat("--link-fds=", number, ": use 1 to 127 numbers from 3 on"));
    }
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("--link-fds=", number));
    }
    absl::StatusOr<NetLink> link = NetLink::Adopt(gmem::UniqueFd(fd));
    if (!link.ok()) return link.status();
    links.push_back(*std::move(link));
  }
  return links;
}

absl::StatusOr<std::unique_ptr<gmem::vhost::Device>> Make() {
  const std::string text = absl::GetFlag(FLAGS_mac);
  const std::optional<NetDevice::Mac> mac = NetDevice::ParseMac(text);
  if (!text.empty() && !mac) {
    return absl::InvalidArgumentError(
        absl::StrCat("--mac=", text, ": use the address of one station, as 52:54:00:12:34:56"));
  }
  absl::StatusOr<std::vector<NetLink>> links = OpenLinks();
  if (!links.ok()) return links.status();
  return std::make_unique<NetDevice>(*std::move(links), mac);
}

absl::StatusOr<int> Run(tools::Words words) {
  return RunDevice({.name = "gmem-vhost-net",
                    .type = "net",
                    .has_queue_threads = true,
                    .sandbox = {.ioctls = {TUNSETVNETHDRSZ, TUNSETOFFLOAD, TUNSETQUEUE}},
                    .make = Make},
                   words);
}

}  // namespace

int main(int argc, char** argv) {
  return tools::RunProgram(
      {.name = "gmem-vhost-net",
       .run = Run,
       .usage = "gmem-vhost-net --socket-path=PATH --tap=NAME [--queue-pairs=N] [--mac=ADDRESS]\n"
                "               [--sandbox=on|off]\n"
                "gmem-vhost-net --socket-path=PATH --link-fds=N[,...] [--mac=ADDRESS]\n"
                "gmem-vhost-net --fd=N --tap=NAME|--link-fds=N[,...]\n"
                "gmem-vhost-net --print-capabilities",
       .summary = "a virtio network device on a tap or on sockets, over vhost-user"},
      argc, argv);
}
