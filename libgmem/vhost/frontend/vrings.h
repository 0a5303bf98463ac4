// SPDX-License-Identifier: MIT OR Apache-2.0
// The virtqueues that the back-end serves. Not installed.
#ifndef GMEM_VHOST_FRONTEND_VRINGS_H_
#define GMEM_VHOST_FRONTEND_VRINGS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/backend_memory.h"
#include "vhost/frontend/session.h"
#include "vhost/wire/event_signal.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Sends SET_VRING_* and remembers each, so that Reconnect() can repeat it. See Frontend for the
// methods that have the same name there.
class Vrings {
 public:
  // The requests for one virtqueue that have succeeded.
  struct Vring {
    std::optional<uint32_t> size, base;
    std::optional<VringAddress> address;
    std::optional<UniqueFd> kick, call, err;
    std::optional<bool> enabled, big_endian;
    // VRING_KICK starts a virtqueue, too.
    bool was_kicked_in_band = false;
  };
  using ByIndex = std::map<unsigned, Vring>;

  Vrings(Session& session, const Agreement& agreement) : session_(session), agreement_(agreement) {}
  Vrings(const Vrings&) = delete;
  Vrings& operator=(const Vrings&) = delete;

  absl::Status Start(unsigned index, const VringSetup& setup);
  absl::Status SetNum(unsigned index, uint32_t size);
  absl::Status SetBase(unsigned index, uint32_t base);
  absl::Status SetAddr(const VringAddress& address);
  absl::Status SetKick(unsigned index, int fd);
  absl::Status SetCall(unsigned index, int fd);
  absl::Status SetErr(unsigned index, int fd);
  absl::Status SetEnable(unsigned index, bool enable);
  absl::Status SetEndian(unsigned index, bool big_endian);
  absl::Status Kick(unsigned index);

  // Stops the virtqueue and forgets it. Returns the back-end's answer, which the caller checks.
  absl::StatusOr<VringState> Stop(unsigned index);

  // Sends all addresses again, because the log has begun or ended.
  absl::Status SendAddresses();

  // The virtqueues that were started, and not stopped.
  std::vector<unsigned> started() const;

  // Forgets all virtqueues.
  void Clear() { vrings_.clear(); }
  // Hands over all that is remembered; Restore() brings it back.
  ByIndex Take() { return std::exchange(vrings_, {}); }
  void Restore(ByIndex vrings) { vrings_ = std::move(vrings); }
  // Starts @vrings in a new back-end. Split virtqueues go on where their used rings, which lie in
  // @memory, say.
  absl::Status Resume(const ByIndex& vrings, const BackendMemory& memory);

 private:
  absl::Status SetFd(FrontendRequest request, unsigned index, int fd,
                     std::optional<UniqueFd> Vring::*member);
  absl::Status SendAddress(VringAddress address);
  absl::Status ResumeOne(unsigned index, const Vring& vring, const BackendMemory& memory);
  uint32_t ResumeBase(const Vring& vring, const BackendMemory& memory) const;

  Session& session_;
  const Agreement& agreement_;
  // The back-end has the kicks' eventfds, too.
  wire_internal::EventSignaler signaler_;
  ByIndex vrings_;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_VRINGS_H_
