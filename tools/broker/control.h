// SPDX-License-Identifier: MIT OR Apache-2.0
// The control socket, from both sides.
#ifndef GMEM_TOOLS_BROKER_CONTROL_H_
#define GMEM_TOOLS_BROKER_CONTROL_H_

#include <poll.h>

#include <list>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "guest.h"

namespace broker {

// A listening Unix socket that only the owner of this process may connect to. A peer sends
// commands, a line each.
class Control {
 public:
  // Replaces an old socket at @path if nobody listens there.
  static absl::StatusOr<Control> Listen(const std::string& path);

  // Appends the descriptors to wait for. Returns for how many milliseconds to wait at most; -1 is
  // for ever.
  int AddTo(std::vector<pollfd>& fds) const;
  // Carries out the commands that have arrived. Waits for a peer only while it sends answers, for a
  // second at most.
  void Process(Guest& guest);

 private:
  // More peers wait. While all places are taken, a peer that has sent no command for kMaxSilence is
  // disconnected.
  static constexpr size_t kMaxPeers = 16;
  static constexpr absl::Duration kMaxSilence = absl::Seconds(5);

  struct Peer {
    gmem::UniqueFd socket;
    // The command that isn't complete yet.
    std::string line;
    // When the last command, or the connection, came: the time since the start of the system.
    absl::Duration last_command;
  };

  explicit Control(gmem::vhost::Listener listener) : listener_(std::move(listener)) {}

  void Accept();
  static bool Serve(Peer& peer, Guest& guest);

  gmem::vhost::Listener listener_;
  std::list<Peer> peers_;
};

// Sends a command to the broker that listens at @path. Prints the answer. The status is that of the
// command.
absl::Status Tell(const std::string& path, absl::string_view command);

}  // namespace broker

#endif  // GMEM_TOOLS_BROKER_CONTROL_H_
