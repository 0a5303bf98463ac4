// SPDX-License-Identifier: MIT OR Apache-2.0
// One session with a front-end: the loop around its parts. Not installed.
#ifndef GMEM_VHOST_BACKEND_SESSION_H_
#define GMEM_VHOST_BACKEND_SESSION_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "vhost/backend/lane.h"
#include "vhost/backend/lanes.h"
#include "vhost/backend/parts.h"
#include "vhost/backend/requests.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

class __attribute__((visibility("hidden"))) Session {
 public:
  // @backend and @device must outlive this object. @backend is for the device's methods.
  Session(Backend& backend, Device& device, Connection connection, std::unique_ptr<Lanes> lanes,
          absl::Duration timeout)
      : parts_(backend, device, std::move(lanes), timeout),
        requests_(std::move(connection), parts_) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Begins the session: tells the device of it.
  absl::Status Open();
  // Ends the session: stops the virtqueues, ends the requests to the front-end, and tells the
  // device, in this order. The device may use the backend in all of these calls. Waits for the
  // threads that are in a call of the device, see can_close().
  void Close();
  // Does Close() have no thread to wait for? After an error of Process(), when fd() is readable.
  bool can_close();

  // See Backend.
  int fd() const { return parts_.lanes->fd(); }
  absl::Time next_deadline() const;
  absl::Status Process();
  bool has_frontend_gone() const { return requests_.has_frontend_gone(); }

  Parts& parts() { return parts_; }
  const Parts& parts() const { return parts_; }

  // Leaves work for a round of the loop. Any thread may call this.
  void Post(Lane::Work work) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void RunPosted() ABSL_LOCKS_EXCLUDED(mutex_);
  // Lets the threads run.
  void Resume();
  // The threads don't give their batons. DeadlineExceeded (ETIMEDOUT) if that lasts.
  absl::Status CheckTakeTime();
  // The session ends, or has lost its front-end. Tells the device if pages of guest memory are
  // missing.
  void ReportMissingPages();
  absl::Status ProcessOnce();
  absl::Status ProcessEvents();
  // Has the front-end taken memory away? See SurviveSigbus().
  absl::Status CheckMemory();

  Parts parts_;
  Requests requests_;
  bool is_open_ = false;
  // PeerPages::NrBroken() at the last look.
  uint64_t nr_broken_ = 0;
  // How long the threads may keep their batons: Device::stop_timeout(), asked for while no thread
  // ran.
  absl::Duration patience_;
  // When the threads must have given their batons, a time of Uptime(); infinite if they have.
  absl::Duration take_deadline_ = absl::InfiniteDuration();
  // The error that has ended the session.
  absl::Status status_;

  internal::Mutex mutex_;
  std::vector<Lane::Work> posted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_SESSION_H_
