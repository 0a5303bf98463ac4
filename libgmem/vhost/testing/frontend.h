// SPDX-License-Identifier: MIT OR Apache-2.0
// Helpers that the tests of the front-end share. Not installed.
#ifndef GMEM_VHOST_TESTING_FRONTEND_H_
#define GMEM_VHOST_TESTING_FRONTEND_H_

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <semaphore>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend.h"
#include "gtest/gtest.h"
#include "vhost/testing/backend.h"
#include "vhost/testing/socket.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::doubles {

// Records the calls.
class RecordingHandler : public FrontendHandler {
 public:
  absl::Status OnConfigChange() override { return Record("config"); }
  absl::Status OnIotlb(const IotlbMessage& message) override {
    return Record("iotlb " + std::to_string(message.iova));
  }
  absl::Status OnVringCall(unsigned index) override {
    return Record("call " + std::to_string(index));
  }
  absl::Status OnVringErr(unsigned index) override {
    return Record("err " + std::to_string(index));
  }
  absl::Status OnHostNotifier(unsigned index, uint8_t* page) override {
    if (page != nullptr) pages.push_back(page);
    return Record((page != nullptr ? "notifier " : "no notifier ") + std::to_string(index));
  }
  void OnDisconnect(const absl::Status& why) override { Record("end").Update(why); }

  std::vector<std::string> Take() { return std::exchange(events, {}); }

  std::vector<std::string> events;
  std::vector<uint8_t*> pages;
  // Each call also runs this function, and returns its result.
  std::function<absl::Status()> then;

 private:
  absl::Status Record(std::string event) {
    events.push_back(std::move(event));
    return then == nullptr ? absl::OkStatus() : then();
  }
};

// Makes a file of @p size bytes in memory.
inline UniqueFd MakeFile(ByteSize size, const std::string& start = "") {
  UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size.value())), 0);
  EXPECT_EQ(pwrite(fd.get(), start.data(), start.size(), 0), static_cast<ssize_t>(start.size()));
  return fd;
}

// May this process access @address? The kernel finds out: a pipe takes a byte from the address, or
// puts a byte there.
inline bool CanRead(const uint8_t* address) {
  std::array<int, 2> fds;
  EXPECT_EQ(pipe2(fds.data(), O_CLOEXEC), 0);
  const UniqueFd out(fds[0]), in(fds[1]);
  return write(in.get(), address, 1) == 1;
}
inline bool CanWrite(uint8_t* address) {
  std::array<int, 2> fds;
  EXPECT_EQ(pipe2(fds.data(), O_CLOEXEC), 0);
  const UniqueFd out(fds[0]), in(fds[1]);
  EXPECT_EQ(write(in.get(), "w", 1), 1);
  return read(out.get(), address, 1) == 1;
}

// Runs the front-end's loop until @is_done. Calls @is_done at least each millisecond, because it
// may depend on changes that no descriptor reports.
[[nodiscard]] inline bool RunUntil(Frontend& frontend, absl::FunctionRef<bool()> is_done) {
  for (const absl::Time end = absl::Now() + kPatience; !is_done();) {
    if (absl::Now() > end) return false;
    pollfd polled = {.fd = frontend.fd(), .events = POLLIN, .revents = 0};
    poll(&polled, 1, 1);
    frontend.Process().IgnoreError();
  }
  return true;
}
// Runs the front-end's loop until its connection has ended.
[[nodiscard]] inline bool RunUntilEnd(Frontend& frontend) {
  return RunUntil(frontend, [&] { return !frontend.status().ok(); });
}

// A front-end with a fake back-end.
class FrontendTest : public testing::Test {
 protected:
  static ShmemFactory HostFactory() {
    return [](uint8_t, ByteSize size) { return NewHostRegion(size); };
  }
  static Frontend::Options WithTimeout(absl::Duration timeout) {
    Frontend::Options options;
    options.timeout = timeout;
    return options;
  }
  // All options that a front-end can need.
  Frontend::Options AllOptions() {
    Frontend::Options options = WithTimeout(kPatience);
    options.shmem_factory = HostFactory();
    options.shared_objects = &objects_;
    return options;
  }

  void Start(FakeBackend::Options backend, Frontend::Options options = WithTimeout(kPatience)) {
    frontend_.reset();
    frontend_ = *Frontend::Create(NewBackend(std::move(backend)), std::move(options), &handler_);
  }
  void StartNegotiated(FakeBackend::Options backend,
                       Frontend::Options options = WithTimeout(kPatience)) {
    Start(std::move(backend), std::move(options));
    const absl::Status status = frontend_->Negotiate();
    ASSERT_TRUE(status.ok()) << status;
    backend_->TakeRequests();
  }
  // For Frontend::Reconnect().
  Connection NewBackend(FakeBackend::Options options) {
    auto pair = *Connection::Pair();
    backend_.reset();
    backend_ = std::make_unique<FakeBackend>(std::move(pair.second), std::move(options));
    return std::move(pair.first);
  }

  // Runs @task on the back-end's thread, and the front-end's loop until @task has ended.
  void OnBackend(std::function<void(FakeBackend&)> task) {
    std::atomic<bool> done = false;
    backend_->Post([&](FakeBackend& backend) {
      task(backend);
      done = true;
    });
    if (RunUntil(*frontend_, [&] { return done.load(); })) return;
    ADD_FAILURE() << "the back-end's task doesn't end";
    // Ends the thread, so that it can't use this function's variables later.
    backend_.reset();
  }

  // Makes a back-end with @options close the connection right after its answer to @request. The
  // front-end receives both at once, since OnConfigChange() keeps it busy until both are sent.
  // OnDisconnect() runs @at_end, if given. @options need a back-end channel, and kConfig.
  void CloseRightAfter(FrontendRequest request, FakeBackend::Options& options,
                       std::function<void()> at_end = nullptr) {
    FakeBackend::Handler& handler = options.handlers[request];
    handler = [this, answer = std::move(handler)](FakeBackend& b, Message& message) {
      b.Send(BackendRequest::kConfigChangeMsg, {}, {}, /*need_reply=*/false);
      is_frontend_busy_.acquire();
      answer == nullptr ? b.Answer(message) : answer(b, message);
      b.Close();
    };
    handler_.then = [this, at_end = std::move(at_end), is_closing = false]() mutable {
      if (handler_.events.back() == "config") {
        is_closing = true;
        is_frontend_busy_.release();
        // Waits for the end of the back-end's thread.
        backend_->TakeRequests();
      } else if (std::exchange(is_closing, false) && at_end != nullptr) {
        at_end();
      }
      return absl::OkStatus();
    };
  }

  SharedObjects objects_;
  std::binary_semaphore is_frontend_busy_ = std::binary_semaphore(0);
  RecordingHandler handler_;
  std::unique_ptr<FakeBackend> backend_;
  std::unique_ptr<Frontend> frontend_;
};

}  // namespace gmem::vhost::doubles
#pragma GCC visibility pop

#endif  // GMEM_VHOST_TESTING_FRONTEND_H_
