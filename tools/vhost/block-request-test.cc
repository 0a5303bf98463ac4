// SPDX-License-Identifier: MIT OR Apache-2.0
// The operations of a request. Only they show whether a write is stable when it is completed.
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstdint>

#include "block_io.h"
#include "block_request.h"
#include "block_ring_test.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/testing/ring.h"

namespace {

using gmem::vhost::Popped;
using gmem::vhost::doubles::kData;
using gmem::vhost::doubles::kQueueSize;
using gmem::vhost::doubles::kWrite;
using gmem::vhost::doubles::TestGuest;
using Kind = BlockIo::Kind;

class BlockRequestTest : public block_test::BlockRingTest {
 protected:
  BlockRequestTest() : BlockRingTest(kQueueSize) {}

  // Begins a request with @readable bytes after the header, and @writable ones before the status.
  void Begin(uint32_t type, uint32_t readable, uint32_t writable = 0) {
    const virtio_blk_outhdr header = {.type = type, .ioprio = 0, .sector = 2};
    guest_.Put(TestGuest::kData, header);
    ring_.Add({{kData, static_cast<uint32_t>(sizeof(header)) + readable, 0},
               {kData + 0x10000, writable + 1, kWrite}});
    ASSERT_EQ(queue_->Pop(request_.chain()), Popped::kChain);
    request_.Begin(disk_);
  }
  void BeginRange(uint32_t type, uint32_t flags) {
    const virtio_blk_discard_write_zeroes range = {.sector = 8, .num_sectors = 400, .flags = flags};
    guest_.Put(TestGuest::kData + sizeof(virtio_blk_outhdr), range);
    Begin(type, sizeof(range));
  }
  // The next operation is @kind, and ends with @result.
  void Expect(Kind kind, int result) {
    ASSERT_TRUE(request_.has_operation());
    last_ = request_.operation();
    EXPECT_EQ(last_.kind, kind);
    request_.Finish(result);
  }
  void ExpectEnd(uint8_t status) const {
    EXPECT_FALSE(request_.has_operation());
    EXPECT_EQ(request_.status(), status);
  }

  BlockRequest request_;
  BlockIo::Operation last_;
};

TEST_F(BlockRequestTest, WithACacheAWriteIsJustThat) {
  Begin(VIRTIO_BLK_T_OUT, 1024);
  Expect(Kind::kWrite, 1024);
  EXPECT_EQ(last_.offset, 1024U);
  ExpectEnd(VIRTIO_BLK_S_OK);
}

TEST_F(BlockRequestTest, WithoutACacheAllThatWritesIsFlushed) {
  disk_.is_writethrough = true;
  Begin(VIRTIO_BLK_T_OUT, 1024);
  Expect(Kind::kWrite, 1024);
  Expect(Kind::kFlush, 0);
  ExpectEnd(VIRTIO_BLK_S_OK);
  BeginRange(VIRTIO_BLK_T_DISCARD, 0);
  Expect(Kind::kAllocate, 0);
  Expect(Kind::kFlush, -EIO);
  ExpectEnd(VIRTIO_BLK_S_IOERR);
  BeginRange(VIRTIO_BLK_T_WRITE_ZEROES, 0);
  Expect(Kind::kAllocate, 0);
  Expect(Kind::kFlush, 0);
  ExpectEnd(VIRTIO_BLK_S_OK);
  Begin(VIRTIO_BLK_T_IN, 0, 512);
  Expect(Kind::kRead, 512);
  ExpectEnd(VIRTIO_BLK_S_OK);
}

// Each part of a request may meet a page that hasn't come yet.
TEST_F(BlockRequestTest, AbsentPagesAreAskedForOnceForEachPart) {
  disk_.has_postcopy = true;
  Begin(VIRTIO_BLK_T_IN, 0, 4096);
  Expect(Kind::kRead, -EFAULT);
  Expect(Kind::kRead, 1000);
  Expect(Kind::kRead, -EFAULT);
  Expect(Kind::kRead, 3096);
  ExpectEnd(VIRTIO_BLK_S_OK);
  Begin(VIRTIO_BLK_T_IN, 0, 4096);
  Expect(Kind::kRead, -EFAULT);
  Expect(Kind::kRead, -EFAULT);
  ExpectEnd(VIRTIO_BLK_S_IOERR);
}

TEST_F(BlockRequestTest, GoesOnAfterAPart) {
  Begin(VIRTIO_BLK_T_IN, 0, 4096);
  Expect(Kind::kRead, 1000);
  Expect(Kind::kRead, -EINTR);
  Expect(Kind::kRead, 3000);
  EXPECT_EQ(last_.offset, 2 * 512U + 1000);
  ASSERT_EQ(last_.pieces.size(), 1U);
  EXPECT_EQ(last_.pieces[0].iov_base, guest_.at(TestGuest::kData + 0x10000 + 1000) - guest_.at(0) +
                                          memory_.FromGuest(TestGuest::kGuest, 1).data());
  Expect(Kind::kRead, 96);
  EXPECT_EQ(last_.pieces[0].iov_len, 96U);
  ExpectEnd(VIRTIO_BLK_S_OK);
}

TEST_F(BlockRequestTest, AnErrorEndsIt) {
  for (const int result : {0, -EIO, -EFAULT}) {
    Begin(VIRTIO_BLK_T_OUT, 1024);
    Expect(Kind::kWrite, result);
    ExpectEnd(VIRTIO_BLK_S_IOERR);
  }
}

TEST_F(BlockRequestTest, TouchesPagesThatMayBeMissingOnce) {
  disk_.has_postcopy = true;
  Begin(VIRTIO_BLK_T_IN, 0, 1024);
  Expect(Kind::kRead, -EFAULT);
  Expect(Kind::kRead, -EFAULT);
  ExpectEnd(VIRTIO_BLK_S_IOERR);
}

TEST_F(BlockRequestTest, WritesZeroesIfTheFileSystemHasNoCall) {
  for (const bool may_unmap : {false, true}) {
    BeginRange(VIRTIO_BLK_T_WRITE_ZEROES, may_unmap ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0);
    Expect(Kind::kAllocate, -EOPNOTSUPP);
    EXPECT_EQ(last_.mode,
              FALLOC_FL_KEEP_SIZE | (may_unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE));
    Expect(Kind::kWrite, 400 * 512);
    EXPECT_EQ(last_.offset, 8 * 512U);
    uint64_t size = 0;
    for (const iovec& piece : last_.pieces) size += piece.iov_len;
    EXPECT_EQ(size, 400 * 512U);
    ExpectEnd(VIRTIO_BLK_S_OK);
  }
}

TEST_F(BlockRequestTest, ADiscardIsAHint) {
  BeginRange(VIRTIO_BLK_T_DISCARD, 0);
  Expect(Kind::kAllocate, -EOPNOTSUPP);
  ExpectEnd(VIRTIO_BLK_S_OK);
}

}  // namespace
