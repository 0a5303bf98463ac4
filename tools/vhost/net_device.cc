// SPDX-License-Identifier: MIT OR Apache-2.0
#include "net_device.h"

#include <linux/if_tun.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/program.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "net_link.h"
#include "virtio_net.h"

namespace {

using gmem::vhost::Chain;
using gmem::vhost::GuestSpan;
using gmem::vhost::Popped;
using gmem::vhost::Virtqueue;

constexpr absl::string_view kName = "gmem-vhost-net";
// The largest frame, before it is cut into segments, and its header.
constexpr size_t kMaxFrame = sizeof(virtio_net_hdr_v1) + 14 + 4 + 65535;
// Frames of one call: other queues and the front-end must be served, too.
constexpr int kBatch = 64;

constexpr uint64_t Feature(unsigned bit) { return uint64_t{1} << bit; }

}  // namespace

std::optional<NetDevice::Mac> NetDevice::ParseMac(absl::string_view text) {
  Mac mac;
  const std::vector<absl::string_view> bytes = absl::StrSplit(text, ':');
  if (bytes.size() != mac.size()) return std::nullopt;
  for (size_t i = 0; i < mac.size(); i++) {
    uint32_t byte = 0;
    if (bytes[i].size() != 2 || !absl::SimpleHexAtoi(bytes[i], &byte)) return std::nullopt;
    mac[i] = static_cast<uint8_t>(byte);
  }
  // An address of many stations.
  if ((mac[0] & 1) != 0) return std::nullopt;
  return mac;
}

NetDevice::NetDevice(std::vector<NetLink> links, std::optional<Mac> mac) : mac_(mac) {
  for (NetLink& link : links) {
    pairs_.emplace_back(std::move(link));
    pairs_.back().frame.resize(kMaxFrame);
  }
}

uint64_t NetDevice::features() const {
  uint64_t features = Feature(VIRTIO_NET_F_MRG_RXBUF) | Feature(VIRTIO_NET_F_CTRL_VQ);
  if (mac_) features |= Feature(VIRTIO_NET_F_MAC);
  if (pairs_.size() > 1) features |= Feature(VIRTIO_NET_F_MQ);
  if (std::all_of(pairs_.begin(), pairs_.end(),
                  [](const Pair& pair) { return pair.link.has_offloads(); })) {
    features |= Feature(VIRTIO_NET_F_CSUM) | Feature(VIRTIO_NET_F_HOST_TSO4) |
                Feature(VIRTIO_NET_F_HOST_TSO6) | Feature(VIRTIO_NET_F_GUEST_CSUM) |
                Feature(VIRTIO_NET_F_GUEST_TSO4) | Feature(VIRTIO_NET_F_GUEST_TSO6);
  }
  return features;
}

uint32_t NetDevice::config_size() const { return offsetof(virtio_net_config, mtu); }

absl::Status NetDevice::ReadConfig(uint32_t offset, absl::Span<uint8_t> to) {
  virtio_net_config config = {};
  if (mac_) std::copy(mac_->begin(), mac_->end(), config.mac);
  config.max_virtqueue_pairs = static_cast<uint16_t>(pairs_.size());
  std::memcpy(to.data(), reinterpret_cast<const uint8_t*>(&config) + offset, to.size());
  return absl::OkStatus();
}

void NetDevice::SetFeatures(uint64_t features) {
  // A migration turns the log on and off while virtqueues work. It doesn't concern the device.
  features &= ~gmem::vhost::Bit(gmem::vhost::VirtioFeature::kLogAll);
  if (features_ == features) return;
  features_ = features;
  const auto has = [features](unsigned bit) { return (features & Feature(bit)) != 0; };
  is_mergeable_ = has(VIRTIO_NET_F_MRG_RXBUF);
  nr_known_ = has(VIRTIO_NET_F_MQ) ? pairs_.size() : 1;
  nr_used_ = nr_known_;
  // virtio 1 always has the number of buffers in the header (5.1.6.1).
  has_nr_buffers_ = is_mergeable_ || has(VIRTIO_F_VERSION_1);
  const size_t header_size = has_nr_buffers_ ? sizeof(virtio_net_hdr_v1) : sizeof(virtio_net_hdr);
  const unsigned offloads = (has(VIRTIO_NET_F_GUEST_CSUM) ? TUN_F_CSUM : 0) |
                            (has(VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0) |
                            (has(VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0);
  for (size_t i = 0; i < pairs_.size(); i++) {
    NetLink& link = pairs_[i].link;
    // A queue that isn't attached takes no settings.
    link.SetAttached(true);
    absl::Status status = link.SetHeaderSize(static_cast<int>(header_size));
    if (status.ok()) status = link.SetOffloads(offloads);
    if (!status.ok()) tools::PrintError(kName, status.message());
    // The tap must not choose a queue that nobody reads.
    StopReceiving(i);
  }
}

void NetDevice::QueueStarted(gmem::vhost::Backend& /*backend*/, Virtqueue& queue) {
  // With a control queue, the driver says when it uses more than the first pair (5.1.5). A
  // front-end that keeps the control queue for itself enables the queues that the driver uses.
  if (queue.index() == control_index()) nr_used_ = 1;
}

void NetDevice::QueueStopped(uint16_t index) {
  if (IsReceiveQueue(index)) {
    StopReceiving(index / 2);
    pairs_[index / 2].frame_size = 0;
  }
  if (index == control_index()) nr_used_ = nr_known_;
}

void NetDevice::QueueFailed(uint16_t index, const absl::Status& why) {
  if (IsReceiveQueue(index)) StopReceiving(index / 2);
  tools::PrintError(kName,
                    absl::StrCat("virtqueue ", index, " is no longer served: ", why.message()));
}

absl::Status NetDevice::HandleQueue(gmem::vhost::Backend& /*backend*/, Virtqueue& queue) {
  if (IsReceiveQueue(queue.index())) {
    Receive(queue.index() / 2);
    return queue.status();
  }
  if (IsPair(queue.index())) {
    Pair& mine = pairs_[queue.index() / 2];
    for (int i = 0; i < kBatch && queue.Pop(mine.sent) == Popped::kChain; i++) {
      Send(mine);
      queue.Push(mine.sent, 0);
    }
    return queue.status();
  }
  for (int i = 0; i < kBatch && queue.Pop(command_) == Popped::kChain; i++) {
    const uint8_t answer = Control(command_);
    queue.Push(command_, command_.Write(0, &answer, sizeof(answer)));
  }
  return queue.status();
}

absl::Status NetDevice::HandleDisabledQueue(gmem::vhost::Backend& /*backend*/, Virtqueue& queue) {
  if (IsReceiveQueue(queue.index())) {
    StopReceiving(queue.index() / 2);
  } else if (IsPair(queue.index())) {
    Chain& dropped = pairs_[queue.index() / 2].sent;
    for (int i = 0; i < kBatch && queue.Pop(dropped) == Popped::kChain; i++) queue.Push(dropped, 0);
  }
  return queue.status();
}

Virtqueue* NetDevice::ReceiveQueue(size_t pair) const {
  const size_t index = 2 * pair;
  if (pair >= nr_used_ || backend_ == nullptr || !backend_->is_enabled(index)) return nullptr;
  Virtqueue* const queue = backend_->queue(index);
  return queue != nullptr && queue->status().ok() ? queue : nullptr;
}

void NetDevice::Receive(size_t pair) {
  Pair& mine = pairs_[pair];
  Virtqueue* const queue = ReceiveQueue(pair);
  if (queue == nullptr || mine.has_ended) {
    StopReceiving(pair);
    return;
  }
  mine.link.SetAttached(true);
  bool has_room = true;
  for (int i = 0; i < kBatch; i++) {
    if (mine.frame_size == 0) {
      const absl::StatusOr<std::optional<size_t>> size =
          mine.link.Receive(absl::MakeSpan(mine.frame));
      if (!size.ok()) {
        tools::PrintError(kName, size.status().message());
        mine.has_ended = true;
      }
      if (!size.ok() || !*size) break;
      mine.frame_size = **size;
    }
    has_room = Deliver(mine, *queue);
    if (!has_room) break;
    mine.frame_size = 0;
  }
  queue->Notify();
  if (!has_room || mine.has_ended) {
    Unwatch(pair);
    return;
  }
  if (mine.is_watched) return;
  const absl::Status status =
      backend_->Watch(queue->index(), mine.link.fd(), [this, pair] { Receive(pair); });
  if (!status.ok()) tools::PrintError(kName, status.message());
  mine.is_watched = status.ok();
}

bool NetDevice::Deliver(Pair& pair, Virtqueue& queue) const {
  size_t room = 0;
  size_t count = 0;
  const auto put_back = [&] {
    while (count > 0) queue.Unpop(pair.chains[--count]);
  };
  while (room < pair.frame_size) {
    // A frame that never fits is lost: one that needs more buffers than a packet or the ring has.
    if (count == (is_mergeable_ ? queue.size() : 1)) {
      put_back();
      return true;
    }
    if (count == pair.chains.size()) pair.chains.emplace_back();
    if (queue.Pop(pair.chains[count]) != Popped::kChain) {
      put_back();
      return false;
    }
    room += pair.chains[count++].writable_size();
  }
  const auto nr_buffers = static_cast<uint16_t>(count);
  if (has_nr_buffers_) {
    std::memcpy(pair.frame.data() + offsetof(virtio_net_hdr_v1, num_buffers), &nr_buffers,
                sizeof(nr_buffers));
  }
  size_t done = 0;
  for (size_t i = 0; i < count; i++) {
    done += pair.chains[i].Write(0, pair.frame.data() + done, pair.frame_size - done);
  }
  queue.PushAll(absl::MakeConstSpan(pair.chains).first(count), done);
  return true;
}

void NetDevice::StopReceiving(size_t pair) {
  Unwatch(pair);
  pairs_[pair].link.SetAttached(false);
}

void NetDevice::Unwatch(size_t pair) {
  Pair& mine = pairs_[pair];
  if (std::exchange(mine.is_watched, false)) {
    backend_->Unwatch(static_cast<uint16_t>(2 * pair), mine.link.fd());
  }
}

void NetDevice::Send(Pair& pair) {
  pair.pieces.clear();
  for (const GuestSpan span : pair.sent.readable()) {
    pair.pieces.push_back({.iov_base = span.data(), .iov_len = span.size()});
  }
  pair.link.Send(absl::MakeSpan(pair.pieces));
}

uint8_t NetDevice::Control(const Chain& chain) {
  virtio_net_ctrl_hdr header;
  virtio_net_ctrl_mq command;
  if (!chain.ReadStruct(0, header) || header.cls != VIRTIO_NET_CTRL_MQ ||
      header.cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !chain.ReadStruct(sizeof(header), command) ||
      command.virtqueue_pairs == 0 || command.virtqueue_pairs > nr_known_) {
    return VIRTIO_NET_ERR;
  }
  nr_used_ = command.virtqueue_pairs;
  for (size_t pair = 0; pair < nr_known_; pair++) {
    backend_->RunOnQueue(static_cast<uint16_t>(2 * pair), [this, pair] { Receive(pair); });
  }
  return VIRTIO_NET_OK;
}
