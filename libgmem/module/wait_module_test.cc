// SPDX-License-Identifier: MIT OR Apache-2.0
// Accesses to unbound pages that wait, and a vCPU that is paused while it waits.
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gmem/window.h"
#include "testing/kvm_agent.h"
#include "testing/module.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr ByteSize kSize = MiB(1);
// The page with the guest's code, and the one that it wants.
constexpr uint64_t kCode = 1, kWanted = 8;

constexpr GuestAddress PageAt(uint64_t page) { return GuestAddress(page * kPage.value()); }

class WaitTest : public ModuleTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ModuleTest::SetUp());
    if (!device().Info()->has_waiting) GTEST_SKIP() << kNoLiveWindows;
    memory_ = NewMemory(kSize);
    host_ = *memory_->Map();
    auto window =
        Window::Create(NewVm({.absent = AbsentPages::kWaitOrSignal}), {.size = kSize});
    ASSERT_THAT(window, IsOk());
    window_ = *std::move(window);
  }
  void TearDown() override {
    window_.reset();
    host_.Reset();
    memory_.reset();
    ModuleTest::TearDown();
  }

  const Vm& vm() const { return window_->vm(); }
  bool HasRequest() const {
    pollfd fd = {.fd = vm().fd(), .events = POLLIN, .revents = 0};
    return poll(&fd, 1, 20000) == 1;
  }
  MapOptions Piece(uint64_t page) const {
    return {.guest_address = PageAt(page),
            .offset = ByteOffset(page * kPage.value()),
            .size = kPage};
  }

  std::optional<GuestMemory> memory_;
  Mapping host_;
  std::optional<Window> window_;
};

TEST_F(WaitTest, Fill) {
  std::optional<uint8_t> seen;
  std::thread toucher([&] { seen = Peek(window_->data() + kWanted * kPage.value()); });
  ASSERT_TRUE(HasRequest());
  const auto requests = vm().TakeRequests();
  ASSERT_THAT(requests, IsOk());
  ASSERT_EQ(requests->size(), 1U);
  EXPECT_EQ(requests->front().page, PageAt(kWanted));
  EXPECT_TRUE(requests->front().read);
  EXPECT_EQ(requests->front().nr_threads, 1U);
  EXPECT_GT(requests->front().thread, 0);
  EXPECT_EQ(vm().TakeRequests()->size(), 0U);
  EXPECT_EQ(vm().Requests()->size(), 1U);

  const std::vector<uint8_t> contents(kPage.value(), 0x77);
  EXPECT_THAT(vm().Fill(*memory_, Piece(kWanted), contents.data()), IsOk());
  toucher.join();
  EXPECT_EQ(seen, 0x77);
  EXPECT_THAT(vm().Fill(*memory_, Piece(kWanted), contents.data()), FailsWith(EEXIST, ""));
  EXPECT_THAT(vm().Fill(*memory_, Piece(kWanted + 1), nullptr), FailsWith(EFAULT, "can't read"));
}

TEST_F(WaitTest, FillWithOptions) {
  const std::vector<uint8_t> contents(kPage.value(), 0x77);
  for (uint64_t page : {0, 2, 1}) {
    MapOptions options = Piece(page);
    options.policy = ReclaimPolicy::kDeny;
    options.join = true;
    ASSERT_THAT(vm().Fill(*memory_, options, contents.data()), IsOk());
  }
  const auto bindings = vm().Query();
  ASSERT_THAT(bindings, IsOk());
  ASSERT_EQ(bindings->size(), 1U);
  EXPECT_EQ(bindings->front().policy, ReclaimPolicy::kDeny);
}

TEST_F(WaitTest, Fails) {
  std::optional<uint8_t> seen = 1;
  std::thread toucher([&] { seen = Peek(window_->data()); });
  ASSERT_TRUE(HasRequest());
  ASSERT_THAT(vm().SetAbsent({.size = kPage}, AbsentPages::kFail), IsOk());
  toucher.join();
  EXPECT_EQ(seen, std::nullopt);
  EXPECT_EQ(vm().Faults()->faults.back().reason, FaultReason::kUnbound);
}

TEST_F(WaitTest, PausesAVcpu) {
  if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/kvm";
  std::memcpy(host_.data() + kCode * kPage.value(), kvm_agent_code, sizeof(kvm_agent_code));
  host_.data()[kWanted * kPage.value()] = 0x33;
  ASSERT_THAT(window_->Map(*memory_, Piece(kCode)), IsOk());
  ASSERT_THAT(window_->Map(*memory_, Piece(0)), IsOk());
  kvm_agent agent;
  ASSERT_EQ(kvm_agent_open(&agent, window_->data(), window_->size(),
                           static_cast<uint32_t>(PageAt(kCode).value()), /*irqchip=*/false),
            0);
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);

  uint8_t report = 0;
  std::atomic<bool> is_paused = false;
  std::thread vcpu([&] {
    const auto wanted = static_cast<uint32_t>(PageAt(kWanted).value());
    EXPECT_EQ(kvm_agent_read(&agent, wanted, &report), -EFAULT);
    const auto faults = vm().Faults();
    ASSERT_THAT(faults, IsOk());
    EXPECT_TRUE(faults->IsInterruption());
    EXPECT_EQ(faults->faults.back().page, PageAt(kWanted));
    is_paused = true;
    EXPECT_EQ(kvm_agent_resume(&agent, &report), 0);
  });
  ASSERT_TRUE(HasRequest());
  EXPECT_EQ(vm().TakeRequests()->size(), 1U);
  pthread_kill(vcpu.native_handle(), SIGUSR1);
  while (!is_paused) std::this_thread::yield();
  // It wants the page again.
  ASSERT_TRUE(HasRequest());
  EXPECT_THAT(window_->Map(*memory_, Piece(kWanted)), IsOk());
  vcpu.join();
  EXPECT_EQ(report, 0x33);
  kvm_agent_close(&agent);
}

}  // namespace
}  // namespace gmem
