// SPDX-License-Identifier: MIT OR Apache-2.0
// The requests of a virtqueue, on a disk whose operations end when the test says so.
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "block_io.h"
#include "block_queue.h"
#include "block_ring_test.h"
#include "vhost/testing/ring.h"

namespace {

using gmem::vhost::doubles::kData;
using gmem::vhost::doubles::kWrite;
using gmem::vhost::doubles::TestGuest;

class FakeIo final : public BlockIo {
 public:
  int fd() const override { return -1; }
  void Start(uint64_t id, const Operation& operation) override {
    under_way.push_back({.id = id, .result = static_cast<int>(operation.size)});
  }
  void Submit() override {}
  std::optional<Completion> Next() override {
    if (nr_to_end == 0 || under_way.empty()) return std::nullopt;
    nr_to_end--;
    return Take();
  }
  bool Await() override { return nr_to_end == 0 || under_way.empty(); }
  void TakeEvent() override {}
  Completion Wait() override { return Take(); }

  std::deque<Completion> under_way;
  // Operations that end when the device looks.
  size_t nr_to_end = 0;

 private:
  Completion Take() {
    const Completion first = under_way.front();
    under_way.pop_front();
    return first;
  }
};

class BlockQueueTest : public block_test::BlockRingTest {
 protected:
  BlockQueueTest() : BlockRingTest(512) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(BlockRingTest::SetUp());
    guest_.Put(TestGuest::kData,
               virtio_blk_outhdr{.type = VIRTIO_BLK_T_OUT, .ioprio = 0, .sector = 0});
    auto io = std::make_unique<FakeIo>();
    io_ = io.get();
    requests_.emplace(std::move(io));
  }

  void Add(size_t count) {
    for (size_t i = 0; i < count; i++) {
      ring_.Add({{kData, sizeof(virtio_blk_outhdr) + 512, 0}, {kData + 0x1000, 1, kWrite}});
    }
  }
  size_t CountUsed() {
    size_t count = 0;
    while (ring_.TakeUsed()) count++;
    return count;
  }

  FakeIo* io_ = nullptr;
  std::optional<BlockQueue> requests_;
};

TEST_F(BlockQueueTest, RequestsThatFindNoRoomWait) {
  constexpr size_t kMax = BlockQueue::kMaxRequests;
  Add(kMax + 1);
  for (int i = 0; i < 3; i++) EXPECT_TRUE(requests_->Serve(*queue_, disk_).ok());
  EXPECT_EQ(io_->under_way.size(), kMax);
  EXPECT_FALSE(requests_->wants_more());
  io_->nr_to_end = 1;
  requests_->Complete(*queue_);
  EXPECT_EQ(CountUsed(), 1U);
  EXPECT_TRUE(requests_->wants_more());
  EXPECT_TRUE(requests_->Serve(*queue_, disk_).ok());
  EXPECT_EQ(io_->under_way.size(), kMax);
}

// All operations end while the device is called for new requests. No event comes after that.
TEST_F(BlockQueueTest, RequestsThatFindNoRoomAreNotForgotten) {
  constexpr size_t kMax = BlockQueue::kMaxRequests;
  Add(kMax + 1);
  for (int i = 0; i < 2; i++) EXPECT_TRUE(requests_->Serve(*queue_, disk_).ok());
  ASSERT_EQ(io_->under_way.size(), kMax);
  io_->nr_to_end = kMax;
  EXPECT_TRUE(requests_->Serve(*queue_, disk_).ok());
  EXPECT_EQ(CountUsed(), kMax);
  EXPECT_EQ(io_->under_way.size(), 1U);
}

TEST_F(BlockQueueTest, ARequestWithoutAStatusIsAnErrorAfterThoseBefore) {
  Add(1);
  ring_.Add({{kData, sizeof(virtio_blk_outhdr), 0}});
  EXPECT_TRUE(requests_->Serve(*queue_, disk_).ok());
  EXPECT_EQ(io_->under_way.size(), 1U);
  EXPECT_TRUE(requests_->wants_more());
  EXPECT_FALSE(requests_->Serve(*queue_, disk_).ok());
  EXPECT_EQ(io_->under_way.size(), 1U) << "it goes on";
}

// The operations under way end, and no request is answered: the chains have gone.
TEST_F(BlockQueueTest, AbandonsWhatIsUnderWay) {
  Add(3);
  EXPECT_TRUE(requests_->Serve(*queue_, disk_).ok());
  requests_->Abandon();
  EXPECT_TRUE(io_->under_way.empty());
  EXPECT_EQ(CountUsed(), 0U);
}

}  // namespace
