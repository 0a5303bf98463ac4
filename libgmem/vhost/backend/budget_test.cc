// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/budget.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstdint>

#include "gmem/status.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "vhost/testing/device.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using doubles::BackendTest;

class BudgetTest : public BackendTest {
 protected:
  ~BudgetTest() override { SetProcessBudget({}); }
};

TEST_F(BudgetTest, IsMostOfWhatTheProcessHas) {
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_LT(ProcessBudget().descriptors, limit.rlim_cur);
  EXPECT_GT(ProcessBudget().descriptors, limit.rlim_cur / 2);
  EXPECT_GT(ProcessBudget().mappings, 4U * kMaxMemorySlots);
  SetProcessBudget({.mappings = 100, .descriptors = 0});
  EXPECT_EQ(ProcessBudget().mappings, 100U);
  EXPECT_LT(ProcessBudget().descriptors, limit.rlim_cur);
}

TEST_F(BudgetTest, CountsWhatASessionHolds) {
  const Budget before = UsedBudget();
  Negotiate();
  SetTable();
  EXPECT_EQ(UsedBudget().mappings, before.mappings + 2);
  StartQueue();
  EXPECT_EQ(UsedBudget().descriptors, before.descriptors + 3);
  // Another one takes its place.
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringCall>(0, {call_.get()}).ok());
  EXPECT_EQ(UsedBudget().descriptors, before.descriptors + 3);
  Disconnect();
  EXPECT_EQ(UsedBudget().mappings, before.mappings);
  EXPECT_EQ(UsedBudget().descriptors, before.descriptors);
}

// The process keeps the rest.
TEST_F(BudgetTest, RefusesWhatIsBeyond) {
  Negotiate();
  SetTable();
  StartQueue();
  SetProcessBudget({.mappings = UsedBudget().mappings, .descriptors = UsedBudget().descriptors});
  ExpectRefused(Ask<FrontendRequest::kAddMemReg>({.padding = 0, .region = kMore}, {guest_.fd()}));
  EXPECT_EQ(backend_->memory().size(), 1U);
  ExpectRefused(Ask<FrontendRequest::kSetVringCall>(1, {call_.get()}));
  SetProcessBudget({});
  EXPECT_TRUE(
      Ask<FrontendRequest::kAddMemReg>({.padding = 0, .region = kMore}, {guest_.fd()}).ok());
  EXPECT_TRUE(Ask<FrontendRequest::kSetVringCall>(1, {call_.get()}).ok());
}

}  // namespace
}  // namespace gmem::vhost
