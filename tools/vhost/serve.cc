// SPDX-License-Identifier: Apache-2.0
#include "serve.h"

#include <sys/signalfd.h>

#include <cerrno>
#include <csignal>
#include <iostream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/server.h"

absl::Status Serve(const std::string& socket, gmem::vhost::Device& device) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const gmem::UniqueFd stop(signalfd(-1, &signals, SFD_CLOEXEC));
  if (!stop) return absl::ErrnoToStatus(errno, "can't wait for signals");

  absl::StatusOr<gmem::vhost::Listener> listener = gmem::vhost::Listener::Create(socket);
  if (!listener.ok()) return listener.status();
  absl::StatusOr<gmem::vhost::Server> server =
      gmem::vhost::Server::Create(*std::move(listener), device);
  if (!server.ok()) return server.status();
  server->set_session_end([](const absl::Status& status) {
    if (gmem::GetErrno(status) != ECONNRESET) std::cerr << status.message() << "\n";
  });
  return server->Run(stop.get());
}
