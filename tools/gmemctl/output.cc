// SPDX-License-Identifier: MIT OR Apache-2.0
#include "output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "flags.h"
#include "gmem/monitor.h"
#include "gmem/unique_fd.h"
#include "nlohmann/json.hpp"

namespace gmemctl {
namespace {

bool WantsPretty() { return absl::GetFlag(FLAGS_p) || absl::GetFlag(FLAGS_pretty); }

absl::Status WriteAll(int fd, absl::string_view contents) {
  while (!contents.empty()) {
    const ssize_t written = write(fd, contents.data(), contents.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return absl::ErrnoToStatus(errno, "");
    contents.remove_prefix(static_cast<size_t>(written));
  }
  // The exporter must be able to read the file, and the contents must be on disk before the rename.
  if (fchmod(fd, 0644) != 0 || fsync(fd) != 0) return absl::ErrnoToStatus(errno, "");
  return absl::OkStatus();
}

// Blocks the signals that end a process, for the lifetime of the object.
class SignalsWait {
 public:
  SignalsWait() {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before_);
  }
  ~SignalsWait() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  SignalsWait(const SignalsWait&) = delete;
  SignalsWait& operator=(const SignalsWait&) = delete;

 private:
  sigset_t before_ = {};
};

}  // namespace

bool WantsJson() { return absl::GetFlag(FLAGS_j) || absl::GetFlag(FLAGS_json) || WantsPretty(); }

void PrintJson(const Json& value) {
  // Another user may have chosen a text, such as the name of a process: replace what isn't UTF-8,
  // and escape what isn't ASCII, since a terminal obeys control characters.
  std::cout << value.dump(WantsPretty() ? 4 : -1, ' ', /*ensure_ascii=*/true,
                          Json::error_handler_t::replace)
            << std::endl;
}

std::string NameText(absl::string_view name) {
  return name.empty() ? std::string() : absl::StrCat(" \"", absl::CHexEscape(name), "\"");
}

absl::string_view ModeName(gmem::MapMode mode) {
  return mode == gmem::MapMode::kShare ? "share" : "lend";
}

std::string PermissionText(bool read, bool write, bool execute) {
  return {read ? 'r' : '-', write ? 'w' : '-', execute ? 'x' : '-'};
}

std::string BindingText(const gmem::Binding& binding, const std::string& memory_name) {
  std::string text = absl::StrFormat(
      "  0x%012x-0x%012x %-5s %s guestmem %d%s offset 0x%x", binding.range.start.value(),
      binding.range.end().value() - 1, ModeName(binding.mode),
      PermissionText(binding.read, binding.write, binding.execute), binding.memory_id,
      NameText(memory_name), binding.offset.value());
  if (binding.policy) absl::StrAppend(&text, ", policy ", gmem::ToString(*binding.policy));
  return text;
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view contents) {
  // A signal now would leave the temporary file behind.
  const SignalsWait signals_wait;
  std::string temporary = absl::StrCat(path, ".XXXXXX");
  gmem::UniqueFd fd(mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) {
    return absl::ErrnoToStatus(errno, absl::StrCat("can't create a file beside ", path));
  }
  absl::Status status = WriteAll(fd.get(), contents);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, "");
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return absl::Status(status.code(), absl::StrCat("can't write ", path, status.message()));
  }
  return absl::OkStatus();
}

Json ToJson(const gmem::VmState& vm) {
  Json details = Json::object();
  for (const gmem::VmDetail& detail : vm.details) {
    if (detail.name == kLabel) {
      details["labels"].push_back(detail.value);
    } else {
      details[detail.name] = detail.value;
    }
  }
  Json json = {{"id", vm.id},
               {"name", vm.name},
               {"provider", vm.provider},
               {"policy", std::string(gmem::ToString(vm.policy))},
               {"guest_addr_bits", vm.guest_address_bits}};
  if (vm.windows) json["window_kind"] = std::string(gmem::ToString(*vm.windows));
  json.update({{"pid", vm.pid},
               {"comm", vm.command},
               {"bindings", vm.bindings},
               {"lent_pages", vm.lent_pages},
               {"refused", vm.refused},
               {"details", std::move(details)}});
  return json;
}

Json ToJson(const gmem::Binding& binding, const std::string& memory_name) {
  Json json = {{"guest_addr", binding.range.start.value()},
               {"length", binding.range.size.value()},
               {"mem_id", binding.memory_id},
               {"mem_name", memory_name},
               {"offset", binding.offset.value()},
               {"mode", std::string(ModeName(binding.mode))},
               {"access", PermissionText(binding.read, binding.write, binding.execute)}};
  if (binding.policy) json["policy"] = std::string(gmem::ToString(*binding.policy));
  return json;
}

Json ToJson(const gmem::PageCounts& pages) {
  return {{"absent", pages.absent},
          {"host", pages.host},
          {"lent", pages.lent},
          {"shared", pages.shared},
          {"leaked", pages.leaked}};
}

Json ToJson(const gmem::GuestMemoryState& memory) {
  return {{"id", memory.id},
          {"name", memory.name},
          {"size", memory.size.value()},
          {"page_size", memory.page_size.value()},
          {"pages", ToJson(memory.pages)}};
}

Json ToJson(const gmem::WindowState& window) {
  return {{"id", window.id},
          {"name", window.name},
          {"vm_id", window.vm_id},
          {"guest_addr", window.range.start.value()},
          {"length", window.range.size.value()},
          {"read_only", window.read_only},
          {"discard", window.allow_discard},
          {"pid", window.pid}};
}

Json ToJson(const gmem::ViewState& view) {
  return {{"id", view.id},
          {"name", view.name},
          {"mem_id", view.memory_id},
          {"offset", view.range.start.value()},
          {"length", view.range.size.value()},
          {"read_only", view.read_only},
          {"revoked", view.revoked},
          {"pid", view.pid}};
}

Json ToJson(const gmem::DeviceStats& stats) {
  return {{"vms", stats.vms},
          {"mems", stats.guest_memories},
          {"bindings", stats.bindings},
          {"lent_pages", stats.lent_pages},
          {"leaked_pages", stats.leaked_pages},
          {"lends", stats.lends},
          {"reclaims", stats.reclaims},
          {"refused", stats.refused}};
}

Json ToJson(const gmem::Event& event) {
  Json json = {{"event", std::string(gmem::ToString(event.type))}};
  if (event.sequence != 0) json["seq"] = event.sequence;
  if (event.vm_id != 0) json["vm_id"] = event.vm_id;
  if (event.guest_address) json["guest_addr"] = event.guest_address->value();
  if (event.size.value() != 0) json["length"] = event.size.value();
  if (event.memory_id) json["mem_id"] = *event.memory_id;
  if (event.offset) json["offset"] = event.offset->value();
  if (event.window_id != 0) json["window_id"] = event.window_id;
  if (event.view_id != 0) json["view_id"] = event.view_id;
  if (event.window_kind) json["window_kind"] = std::string(gmem::ToString(*event.window_kind));
  if (!event.name.empty()) json["name"] = event.name;
  if (event.access) {
    if (event.access->mode != gmem::MapMode::kDefault) {
      json["mode"] = std::string(ModeName(event.access->mode));
    }
    json["access"] = PermissionText(event.access->read, event.access->write, event.access->execute);
  }
  if (event.cause) json["cause"] = std::string(gmem::ToString(*event.cause));
  if (event.error != 0) {
    const char* const name = strerrorname_np(event.error);
    json["error"] = name != nullptr ? std::string(name) : std::to_string(event.error);
  }
  if (event.reason) json["reason"] = std::string(gmem::ToString(*event.reason));
  if (event.count != 0) json["count"] = event.count;
  if (event.type == gmem::EventType::kGap || event.type == gmem::EventType::kOverrun) {
    json["lost"] = event.lost;
  }
  return json;
}

}  // namespace gmemctl
