// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_TOOLS_VHOST_SERVE_H_
#define GMEM_TOOLS_VHOST_SERVE_H_

#include <string>

#include "absl/status/status.h"
#include "gmem/vhost/device.h"

// Serves front-ends at a socket until SIGINT or SIGTERM. Prints the reason for the end of a session
// to stderr, unless the front-end just left.
absl::Status Serve(const std::string& socket, gmem::vhost::Device& device);

#endif  // GMEM_TOOLS_VHOST_SERVE_H_
