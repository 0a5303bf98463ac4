// SPDX-License-Identifier: MIT OR Apache-2.0
// The loop around KVM_RUN that gmem/window.h shows, while another thread changes the bindings.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <tuple>

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

constexpr std::chrono::seconds kDuration(3);
constexpr uint64_t kNrPages = 64;
// The pages of the guest: its code, the word that it counts up, and the pages around that.
constexpr uint64_t kCode = 1, kWord = 32, kFirst = 24, kLast = 40;

GuestRange Pages(uint64_t first, uint64_t count) {
  return {GuestAddress(first * kPage.value()), count * kPage};
}

class RunLoopTest : public ModuleTest,
                    public testing::WithParamInterface<std::tuple<WindowKind, bool>> {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ModuleTest::SetUp());
    const auto [kind, irqchip] = GetParam();
    if (kind == WindowKind::kLive && !HasLiveWindows()) GTEST_SKIP() << kNoLiveWindows;
    agent_.kvm = agent_.vm = agent_.vcpu = -1;
    memory_ = NewMemory(kNrPages * kPage);
    host_ = *memory_->Map();
    std::memcpy(host_.data() + kCode * kPage.value(), kvm_agent_code, sizeof(kvm_agent_code));
    auto window = Window::Create(NewVm({.windows = kind}), Pages(0, kNrPages));
    ASSERT_THAT(window, IsOk());
    window_ = *std::move(window);
    ASSERT_THAT(window_->Map(*memory_, {.size = kNrPages * kPage}), IsOk());
    ASSERT_EQ(kvm_agent_open(&agent_, window_->data(), window_->size(),
                             static_cast<uint32_t>(kCode * kPage.value()), irqchip),
              0);
  }
  void TearDown() override {
    if (window_) kvm_agent_close(&agent_);
    window_.reset();
    host_.Reset();
    memory_.reset();
    ModuleTest::TearDown();
  }

  static bool HasRefusal(const FaultReport& report) {
    return std::any_of(report.faults.begin(), report.faults.end(),
                       [](const Fault& fault) { return fault.reason != FaultReason::kStale; });
  }

  // Lets the guest count up its word until Stop(). Returns the result of the last KVM_RUN.
  int Run() {
    uint64_t changes = window_->NrChanges();
    int result =
        kvm_agent_command(&agent_, KVM_AGENT_SPIN, kWord * kPage.value(), 0, /*report=*/nullptr);
    uint64_t seen = 0;
    while (result == -EFAULT) {
      const FaultReport report = *window_->vm().Faults(seen);
      seen = report.last_sequence;
      if (HasRefusal(report) || !window_->HasChangedSince(changes)) break;
      ++nr_repeated_;
      changes = window_->NrChanges();
      result = kvm_agent_resume(&agent_, /*report=*/nullptr);
    }
    return result;
  }
  // The word behind the one that the guest counts up ends the guest's loop.
  void Stop() { Word()[1] = 1; }
  volatile uint32_t* Word() const {
    return reinterpret_cast<volatile uint32_t*>(window_->data() + kWord * kPage.value());
  }
  MapOptions Piece(uint64_t first, uint64_t count) const {
    const GuestRange range = Pages(first, count);
    return {.guest_address = range.start,
            .offset = ByteOffset(range.start.value()),
            .size = range.size};
  }

  std::optional<GuestMemory> memory_;
  Mapping host_;
  std::optional<Window> window_;
  kvm_agent agent_ = {};
  std::atomic<uint64_t> nr_repeated_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Kinds, RunLoopTest,
                         testing::Combine(testing::ValuesIn(kWindowKinds), testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param) == WindowKind::kLive
                                                  ? "Live"
                                                  : "Paged") +
                                  (std::get<1>(info.param) ? "Irqchip" : "");
                         });

// The page that the guest uses stays bound, but changes of its neighbours, and changes of its range
// that fail, come all the time.
TEST_P(RunLoopTest, NoSpuriousEnd) {
  int result = -1;
  std::atomic<bool> has_ended = false;
  std::thread vcpu([&] {
    result = Run();
    has_ended = true;
  });
  uint64_t nr_changes = 0;
  const auto end = std::chrono::steady_clock::now() + kDuration;
  while (std::chrono::steady_clock::now() < end && !has_ended) {
    EXPECT_EQ(*window_->Unmap(Pages(kFirst, kWord - kFirst)), kWord - kFirst);
    EXPECT_EQ(*window_->Unmap(Pages(kWord + 1, kLast - kWord)), kLast - kWord);
    // No binding is as large as this.
    EXPECT_THAT(window_->UnmapExact(*memory_, Piece(kFirst, kLast - kFirst)),
                FailsWith(ENOENT, "no single binding"));
    EXPECT_THAT(window_->Map(*memory_, Piece(kFirst, kWord - kFirst)), IsOk());
    EXPECT_THAT(window_->Refresh(), IsOk());
    EXPECT_THAT(window_->Map(*memory_, Piece(kWord + 1, kLast - kWord)), IsOk());
    nr_changes += 6;
  }
  EXPECT_FALSE(has_ended);
  if (!has_ended) {
    const uint32_t first = *Word();
    while (*Word() == first) std::this_thread::yield();
    Stop();
  }
  vcpu.join();
  EXPECT_EQ(result, 0);
  std::cout << nr_changes << " changes, " << nr_repeated_ << " times KVM_RUN again\n";
  // A live window needs no second try. A paged one does, or this test tests nothing.
  EXPECT_EQ(nr_repeated_ > 0, window_->kind() == WindowKind::kPaged);
}

// A refusal for another reason ends the loop, even if other pages change all the time.
TEST_P(RunLoopTest, FindsARefusal) {
  int result = 0;
  std::atomic<bool> has_ended = false;
  std::thread vcpu([&] {
    result = Run();
    has_ended = true;
  });
  const auto until = [](auto condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  };
  until([this] { return *Word() > 0; });
  // With two threads, a change is under way all the time.
  std::atomic<bool> is_over = false;
  const auto change = [&](uint64_t first) {
    while (!is_over) {
      EXPECT_THAT(window_->Unmap(Pages(first, 4)), IsOk());
      EXPECT_THAT(window_->Map(*memory_, Piece(first, 4)), IsOk());
    }
  };
  std::thread below(change, kFirst), above(change, kWord + 1);
  EXPECT_EQ(*window_->Unmap(Pages(kWord, 1)), 1U);
  until([&] { return has_ended.load(); });
  EXPECT_TRUE(has_ended) << "the loop goes on for as long as other pages change";
  is_over = true;
  below.join();
  above.join();
  vcpu.join();
  EXPECT_EQ(result, -EFAULT);
  const Fault fault = window_->vm().Faults()->faults.back();
  EXPECT_EQ(fault.page, Pages(kWord, 1).start);
  EXPECT_EQ(fault.reason, FaultReason::kUnbound);

  // Bound again, the guest goes on with the access that was refused.
  ASSERT_THAT(window_->Map(*memory_, Piece(kWord, 1)), IsOk());
  Stop();
  EXPECT_EQ(kvm_agent_resume(&agent_, /*report=*/nullptr), 0);
}

}  // namespace
}  // namespace gmem
