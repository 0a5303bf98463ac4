// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/wire/event_signal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost::wire_internal {
namespace {

constexpr uint64_t kMost = UINT64_MAX - 1;

class EventSignalTest : public testing::Test {
 protected:
  // Fills the counter as far as a write() can, and makes writes wait.
  void Fill() {
    ASSERT_EQ(write(event_.get(), &kMost, sizeof(kMost)), 8);
    ASSERT_EQ(fcntl(event_.get(), F_SETFL, 0), 0);
  }
  uint64_t Take() {
    uint64_t value = 0;
    EXPECT_EQ(read(event_.get(), &value, sizeof(value)), 8);
    return value;
  }

  const UniqueFd event_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  EventSignaler signaler_;
};

TEST_F(EventSignalTest, AddsOne) {
  for (int i = 0; i < 200; i++) ASSERT_TRUE(signaler_.Signal(event_.get()).ok());
  EXPECT_EQ(Take(), 200U);
}

TEST_F(EventSignalTest, FullCountersAreSignalsAlready) {
  Fill();
  for (int i = 0; i < 3; i++) EXPECT_TRUE(signaler_.Signal(event_.get()).ok());
  EXPECT_GE(Take(), kMost);
}

// A request of the kernel's brings the counter to its end, which poll() reports as an error. A
// write() would wait there.
TEST_F(EventSignalTest, DoesNotWaitWithoutAsynchronousRequests) {
  Fill();
  ASSERT_TRUE(signaler_.Signal(event_.get()).ok());
  EventSignaler without;
  const doubles::NoMoreFds none;
  EXPECT_TRUE(without.Signal(event_.get()).ok());
  Take();
  EXPECT_TRUE(without.Signal(event_.get()).ok());
  EXPECT_EQ(Take(), 1U);
  EXPECT_NE(fcntl(event_.get(), F_GETFL) & O_NONBLOCK, 0) << "in case the peer is faster";
}

TEST_F(EventSignalTest, AShortageDoesNotLast) {
  {
    const doubles::NoMoreFds none;
    ASSERT_TRUE(signaler_.Signal(event_.get()).ok());
  }
  Take();
  Fill();
  absl::SleepFor(absl::Milliseconds(110));
  ASSERT_TRUE(signaler_.Signal(event_.get()).ok());
  EXPECT_EQ(Take(), UINT64_MAX) << "only a request gets the counter there";
}

TEST_F(EventSignalTest, SaysThatADescriptorIsBad) {
  EXPECT_EQ(GetErrno(signaler_.Signal(1 << 20)), EBADF);
}

}  // namespace
}  // namespace gmem::vhost::wire_internal
