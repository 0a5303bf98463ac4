// SPDX-License-Identifier: Apache-2.0
// Functions of the devices' programs.
#ifndef GMEM_TOOLS_VHOST_SERVE_H_
#define GMEM_TOOLS_VHOST_SERVE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/flag_types.h"
#include "base/program.h"
#include "gmem/vhost/device.h"

using QueueCount = tools::NumberIn<1, 256>;

// Checks that all words of the command line were flags, and that there is a path for the socket.
absl::Status CheckWords(tools::Words words, const std::string& socket);

// Serves front-ends at a socket until SIGINT or SIGTERM. Prints the reason for the end of a session
// to stderr, after the name of the program, unless the front-end just left.
absl::Status Serve(absl::string_view program, const std::string& socket,
                   gmem::vhost::Device& device);

#endif  // GMEM_TOOLS_VHOST_SERVE_H_
