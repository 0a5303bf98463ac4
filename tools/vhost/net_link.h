// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_NET_LINK_H_
#define GMEM_TOOLS_VHOST_NET_LINK_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"

// The host's side of a pair of queues: a queue of a tap, or a socket that keeps the borders of
// messages, each of which is a frame. No method waits.
class NetLink {
 public:
  // Opens @count queues of the tap @name, which is made if there is none.
  static absl::StatusOr<std::vector<NetLink>> OpenTap(const std::string& name, size_t count);
  // A tap with IFF_VNET_HDR, or a socket of type SOCK_DGRAM or SOCK_SEQPACKET.
  static absl::StatusOr<NetLink> Adopt(gmem::UniqueFd fd);

  int fd() const { return fd_.get(); }
  // Can the other side finish checksums, and cut large packets into segments?
  bool has_offloads() const { return is_tap_; }

  // The bytes of the virtio_net_hdr that frames begin with here: 10 or 12.
  absl::Status SetHeaderSize(int size);
  // Bits of TUN_F_: what the driver takes.
  absl::Status SetOffloads(unsigned offloads) const;
  // Shall the tap use this queue? A tap with one queue always does.
  void SetAttached(bool is_attached);

  // Sends a header and a frame, which is lost if there is no room.
  void Send(absl::Span<iovec> pieces) const;
  // Receives a header and a frame. Returns their size, or no value if there is no frame now.
  // Errors: there will be none.
  absl::StatusOr<std::optional<size_t>> Receive(absl::Span<uint8_t> to) const;

 private:
  NetLink(gmem::UniqueFd fd, bool is_tap, bool has_queues)
      : fd_(std::move(fd)), is_tap_(is_tap), has_queues_(has_queues) {}

  gmem::UniqueFd fd_;
  bool is_tap_;
  bool has_queues_;
  bool is_datagram_ = false;
  bool is_attached_ = true;
  size_t header_size_ = 12;
};

#endif  // GMEM_TOOLS_VHOST_NET_LINK_H_
