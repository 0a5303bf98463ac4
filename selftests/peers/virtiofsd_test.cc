// SPDX-License-Identifier: MIT OR Apache-2.0
// The library's front-end with virtiofsd: a driver reads a real file through the virtqueues.
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/vhost/driver_ring.h"
#include "gmem/vhost/frontend.h"
#include "lib/peer.h"
#include "lib/session.h"
#include "vhost/testing/driver_memory.h"

namespace gmem::vhost::peers {
namespace {

// Virtqueue 0 is for urgent requests; virtqueue 1 is the first one for all others.
constexpr uint32_t kQueues = 2;
constexpr uint32_t kRequestQueue = 1;
constexpr size_t kMaxRequest = 4096;
constexpr size_t kMaxReply = 1 << 17;
constexpr absl::Duration kTimeout = absl::Seconds(30);

// The driver of a virtio file system device (virtio 1.3, 5.11). A request has two buffers, with the
// structures of <linux/fuse.h>.
class FuseClient {
 public:
  static absl::StatusOr<FuseClient> Create(doubles::DriverMemory& memory, DriverRing* ring) {
    GMEM_ASSIGN_OR_RETURN(const auto request, memory.Allocate(kMaxRequest, 4096));
    GMEM_ASSIGN_OR_RETURN(const auto reply, memory.Allocate(kMaxReply, 4096));
    return FuseClient(ring, request, reply);
  }

  // Sends a request. Returns the reply behind its header, or the reply's error. The bytes are valid
  // until the next request.
  absl::StatusOr<absl::string_view> Ask(uint32_t opcode, uint64_t node, absl::string_view argument,
                                        size_t max_reply) {
    fuse_in_header header = {};
    header.len = static_cast<uint32_t>(sizeof(header) + argument.size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = node;
    std::memcpy(request_.data(), &header, sizeof(header));
    std::memcpy(request_.data() + sizeof(header), argument.data(), argument.size());
    const std::array<DriverRing::Buffer, 2> chain = {
        DriverRing::Buffer{request_.first(header.len), false},
        DriverRing::Buffer{reply_.first(sizeof(fuse_out_header) + max_reply), true}};
    GMEM_ASSIGN_OR_RETURN(const uint16_t head, ring_->Add(chain));
    ring_->Kick();
    GMEM_ASSIGN_OR_RETURN(const DriverRing::Used used, ring_->Wait(kTimeout));
    fuse_out_header answer = {};
    std::memcpy(&answer, reply_.data(), sizeof(answer));
    if (used.head != head || used.written != answer.len || answer.len < sizeof(answer) ||
        answer.unique != unique_) {
      return absl::DataLossError(absl::StrCat("the answer to request ", unique_, " is for ",
                                              answer.unique, ", ", answer.len, " bytes of ",
                                              used.written));
    }
    if (answer.error != 0) return absl::ErrnoToStatus(-answer.error, "the file system says");
    return absl::string_view(reinterpret_cast<const char*>(reply_.data()) + sizeof(answer),
                             answer.len - sizeof(answer));
  }

  // Sends a request with a structure as argument and as reply.
  template <typename Out, typename In>
  absl::StatusOr<Out> Ask(uint32_t opcode, uint64_t node, const In& in) {
    return As<Out>(
        Ask(opcode, node, {reinterpret_cast<const char*>(&in), sizeof(in)}, sizeof(Out)));
  }
  absl::StatusOr<fuse_entry_out> LookUp(uint64_t parent, const std::string& name) {
    return As<fuse_entry_out>(
        Ask(FUSE_LOOKUP, parent, {name.c_str(), name.size() + 1}, sizeof(fuse_entry_out)));
  }

 private:
  FuseClient(DriverRing* ring, absl::Span<uint8_t> request, absl::Span<uint8_t> reply)
      : ring_(ring), request_(request), reply_(reply) {}

  template <typename Out>
  static absl::StatusOr<Out> As(absl::StatusOr<absl::string_view> reply) {
    if (!reply.ok()) return reply.status();
    if (reply->size() != sizeof(Out)) {
      return absl::DataLossError(absl::StrCat(reply->size(), " bytes, not ", sizeof(Out)));
    }
    Out out;
    std::memcpy(&out, reply->data(), sizeof(out));
    return out;
  }

  DriverRing* ring_;
  absl::Span<uint8_t> request_;
  absl::Span<uint8_t> reply_;
  uint64_t unique_ = 0;
};

class VirtiofsdTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(scratch_.path("shared/folder"));
    // Longer than one page, and not a multiple of it.
    for (int i = 0; i < 10000; i++) contents_ += absl::StrCat("line ", i, "\n");
    std::ofstream(scratch_.path("shared/folder/file")) << contents_;

    auto peer = Peer::StartPackaged({"virtiofsd", "--socket-path=" + scratch_.path("socket"),
                                     "--shared-dir=" + scratch_.path("shared"), "--sandbox=none",
                                     "--seccomp=none", "--tag=gmem", "--log-level=warn"});
    ASSERT_TRUE(peer.ok()) << peer.status();
    peer_ = *std::move(peer);
    auto memory = doubles::DriverMemory::Create(1 << 20);
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
    auto frontend = ConnectFrontend(scratch_.path("socket"), 0);
    ASSERT_TRUE(frontend.ok()) << frontend.status();
    frontend_ = *std::move(frontend);
    ASSERT_EQ(ShareMemory(*frontend_, *memory_), absl::OkStatus());
    rings_.reserve(kQueues);
    for (uint32_t i = 0; i < kQueues; i++) {
      auto ring = doubles::NewRing(*memory_, 64);
      ASSERT_TRUE(ring.ok()) << ring.status();
      rings_.push_back(*std::move(ring));
      ASSERT_EQ(StartRing(*frontend_, i, rings_[i]), absl::OkStatus());
    }
    ASSERT_EQ(frontend_->DriverOk(), absl::OkStatus());
    auto client = FuseClient::Create(*memory_, &rings_[kRequestQueue]);
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
    ASSERT_NO_FATAL_FAILURE(Init());
  }

  void Init() {
    fuse_init_in in = {};
    in.major = FUSE_KERNEL_VERSION;
    in.minor = FUSE_KERNEL_MINOR_VERSION;
    in.max_readahead = kMaxReply;
    const auto out = client_->Ask<fuse_init_out>(FUSE_INIT, 0, in);
    ASSERT_TRUE(out.ok()) << out.status();
    EXPECT_EQ(out->major, uint32_t{FUSE_KERNEL_VERSION});
    EXPECT_GE(out->minor, 27u);
    EXPECT_GE(out->max_write, 4096u);
  }

  ScratchFolder scratch_;
  std::string contents_;
  std::optional<Peer> peer_;
  std::unique_ptr<doubles::DriverMemory> memory_;
  std::vector<DriverRing> rings_;
  std::unique_ptr<Frontend> frontend_;
  std::optional<FuseClient> client_;
};

TEST_F(VirtiofsdTest, ReportsItsTag) {
  const auto config = frontend_->GetConfig(0, 40);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_STREQ(config->c_str(), "gmem");
}

TEST_F(VirtiofsdTest, ReadsAFile) {
  const auto folder = client_->LookUp(FUSE_ROOT_ID, "folder");
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_TRUE(S_ISDIR(folder->attr.mode));
  const auto file = client_->LookUp(folder->nodeid, "file");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(S_ISREG(file->attr.mode));
  EXPECT_EQ(file->attr.size, contents_.size());

  const auto open = client_->Ask<fuse_open_out>(FUSE_OPEN, file->nodeid, fuse_open_in{});
  ASSERT_TRUE(open.ok()) << open.status();
  std::string got;
  while (got.size() < contents_.size()) {
    fuse_read_in in = {};
    in.fh = open->fh;
    in.offset = got.size();
    in.size = 1 << 15;
    const auto piece = client_->Ask(FUSE_READ, file->nodeid,
                                    {reinterpret_cast<const char*>(&in), sizeof(in)}, in.size);
    ASSERT_TRUE(piece.ok()) << piece.status();
    ASSERT_FALSE(piece->empty());
    got += std::string(*piece);
  }
  EXPECT_EQ(got, contents_);
}

TEST_F(VirtiofsdTest, ReportsAMissingFile) {
  const auto file = client_->LookUp(FUSE_ROOT_ID, "nothing");
  EXPECT_EQ(file.status().code(), absl::StatusCode::kNotFound) << file.status();
}

TEST_F(VirtiofsdTest, StopsItsQueues) {
  // INIT is the only request so far.
  const auto base = frontend_->GetVringBase(kRequestQueue);
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(*base, 1u);
  const auto idle = frontend_->GetVringBase(0);
  ASSERT_TRUE(idle.ok()) << idle.status();
  EXPECT_EQ(*idle, 0u);
}

}  // namespace
}  // namespace gmem::vhost::peers
