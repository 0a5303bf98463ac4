// SPDX-License-Identifier: MIT OR Apache-2.0
#include "serve.h"

#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/flag_types.h"
#include "base/program.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/server.h"
#include "gmem/vhost/sigbus.h"
#include "sandbox.h"
#include "supervisor.h"

using Descriptor = tools::NumberIn<0, INT32_MAX>;

ABSL_FLAG(std::string, socket_path, "", "path of the socket at which the device listens");
ABSL_FLAG(Descriptor, fd, {},
          "number of a descriptor, instead of a path: a listening socket, or one that is connected "
          "to a front-end");
ABSL_FLAG(tools::Switch, sandbox, {.is_on = true},
          "give up all rights that the device doesn't need: on or off");
ABSL_FLAG(bool, print_capabilities, false, "print what the device can do, as JSON");

namespace {

using gmem::vhost::Backend;
using gmem::vhost::Connection;
using gmem::vhost::Listener;
using gmem::vhost::Server;

void PrintCapabilities(const DeviceProgram& program) {
  nlohmann::ordered_json capabilities = {{"type", program.type}};
  if (!program.features.empty()) capabilities["features"] = program.features;
  std::cout << capabilities.dump(2) << "\n";
}

// The socket that --fd or the service manager gives, if one does.
absl::StatusOr<std::optional<gmem::UniqueFd>> GivenSocket() {
  absl::StatusOr<std::optional<gmem::UniqueFd>> passed = PassedSocket();
  if (!passed.ok()) return passed.status();
  const bool has_path = !absl::GetFlag(FLAGS_socket_path).empty();
  const Descriptor fd = absl::GetFlag(FLAGS_fd);
  const int nr_given = int{has_path} + int{fd.has_value()} + int{passed->has_value()};
  if (nr_given == 0) {
    return absl::InvalidArgumentError("--socket-path is missing: give the path of the socket");
  }
  if (nr_given > 1) {
    return absl::InvalidArgumentError(
        "give one of --socket-path, --fd and the service manager's socket");
  }
  if (fd) return gmem::UniqueFd(static_cast<int>(*fd));
  return passed;
}

absl::StatusOr<bool> IsListening(const gmem::UniqueFd& socket) {
  int is_listening = 0;
  socklen_t size = sizeof(is_listening);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &size) != 0) {
    const absl::Status why =
        absl::ErrnoToStatus(errno, absl::StrCat("can't use descriptor ", socket.get()));
    return absl::InvalidArgumentError(why.message());
  }
  return is_listening != 0;
}

// A descriptor that is readable when the program shall end.
absl::StatusOr<gmem::UniqueFd> StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  gmem::UniqueFd stop(signalfd(-1, &signals, SFD_CLOEXEC));
  if (!stop) return absl::ErrnoToStatus(errno, "can't wait for signals");
  return stop;
}

// The usual limit is for programs that use select(). A device with many virtqueues needs more: each
// has three eventfds of the front-end and two descriptors of its thread.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// A manager that isn't there is no reason to serve nobody.
class Manager {
 public:
  explicit Manager(absl::string_view program) : program_(program), found_(ServiceManager::Find()) {
    if (!found_.ok()) tools::PrintError(program_, found_.status().message());
  }
  void Tell(absl::string_view state) const {
    const absl::Status status = found_.ok() ? found_->Tell(state) : absl::OkStatus();
    if (!status.ok()) tools::PrintError(program_, status.message());
  }

 private:
  absl::string_view program_;
  absl::StatusOr<ServiceManager> found_;
};

// All is open, and no front-end has sent anything.
absl::Status EnterSandboxIfWanted(const DeviceProgram& program, const std::string& socket_path) {
  if (!absl::GetFlag(FLAGS_sandbox).is_on) return absl::OkStatus();
  return EnterSandbox(program.name, socket_path, program.sandbox);
}

void ReportEnd(absl::string_view program, const absl::Status& status) {
  if (gmem::GetErrno(status) != ECONNRESET) tools::PrintError(program, status.message());
}

// Serves the front-end behind @socket.
absl::Status ServeOne(const DeviceProgram& program, gmem::UniqueFd socket,
                      gmem::vhost::Device& device, int stop_fd, const Manager& manager) {
  absl::StatusOr<Connection> connection = Connection::Adopt(std::move(socket));
  if (!connection.ok()) return connection.status();
  if (absl::Status status = EnterSandboxIfWanted(program, ""); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      Backend::Create(*std::move(connection), device,
                      Backend::Options{.has_queue_threads = program.has_queue_threads});
  if (!backend.ok()) return backend.status();
  manager.Tell("READY=1");
  absl::Status status = (*backend)->Run(stop_fd);
  // The front-end has left.
  if (gmem::GetErrno(status) == ECONNRESET) status = absl::OkStatus();
  return status;
}

// Serves the front-ends that come to @listener, one after the other.
absl::Status ServeAll(const DeviceProgram& program, absl::StatusOr<Listener> listener,
                      gmem::vhost::Device& device, int stop_fd, const Manager& manager) {
  if (!listener.ok()) return listener.status();
  absl::Status status = EnterSandboxIfWanted(program, absl::GetFlag(FLAGS_socket_path));
  if (!status.ok()) return status;
  absl::StatusOr<Server> server =
      Server::Create(*std::move(listener), device,
                     Server::Options{.has_queue_threads = program.has_queue_threads});
  if (!server.ok()) return server.status();
  server->set_session_end(
      [&program](const absl::Status& status) { ReportEnd(program.name, status); });
  manager.Tell("READY=1");
  return server->Run(stop_fd);
}

absl::Status Serve(const DeviceProgram& program, std::optional<gmem::UniqueFd> socket,
                   gmem::vhost::Device& device) {
  const absl::StatusOr<gmem::UniqueFd> stop = StopSignals();
  if (!stop.ok()) return stop.status();
  if (absl::Status status = gmem::vhost::SurviveSigbus(); !status.ok()) return status;
  absl::StatusOr<bool> is_listening = true;
  if (socket) is_listening = IsListening(*socket);
  if (!is_listening.ok()) return is_listening.status();
  const Manager manager(program.name);
  absl::Status status;
  if (!*is_listening) {
    status = ServeOne(program, *std::move(socket), device, stop->get(), manager);
  } else {
    status = ServeAll(program,
                      socket ? Listener::Adopt(*std::move(socket))
                             : Listener::Create(absl::GetFlag(FLAGS_socket_path)),
                      device, stop->get(), manager);
  }
  if (status.ok()) manager.Tell("STOPPING=1");
  return status;
}

}  // namespace

absl::StatusOr<int> RunDevice(const DeviceProgram& program, tools::Words words) {
  if (!words.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", words[0], "\" must be a flag"));
  }
  if (absl::GetFlag(FLAGS_print_capabilities)) {
    PrintCapabilities(program);
    return 0;
  }
  absl::StatusOr<std::optional<gmem::UniqueFd>> socket = GivenSocket();
  if (!socket.ok()) return socket.status();
  RaiseDescriptorLimit();
  const absl::StatusOr<std::unique_ptr<gmem::vhost::Device>> device = program.make();
  if (!device.ok()) return device.status();
  if (absl::Status status = Serve(program, *std::move(socket), **device); !status.ok()) {
    return status;
  }
  return 0;
}
