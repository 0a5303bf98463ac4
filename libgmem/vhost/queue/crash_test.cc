// SPDX-License-Identifier: MIT OR Apache-2.0
// A back-end is killed between any two instructions that change a ring or its inflight region, and
// the next one takes over: the driver gets each chain back once.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/inflight.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr uint16_t kSize = 4;

struct Case {
  bool is_packed = false;
  // Chains that were done before, so that the positions in the ring differ.
  int nr_done = 0;
  // The numbers of descriptors of the chains in flight.
  std::vector<size_t> lengths;
  // The chains that are pushed together, in this order.
  std::vector<size_t> pushed;
  // The driver uses the places of the chains that it got back before the next back-end starts.
  bool reuses = false;
  // The next back-end is killed, too, while it takes over.
  bool dies_twice = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << (c.is_packed ? "packed" : "split") << ", " << c.nr_done << " done, lengths "
             << absl::StrJoin(c.lengths, " ") << ", pushed " << absl::StrJoin(c.pushed, " ")
             << (c.reuses ? ", reused" : "") << (c.dies_twice ? ", killed twice" : "");
}

// Pushes of more than one chain; with all entries in flight, too. The free list of a packed ring
// without a free entry begins at the first chain's: also at that of another chain that is pushed.
std::vector<Case> Batches() {
  return {{.lengths = {1, 1, 1}, .pushed = {1, 2}},
          {.lengths = {1, 1, 1, 1}, .pushed = {1, 0}},
          {.lengths = {2, 1, 1}, .pushed = {2, 0}}};
}

class CrashTest : public testing::Test {
 protected:
  // The shared memory and the driver: these outlive a back-end.
  struct World {
    std::vector<uint8_t> memory;
    TestRing driver;
    // The ids of the chains that the driver made available, and of those that it got back.
    std::vector<uint32_t> added;
    std::vector<uint32_t> taken;
  };

  CrashTest() { EXPECT_TRUE(memory_.Add(guest_.region(), guest_.fd()).ok()); }

  void SetUp() override {
    const pid_t child = fork();
    if (child == 0) _exit(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 0 : 1);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (status != 0) GTEST_SKIP() << "a process may not trace its child here";
  }

  // Begins with an empty ring.
  void Reset(bool is_packed) {
    options_ = {.index = 0, .size = kSize, .is_packed = is_packed};
    buffer_.reset();
    auto buffer = InflightBuffer::Create(1, kSize, is_packed);
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    buffer_.emplace(*std::move(buffer));
    for (const GuestSpan part : Parts()) std::fill(part.begin(), part.end(), 0);
    driver_.emplace(guest_, kSize, is_packed);
  }

  Virtqueue New() {
    const auto at = [this](uint64_t offset) {
      return memory_.FromGuest(TestGuest::kGuest + offset, 0x10000);
    };
    auto queue = Virtqueue::Create(memory_, options_,
                                   {.descriptors = at(TestGuest::kDescriptors),
                                    .used = at(TestGuest::kUsed),
                                    .available = at(TestGuest::kAvailable)},
                                   options_.is_packed ? 0x80008000 : 0);
    EXPECT_TRUE(queue.ok()) << queue.status();
    return *std::move(queue);
  }

  // The memory that a back-end changes.
  std::vector<GuestSpan> Parts() const {
    return {GuestSpan(guest_.at(TestGuest::kDescriptors), size_t{16} * kSize),
            GuestSpan(guest_.at(TestGuest::kAvailable), 64),
            GuestSpan(guest_.at(TestGuest::kUsed), 64), buffer_->queue(0)};
  }
  std::vector<uint8_t> Save() const {
    std::vector<uint8_t> all;
    for (const GuestSpan part : Parts()) all.insert(all.end(), part.begin(), part.end());
    return all;
  }
  void Restore(absl::Span<const uint8_t> all) const {
    for (const GuestSpan part : Parts()) {
      std::copy_n(all.begin(), part.size(), part.begin());
      all.remove_prefix(part.size());
    }
  }

  // The contents of the memory that a back-end may leave if it is killed in @action.
  std::vector<std::vector<uint8_t>> StatesIn(absl::FunctionRef<void()> action) const {
    std::vector<std::vector<uint8_t>> states = {Save()};
    const pid_t child = fork();
    if (child == 0) {
      if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(1);
      raise(SIGSTOP);
      action();
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    for (int expected = SIGSTOP; WIFSTOPPED(status); expected = SIGTRAP) {
      if (!IsSaved(states.back())) states.push_back(Save());
      // Another signal would come again and again.
      if (WSTOPSIG(status) != expected || ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0) {
        kill(child, SIGKILL);
      }
      if (waitpid(child, &status, 0) != child) break;
    }
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    return states;
  }

  static void Take(World& world) {
    while (const std::optional<Used> used = world.driver.TakeUsed()) {
      world.taken.push_back(used->id);
    }
  }
  static void Add(World& world, size_t length) {
    world.added.push_back(
        world.driver.Add(std::vector<Piece>(length, {.address = kData, .length = 1})));
  }

  // The driver goes on with the memory as a back-end left it.
  World GoOn(const World& before, absl::Span<const uint8_t> memory, const Case& test) const {
    Restore(memory);
    World world = {
        .memory = {}, .driver = before.driver, .added = before.added, .taken = before.taken};
    Take(world);
    if (test.reuses) {
      const size_t count = std::min(world.taken.size(), test.pushed.size());
      for (size_t i = 0; i < count; i++) Add(world, test.lengths[test.pushed[i]]);
    }
    world.memory = Save();
    return world;
  }

  // A new back-end does what is left, then as many chains as fit in the ring.
  void Finish(World world, const std::string& when) {
    Restore(world.memory);
    Virtqueue queue = New();
    const absl::Status status = queue.TrackInflight(buffer_->queue(0));
    ASSERT_TRUE(status.ok()) << when << ": " << status;
    for (int lap = 0; lap < 2; lap++) {
      if (lap > 0) {
        for (int i = 0; i < kSize; i++) Add(world, 1);
      }
      Chain chain;
      while (queue.Pop(chain) == Popped::kChain) {
        queue.Push(chain, 1);
        Take(world);
      }
      EXPECT_TRUE(queue.status().ok()) << when << ": " << queue.status();
    }
    std::sort(world.added.begin(), world.added.end());
    std::sort(world.taken.begin(), world.taken.end());
    EXPECT_EQ(world.taken, world.added) << when;
  }

  // @action: of a back-end. It may be killed at any time, then the driver goes on from @before.
  void FinishAfterAnyCrash(const World& before, const Case& test,
                           absl::FunctionRef<void()> action) {
    const auto states = StatesIn(action);
    for (size_t i = 0; i < states.size() && !HasFailure(); i++) {
      const World world = GoOn(before, states[i], test);
      const std::string when = absl::StrCat("killed in state ", i, " of ", states.size());
      Finish(world, when);
      if (!test.dies_twice) continue;
      Restore(world.memory);
      Virtqueue next = New();
      const auto next_states = StatesIn([&] {
        if (!next.TrackInflight(buffer_->queue(0)).ok()) _exit(1);
      });
      for (size_t j = 0; j < next_states.size() && !HasFailure(); j++) {
        World again = world;
        again.memory = next_states[j];
        Finish(again, absl::StrCat(when, ", then in state ", j, " of ", next_states.size()));
      }
    }
  }

  // Makes the chains of @test available, and pops them into @chains.
  World Start(const Case& test, Virtqueue& queue, std::vector<Chain>& chains) {
    World world = {.memory = {}, .driver = *driver_, .added = {}, .taken = {}};
    EXPECT_TRUE(queue.TrackInflight(buffer_->queue(0)).ok());
    Chain done;
    for (int i = 0; i < test.nr_done; i++) {
      world.driver.Add({{kData, 1, 0}});
      EXPECT_EQ(queue.Pop(done), Popped::kChain);
      queue.Push(done, 1);
      EXPECT_TRUE(world.driver.TakeUsed());
    }
    chains.resize(test.lengths.size());
    for (size_t i = 0; i < chains.size(); i++) {
      Add(world, test.lengths[i]);
      EXPECT_EQ(queue.Pop(chains[i]), Popped::kChain);
    }
    return world;
  }

  void TryPush(const Case& test) {
    SCOPED_TRACE(testing::PrintToString(test));
    Reset(test.is_packed);
    Virtqueue queue = New();
    std::vector<Chain> chains;
    const World world = Start(test, queue, chains);
    std::vector<Chain> pushed;
    for (const size_t i : test.pushed) pushed.push_back(std::move(chains[i]));
    FinishAfterAnyCrash(world, test, [&] { queue.PushAll(pushed, pushed.size()); });
  }

  // A chain of 2 descriptors is popped and put back.
  void TryPop(const Case& test) {
    SCOPED_TRACE(testing::PrintToString(test));
    Reset(test.is_packed);
    Virtqueue queue = New();
    std::vector<Chain> chains;
    World world = Start(test, queue, chains);
    Add(world, 2);
    FinishAfterAnyCrash(world, test, [&] {
      Chain chain;
      if (queue.Pop(chain) != Popped::kChain || !queue.Unpop(chain)) _exit(1);
    });
  }

  TestGuest guest_;
  GuestMemoryMap memory_;
  Virtqueue::Options options_;
  std::optional<InflightBuffer> buffer_;
  // A driver that hasn't done anything yet.
  std::optional<TestRing> driver_;

 private:
  bool IsSaved(absl::Span<const uint8_t> state) const {
    for (const GuestSpan part : Parts()) {
      if (!std::equal(part.begin(), part.end(), state.begin())) return false;
      state.remove_prefix(part.size());
    }
    return true;
  }
};

TEST_F(CrashTest, InAPop) {
  for (const bool is_packed : {false, true}) {
    for (const int nr_done : {0, 2, 3}) {
      TryPop({.is_packed = is_packed, .nr_done = nr_done, .lengths = {}, .pushed = {}});
      TryPop({.is_packed = is_packed, .nr_done = nr_done, .lengths = {1, 1}, .pushed = {}});
    }
  }
}

TEST_F(CrashTest, InAPush) {
  for (const bool is_packed : {false, true}) {
    for (const int nr_done : {0, 1, 2, 3}) {
      TryPush({.is_packed = is_packed, .nr_done = nr_done, .lengths = {1, 2}, .pushed = {0}});
      TryPush({.is_packed = is_packed, .nr_done = nr_done, .lengths = {1, 2}, .pushed = {1}});
    }
  }
}

// The driver has the places of the pushed chains back, and has made other chains available there.
TEST_F(CrashTest, InAPushWhosePlaceTheDriverReuses) {
  for (const int nr_done : {0, 1, 2, 3}) {
    for (const std::vector<size_t>& lengths : {std::vector<size_t>{1, 2}, {1, 1, 1, 1}, {2, 2}}) {
      for (const size_t pushed : {0, 1}) {
        TryPush({.is_packed = true,
                 .nr_done = nr_done,
                 .lengths = lengths,
                 .pushed = {pushed},
                 .reuses = true});
      }
    }
  }
}

TEST_F(CrashTest, InAPushOfManyChains) {
  for (const bool is_packed : {false, true}) {
    for (const int nr_done : {0, 3}) {
      for (const Case& chains : Batches()) {
        Case test = chains;
        test.is_packed = is_packed;
        test.nr_done = nr_done;
        test.reuses = is_packed;
        TryPush(test);
      }
    }
  }
}

TEST_F(CrashTest, InAPushThenInTheNextBackEnd) {
  TryPush({.nr_done = 3, .lengths = {1, 1}, .pushed = {1, 0}, .dies_twice = true});
  for (const Case& chains : Batches()) {
    Case test = chains;
    test.is_packed = true;
    test.nr_done = 3;
    test.reuses = true;
    test.dies_twice = true;
    TryPush(test);
  }
}

TEST_F(CrashTest, InAPopThenInTheNextBackEnd) {
  for (const bool is_packed : {false, true}) {
    TryPop(
        {.is_packed = is_packed, .nr_done = 3, .lengths = {1}, .pushed = {}, .dies_twice = true});
  }
}

}  // namespace
}  // namespace gmem::vhost
