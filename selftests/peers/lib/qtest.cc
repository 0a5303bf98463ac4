// SPDX-License-Identifier: MIT OR Apache-2.0
#include "lib/qtest.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"

namespace gmem::vhost::peers {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(60);
// Call idle_ at least this often.
constexpr int kIdleMs = 1;

absl::string_view Suffix(int size) { return size == 1 ? "b" : size == 2 ? "w" : "l"; }

uint64_t Number(const std::string& text) { return strtoull(text.c_str(), nullptr, 0); }

absl::string_view AsText(absl::Span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Qtest>> Qtest::Connect(const std::string& path, Idle idle) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  for (const absl::Time deadline = absl::Now() + kTimeout; absl::Now() < deadline;) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
      return std::unique_ptr<Qtest>(new Qtest(std::move(socket), std::move(idle)));
    }
    if (idle) idle();
    absl::SleepFor(absl::Milliseconds(5));
  }
  return absl::UnavailableError(absl::StrCat("QEMU doesn't listen at ", path));
}

absl::StatusOr<std::string> Qtest::ReadLine() {
  const absl::Time deadline = absl::Now() + kTimeout;
  while (true) {
    if (const size_t end = input_.find('\n'); end != std::string::npos) {
      std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      return line;
    }
    if (absl::Now() > deadline) return absl::DeadlineExceededError("QEMU doesn't answer");
    pollfd ready = {.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, kIdleMs) == 0) {
      if (idle_) idle_();
      continue;
    }
    std::array<char, 4096> buffer;
    const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got <= 0) return absl::UnavailableError("QEMU is gone");
    input_.append(buffer.data(), static_cast<size_t>(got));
  }
}

absl::StatusOr<std::string> Qtest::Command(absl::string_view line) {
  const std::string sent = absl::StrCat(line, "\n");
  if (send(socket_.get(), sent.data(), sent.size(), MSG_NOSIGNAL) < 0) {
    return absl::UnavailableError("QEMU is gone");
  }
  while (true) {
    const absl::StatusOr<std::string> answer = ReadLine();
    if (!answer.ok()) return answer.status();
    absl::string_view rest = *answer;
    if (absl::ConsumePrefix(&rest, "OK")) {
      absl::ConsumePrefix(&rest, " ");
      return std::string(rest);
    }
    // Messages about interrupts may come before the answer.
    if (!absl::ConsumePrefix(&rest, "IRQ ")) {
      return absl::InternalError(absl::StrCat("QEMU answers ", line, " with ", *answer));
    }
  }
}

absl::StatusOr<uint32_t> Qtest::Read(uint64_t address, int size) {
  GMEM_ASSIGN_OR_RETURN(const std::string value,
                        Command(absl::StrCat("read", Suffix(size), " ", address)));
  return static_cast<uint32_t>(Number(value));
}

absl::Status Qtest::Write(uint64_t address, uint32_t value, int size) {
  return Command(absl::StrCat("write", Suffix(size), " ", address, " ", value)).status();
}

absl::StatusOr<std::vector<uint8_t>> Qtest::ReadBytes(uint64_t address, size_t size) {
  GMEM_ASSIGN_OR_RETURN(const std::string hex, Command(absl::StrCat("read ", address, " ", size)));
  absl::string_view digits = hex;
  absl::ConsumePrefix(&digits, "0x");
  const std::string bytes = absl::HexStringToBytes(digits);
  return std::vector<uint8_t>(bytes.begin(), bytes.end());
}

absl::Status Qtest::WriteBytes(uint64_t address, absl::Span<const uint8_t> bytes) {
  return Command(absl::StrCat("write ", address, " ", bytes.size(), " 0x",
                              absl::BytesToHexString(AsText(bytes))))
      .status();
}

absl::StatusOr<uint32_t> Qtest::In(uint16_t port) {
  GMEM_ASSIGN_OR_RETURN(const std::string value, Command(absl::StrCat("inl ", port)));
  return static_cast<uint32_t>(Number(value));
}

absl::Status Qtest::Out(uint16_t port, uint32_t value) {
  return Command(absl::StrCat("outl ", port, " ", value)).status();
}

}  // namespace gmem::vhost::peers
