// SPDX-License-Identifier: MIT OR Apache-2.0
// A device with two virtqueues, one of which is a receive ring, and a driver without a guest: what
// the driver sends comes back. Both ends of vhost-user run in this program, on two threads.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iostream>
#include <string>
#include <thread>

#include "gmem/mapping.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/driver_ring.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/server.h"
#include "or_die.h"

namespace vhost = gmem::vhost;
using vhost::Backend, vhost::Chain, vhost::DriverRing, vhost::Popped, vhost::Virtqueue;

constexpr uint16_t kReceive = 0, kSend = 1;
constexpr size_t kMaxPacket = 1500;

class Loopback : public vhost::Device {
 public:
  uint64_t features() const override { return 0; }
  uint16_t nr_queues() const override { return 2; }
  // The driver fills this one in advance. The device leaves the buffers in the ring.
  bool IsReceiveQueue(uint16_t index) const override { return index == kReceive; }

  // Called when either virtqueue was kicked: there is a packet, or room for one.
  absl::Status HandleQueue(Backend& backend, Virtqueue& queue) override {
    Virtqueue* const receive = backend.queue(kReceive);
    Virtqueue* const send = backend.queue(kSend);
    // One of them may have stopped, or not started.
    if (receive == nullptr || !backend.is_enabled(kReceive)) return absl::OkStatus();
    if (send == nullptr || !backend.is_enabled(kSend)) return absl::OkStatus();
    while (send->Pop(packet_) == Popped::kChain) {
      if (receive->Pop(room_) != Popped::kChain) {
        // Nothing is lost: the next kick of the receive ring brings this packet again.
        send->Unpop(packet_);
        break;
      }
      std::array<uint8_t, kMaxPacket> bytes;
      const size_t size = packet_.Read(0, bytes.data(), bytes.size());
      receive->Push(room_, room_.Write(0, bytes.data(), size));
      send->Push(packet_, 0);
    }
    receive->Notify();
    send->Notify();
    return queue.status();
  }

 private:
  Chain packet_, room_;
};

int main() {
  const std::string path = "/tmp/loopback." + std::to_string(getpid());
  Loopback device;
  auto server = OrDie(vhost::Server::Create(OrDie(vhost::Listener::Create(path)), device));
  const gmem::UniqueFd stop(OrDie(eventfd(0, EFD_CLOEXEC), "eventfd"));
  std::thread back_end([&] { OrDie(server.Run(stop.get())); });

  // The memory that both ends share. The driver's addresses in it begin at 0.
  constexpr uint64_t kSize = 1 << 20;
  const gmem::UniqueFd file(
      OrDie(memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create"));
  OrDie(ftruncate(file.get(), kSize), "ftruncate");
  OrDie(fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK), "F_ADD_SEALS");
  const auto ram = OrDie(gmem::Mapping::OfFile(file.get(), {.size = gmem::ByteSize(kSize)}));
  const DriverRing::Memory memory = {.bytes = ram.span()};
  const auto frontend = OrDie(vhost::Frontend::Create(
      OrDie(vhost::Connection::Connect(path, absl::Seconds(5))), {.only_sealed_memory = true}));
  OrDie(frontend->Negotiate());
  OrDie(frontend->SetFeatures(frontend->features() & vhost::Bit(vhost::VirtioFeature::kVersion1)));
  OrDie(frontend->SetMemory({{.size = gmem::ByteSize(kSize), .fd = file.get()}}));

  const auto start = [&](uint16_t index) {
    const size_t size = DriverRing::MemorySize(64);
    auto ring = OrDie(DriverRing::Create(memory, memory.bytes.subspan(0x10000 * index, size), 64));
    OrDie(frontend->StartVring(index, {.size = ring.size(),
                                       .address = ring.address(index),
                                       .kick_fd = ring.kick_fd(),
                                       .call_fd = ring.call_fd()}));
    return ring;
  };
  DriverRing receive = start(kReceive);
  DriverRing send = start(kSend);
  OrDie(frontend->DriverOk());

  // Room for packets that will come, then a packet.
  const auto room = memory.bytes.subspan(0x20000, kMaxPacket);
  const auto packet = memory.bytes.subspan(0x30000, kMaxPacket);
  OrDie(receive.Add({{.bytes = room, .is_writable = true}}));
  receive.Kick();
  const std::string text = "hello";
  std::copy(text.begin(), text.end(), packet.begin());
  OrDie(send.Add({{.bytes = packet.first(text.size())}}));
  send.Kick();
  OrDie(send.Wait(absl::Seconds(5)));
  const DriverRing::Used used = OrDie(receive.Wait(absl::Seconds(5)));
  std::cout << "received " << used.written
            << " bytes: " << std::string(room.begin(), room.begin() + used.written) << "\n";

  // Without room, the packet waits in its ring.
  OrDie(send.Add({{.bytes = packet.first(text.size())}}));
  send.Kick();
  std::cout << "without room: " << send.Wait(absl::Milliseconds(100)).status().message() << "\n";
  OrDie(receive.Add({{.bytes = room, .is_writable = true}}));
  receive.Kick();
  OrDie(receive.Wait(absl::Seconds(5)));
  std::cout << "with room again, it came\n";

  OrDie(frontend->GetVringBase(kSend));
  OrDie(frontend->GetVringBase(kReceive));
  frontend->Close();
  OrDie(eventfd_write(stop.get(), 1), "eventfd_write");
  back_end.join();
}
