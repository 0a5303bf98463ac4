// SPDX-License-Identifier: MIT OR Apache-2.0
// Front-ends that take memory away.
#include "gmem/vhost/sigbus.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>

#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/device.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

int nr_others = 0;

// The program's own handler, which was there before.
void HandleOthers(int /*signal*/, siginfo_t* info, void* /*context*/) {
  nr_others++;
  const uintptr_t page = reinterpret_cast<uintptr_t>(info->si_addr) / 4096 * 4096;
  mmap(reinterpret_cast<void*>(page), 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
       0);
}

class SigbusTest : public BackendTest {
 protected:
  static void SetUpTestSuite() {
    struct sigaction action = {};
    action.sa_sigaction = HandleOthers;
    action.sa_flags = SA_SIGINFO;
    ASSERT_EQ(sigaction(SIGBUS, &action, nullptr), 0);
    ASSERT_TRUE(SurviveSigbus().ok());
    ASSERT_TRUE(SurviveSigbus().ok()) << "again";
  }
  void SetUp() override { nr_others = 0; }
  void TearDown() override { EXPECT_EQ(nr_others, 0); }
};

TEST_F(SigbusTest, AShortenedRegionEndsTheSession) {
  Negotiate();
  SetTable();
  StartQueue();
  AddRequest();
  Kick();
  ASSERT_EQ(ftruncate(guest_.fd(), 0), 0);
  Run();
  EXPECT_EQ(GetErrno(session_), EBADMSG) << session_;
}

TEST_F(SigbusTest, AShortenedLogEndsTheSession) {
  Negotiate(Bit(VirtioFeature::kLogAll));
  SetTable();
  const UniqueFd log = NewFile(4096);
  ASSERT_TRUE(
      Ask<FrontendRequest::kSetLogBase>({.mmap_size = 4096, .mmap_offset = 0}, {log.get()}).ok());
  StartQueue();
  AddRequest();
  Kick();
  ASSERT_EQ(ftruncate(log.get(), 0), 0);
  Run();
  EXPECT_EQ(GetErrno(session_), EBADMSG) << session_;
}

TEST_F(SigbusTest, AShortenedInflightBufferEndsTheSession) {
  Negotiate();
  SetTable();
  InflightArea area = {};
  area.nr_queues = 1;
  area.queue_size = kQueueSize;
  area = *Ask<FrontendRequest::kGetInflightFd>(area);
  // One that isn't sealed.
  const UniqueFd buffer = NewFile(area.mmap_size);
  ASSERT_TRUE(Ask<FrontendRequest::kSetInflightFd>(area, {buffer.get()}).ok());
  StartQueue();
  AddRequest();
  Kick();
  ASSERT_EQ(ftruncate(buffer.get(), 0), 0);
  Run();
  EXPECT_EQ(GetErrno(session_), EBADMSG) << session_;
}

TEST_F(SigbusTest, OthersGoToTheHandlerBefore) {
  const UniqueFd file = NewFile(4096);
  const auto mapping = Mapping::OfFile(file.get(), {.size = ByteSize(4096)});
  ASSERT_TRUE(mapping.ok());
  ASSERT_EQ(ftruncate(file.get(), 0), 0);
  EXPECT_EQ(*const_cast<const volatile uint8_t*>(mapping->data()), 0);
  EXPECT_EQ(nr_others, 1);
  nr_others = 0;
}

TEST_F(SigbusTest, BrokenHostMemoryGoesToTheHandlerBefore) {
  struct sigaction mine = {};
  ASSERT_EQ(sigaction(SIGBUS, nullptr, &mine), 0);
  EXPECT_NE(mine.sa_sigaction, HandleOthers);
  siginfo_t info = {};
  info.si_code = BUS_MCEERR_AO;
  mine.sa_sigaction(SIGBUS, &info, nullptr);
  EXPECT_EQ(nr_others, 1);
  nr_others = 0;
}

// Gives the handler, which comes after @action in a process of its own, a SIGBUS of this code.
void HandleAfter(const struct sigaction& action, int code) {
  struct sigaction mine = {};
  siginfo_t info = {};
  info.si_code = code;
  if (sigaction(SIGBUS, &action, nullptr) != 0 || !SurviveSigbus().ok() ||
      sigaction(SIGBUS, nullptr, &mine) != 0) {
    _exit(1);
  }
  mine.sa_sigaction(SIGBUS, &info, nullptr);
  _exit(0);
}

TEST(IgnoredSigbusTest, OnlyATouchEndsTheProcess) {
  // A new process, in which nobody has called SurviveSigbus().
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  EXPECT_EXIT(HandleAfter(ignore, SI_USER), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(HandleAfter(ignore, BUS_MCEERR_AO), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(HandleAfter(ignore, BUS_MCEERR_AR), testing::KilledBySignal(SIGBUS), "");
  ignore.sa_flags = SA_SIGINFO;
  EXPECT_EXIT(HandleAfter(ignore, SI_USER), testing::ExitedWithCode(0), "");
  struct sigaction none = ignore;
  none.sa_handler = SIG_DFL;
  EXPECT_EXIT(HandleAfter(none, SI_USER), testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace gmem::vhost
