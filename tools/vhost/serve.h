// SPDX-License-Identifier: MIT OR Apache-2.0
// The devices' programs follow the conventions for back-ends that the specification of vhost-user
// has: --socket-path, --fd, --print-capabilities. A service manager may pass the socket instead.
#ifndef GMEM_TOOLS_VHOST_SERVE_H_
#define GMEM_TOOLS_VHOST_SERVE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/flag_types.h"
#include "base/program.h"
#include "gmem/vhost/device.h"
#include "sandbox.h"

using QueueCount = tools::NumberIn<1, 256>;

struct DeviceProgram {
  absl::string_view name;
  // For --print-capabilities: the type of the device, and the features that have names there.
  std::string type;
  std::vector<std::string> features = {};
  // Serve the virtqueues on threads, see gmem::vhost::Backend.
  bool has_queue_threads = false;
  // The sandbox of the device, unless the user wants none.
  SandboxRules sandbox = {};
  // Makes the device, from flags of its own.
  std::function<absl::StatusOr<std::unique_ptr<gmem::vhost::Device>>()> make;
};

// Prints the capabilities, or makes the device and serves front-ends until SIGINT or SIGTERM.
// Behind a connected socket (--fd), the end of the session is the end, too. Prints the reason for
// the end of a session to standard error, after the program's name, unless the front-end just left.
// Returns the exit status.
absl::StatusOr<int> RunDevice(const DeviceProgram& program, tools::Words words);

#endif  // GMEM_TOOLS_VHOST_SERVE_H_
