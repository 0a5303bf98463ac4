// SPDX-License-Identifier: MIT OR Apache-2.0
// A guest runs while its memory still comes from a snapshot, page by page.
// Documentation/libgmem/lazy-restore.rst goes through it.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "gmem/device.h"
#include "gmem/window.h"
#include "or_die.h"

constexpr gmem::ByteSize kPage = gmem::KiB(4), kSize = gmem::MiB(1);

// The thread that serves requests. It makes no call on the KVM VM.
class Restorer {
 public:
  Restorer(const gmem::Window* window, const gmem::GuestMemory* memory, int snapshot)
      : window_(window), memory_(memory), host_(OrDie(memory->Map())), snapshot_(snapshot) {}

  // Returns when @stop is readable.
  void Serve(int stop) {
    pollfd fds[] = {{window_->vm().fd(), POLLIN, 0}, {stop, POLLIN, 0}};
    while (OrDie(poll(fds, 2, -1), "poll") > 0 && fds[1].revents == 0) {
      for (const gmem::PageRequest& request : OrDie(window_->vm().TakeRequests())) {
        std::printf("page %" PRIu64 " is wanted\n", request.page.value() / kPage.value());
        Restore(request.page.value());
      }
    }
  }

 private:
  void Restore(uint64_t at) {
    // A request can come twice. By now the guest may have changed the page.
    if (is_restored_[at / kPage.value()]) return;
    is_restored_[at / kPage.value()] = true;
    // First the contents, then the binding: no access sees half of a page.
    OrDie(pread(snapshot_, host_.data() + at, kPage.value(), static_cast<off_t>(at)), "pread");
    OrDie(window_->Map(*memory_, {.guest_address = gmem::GuestAddress(at),
                                  .offset = gmem::ByteOffset(at),
                                  .size = kPage}));
  }

  const gmem::Window* const window_;
  const gmem::GuestMemory* const memory_;
  const gmem::Mapping host_;
  const int snapshot_;
  std::vector<bool> is_restored_ = std::vector<bool>(kSize.value() / kPage.value());
};

gmem::UniqueFd MakeSnapshot() {
  gmem::UniqueFd file(OrDie(memfd_create("snapshot", MFD_CLOEXEC), "memfd_create"));
  OrDie(ftruncate(file.get(), static_cast<off_t>(kSize.value())), "ftruncate");
  for (uint64_t at = 0; at < kSize.value(); at += kPage.value()) {
    const std::string text = "contents of page " + std::to_string(at / kPage.value());
    OrDie(pwrite(file.get(), text.data(), text.size(), static_cast<off_t>(at)), "pwrite");
  }
  return file;
}

int main() {
  // Nothing is bound yet, and an access to an unbound page waits.
  const gmem::UniqueFd snapshot = MakeSnapshot();
  const gmem::Device device = OrDie(gmem::Device::Open());
  const gmem::GuestMemory memory = OrDie(device.CreateGuestMemory(kSize));
  const gmem::Vm vm = OrDie(device.CreateVm({.absent = gmem::AbsentPages::kWaitOrSignal}));
  const gmem::Window window = OrDie(gmem::Window::Create(vm, {.size = kSize}));

  const gmem::UniqueFd stop(OrDie(eventfd(0, EFD_CLOEXEC), "eventfd"));
  Restorer restorer(&window, &memory, snapshot.get());
  std::thread server([&] { restorer.Serve(stop.get()); });

  // This process plays the guest: a touch of the window counts as the guest's.
  for (const int page : {200, 3, 200}) {
    // Touch the page outside of printf(), which holds a lock that the server needs.
    const std::string text(reinterpret_cast<const char*>(window.data()) + page * kPage.value());
    std::printf("the guest reads: %s\n", text.c_str());
  }

  OrDie(eventfd_write(stop.get(), 1), "eventfd_write");
  server.join();
}
