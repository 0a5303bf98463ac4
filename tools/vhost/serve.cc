// SPDX-License-Identifier: Apache-2.0
#include "serve.h"

#include <sys/signalfd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/program.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/server.h"
#include "gmem/vhost/sigbus.h"

absl::Status CheckWords(tools::Words words, const std::string& socket) {
  if (!words.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", words[0], "\" must be a flag"));
  }
  if (socket.empty()) {
    return absl::InvalidArgumentError("--socket is missing: give the path of the socket");
  }
  return absl::OkStatus();
}

absl::Status Serve(absl::string_view program, const std::string& socket,
                   gmem::vhost::Device& device) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const gmem::UniqueFd stop(signalfd(-1, &signals, SFD_CLOEXEC));
  if (!stop) return absl::ErrnoToStatus(errno, "can't wait for signals");
  if (absl::Status status = gmem::vhost::SurviveSigbus(); !status.ok()) return status;

  absl::StatusOr<gmem::vhost::Listener> listener = gmem::vhost::Listener::Create(socket);
  if (!listener.ok()) return listener.status();
  absl::StatusOr<gmem::vhost::Server> server =
      gmem::vhost::Server::Create(*std::move(listener), device);
  if (!server.ok()) return server.status();
  server->set_session_end([program](const absl::Status& status) {
    if (gmem::GetErrno(status) != ECONNRESET) tools::PrintError(program, status.message());
  });
  return server->Run(stop.get());
}
