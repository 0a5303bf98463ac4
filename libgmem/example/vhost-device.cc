// SPDX-License-Identifier: MIT OR Apache-2.0
// A device in a process of its own: entropy for the guest, over vhost-user.
// QEMU: -device vhost-user-rng-pci,chardev=c -chardev socket,id=c,path=PATH, and memory
// that it shares: -object memory-backend-memfd,id=m,size=1G,share=on
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iostream>

#include "gmem/vhost/device.h"
#include "gmem/vhost/server.h"
#include "or_die.h"

using gmem::vhost::Backend, gmem::vhost::Chain, gmem::vhost::Popped, gmem::vhost::Virtqueue;

class EntropyDevice : public gmem::vhost::Device {
 public:
  uint64_t features() const override { return 0; }
  uint16_t nr_queues() const override { return 1; }

  absl::Status HandleQueue(Backend& /*backend*/, Virtqueue& queue) override {
    while (queue.Pop(chain_) == Popped::kChain) {
      // The guest may have given less room, in as many pieces as it likes.
      std::array<uint8_t, 256> bytes;
      const ssize_t got = getrandom(bytes.data(), bytes.size(), 0);
      queue.Push(chain_, chain_.Write(0, bytes.data(), std::max<ssize_t>(got, 0)));
    }
    return queue.status();
  }

 private:
  Chain chain_;
};

int main(int argc, char** argv) {
  if (argc != 2) Die(absl::InvalidArgumentError("usage: vhost-device PATH"));
  EntropyDevice device;
  auto server =
      OrDie(gmem::vhost::Server::Create(OrDie(gmem::vhost::Listener::Create(argv[1])), device));
  server.set_session_end([](const absl::Status& status) { std::cerr << status.message() << "\n"; });
  OrDie(server.Run());
}
