// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_SIGBUS_H_
#define GMEM_VHOST_SIGBUS_H_

#include "absl/status/status.h"

namespace gmem::vhost {

/// Lets this process survive a front-end that takes memory away: one that shortens the file of a
/// region, of its log or of an inflight buffer, whose file system has no room for a page, or that
/// lends or revokes memory of which this process has a view (see MemoryView). A touch of such
/// memory raises SIGBUS. From this call on, a handler puts zero pages in the place of the whole
/// mapping, the touch goes on, and the session ends at the end of Backend::Process(), with DataLoss
/// (EBADMSG). The device may see zeroes until then. System calls on such memory fail with EFAULT,
/// with or without the handler.
///
/// The handler maps the zero pages without reserving memory for them. With vm.overcommit_memory set
/// to 2 the kernel reserves it all the same, and the process ends if there isn't enough; after
/// mlockall(MCL_FUTURE), all pages of the mapping are made at once.
///
/// Every other SIGBUS goes to the handler that was there before: a broken page of the host's memory
/// (BUS_MCEERR_AR, BUS_MCEERR_AO), and addresses that no back-end has mapped. A handler that is
/// installed later must do the same with this one. Call it once, at the program's start; more calls
/// do nothing. The system's error if the handler can't be installed. Thread-safe.
absl::Status SurviveSigbus();

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_SIGBUS_H_
