// SPDX-License-Identifier: Apache-2.0
// One session with a front-end: the loop around its parts. Not installed.
#ifndef GMEM_VHOST_BACKEND_SESSION_H_
#define GMEM_VHOST_BACKEND_SESSION_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "vhost/backend/parts.h"
#include "vhost/backend/poller.h"
#include "vhost/backend/requests.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

class __attribute__((visibility("hidden"))) Session {
 public:
  // @backend and @device must outlive this object. @backend is for the device's methods.
  Session(Backend& backend, Device& device, Connection connection, Poller poller,
          absl::Duration timeout)
      : parts_(backend, device, std::move(poller), timeout),
        requests_(std::move(connection), parts_) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Begins the session: tells the device of it.
  absl::Status Open();
  // Ends the session: stops the virtqueues, ends the requests to the front-end, and tells the
  // device, in this order. The device may use the backend in all of these calls.
  void Close();

  // See Backend.
  int fd() const { return parts_.poller.fd(); }
  absl::Time next_deadline() const;
  absl::Status Process();
  bool has_frontend_gone() const { return requests_.has_frontend_gone(); }

  Parts& parts() { return parts_; }
  const Parts& parts() const { return parts_; }

 private:
  absl::Status ProcessOnce();
  absl::Status ProcessEvents();
  // Has the front-end taken memory away? See SurviveSigbus().
  absl::Status CheckMemory();

  Parts parts_;
  Requests requests_;
  bool is_open_ = false;
  // PeerPages::NrBroken() at the last look.
  uint64_t nr_broken_ = 0;
  // The error that has ended the session.
  absl::Status status_;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_SESSION_H_
