// SPDX-License-Identifier: MIT OR Apache-2.0
#include "command.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "base/text.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "guest.h"

namespace broker {
namespace {

using Words = absl::Span<const absl::string_view>;

absl::StatusOr<uint64_t> ParseNumber(absl::string_view text) {
  uint64_t value = 0;
  std::string error;
  if (ParseBytes(text, &value, &error)) return value;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\": ", error));
}

absl::StatusOr<gmem::GuestRange> ParseRange(Words words) {
  if (words.size() != 2) return absl::InvalidArgumentError("give an address and a size");
  const absl::StatusOr<uint64_t> start = ParseNumber(words[0]);
  if (!start.ok()) return start.status();
  const absl::StatusOr<uint64_t> size = ParseNumber(words[1]);
  if (!size.ok()) return size.status();
  return gmem::GuestRange{gmem::GuestAddress(*start), gmem::ByteSize(*size)};
}

// The result of a call that counts pages, as the text of an answer.
absl::StatusOr<std::string> Pages(const absl::StatusOr<uint64_t>& pages, absl::string_view done) {
  if (!pages.ok()) return pages.status();
  return absl::StrCat("ok: ", tools::Counted(*pages, "page"), " ", done);
}

absl::StatusOr<std::string> Plain(const absl::Status& status) {
  if (!status.ok()) return status;
  return std::string(kOk);
}

absl::StatusOr<std::string> RunBind(const Guest& guest, Words words) {
  auto mode = gmem::MapMode::kLend;
  bool writable = true;
  while (words.size() > 2) {
    if (words.back() == "share") {
      mode = gmem::MapMode::kShare;
    } else if (words.back() == "read-only") {
      writable = false;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", words.back(), "\" is neither \"share\" nor \"read-only\""));
    }
    words.remove_suffix(1);
  }
  const absl::StatusOr<gmem::GuestRange> range = ParseRange(words);
  if (!range.ok()) return range.status();
  return Plain(guest.Bind(*range, mode, writable));
}

absl::StatusOr<std::string> Run(Guest& guest, absl::string_view name, Words words) {
  if (name == "bind") return RunBind(guest, words);
  if (name == "status") {
    if (!words.empty()) return absl::InvalidArgumentError("status takes no argument");
    const absl::StatusOr<std::string> text = guest.Describe();
    if (!text.ok()) return text.status();
    return absl::StrCat(*text, kOk);
  }
  if (name == "prefetch") {
    if (!words.empty()) return absl::InvalidArgumentError("prefetch takes no argument");
    return Plain(guest.Prefetch());
  }
  if (name == "save") {
    if (words.size() != 1) return absl::InvalidArgumentError("save takes the path of a file");
    return Plain(guest.Save(std::string(words[0])));
  }
  if (name != "unbind" && name != "trim" && name != "reclaim") {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no command \"", absl::CHexEscape(name),
                     "\", but bind, unbind, trim, reclaim, save, prefetch and status"));
  }
  const absl::StatusOr<gmem::GuestRange> range = ParseRange(words);
  if (!range.ok()) return range.status();
  if (name == "unbind") return Pages(guest.Unbind(*range), "unbound");
  if (name == "reclaim") return Pages(guest.Reclaim(*range), "taken back");
  return Plain(guest.Trim(*range));
}

}  // namespace

std::string RunCommand(Guest& guest, absl::string_view line) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  if (words.empty()) return absl::StrCat(kError, "the command is missing\n");
  const absl::StatusOr<std::string> answer = Run(guest, words[0], Words(words).subspan(1));
  if (!answer.ok()) return absl::StrCat(kError, answer.status().message(), "\n");
  return absl::StrCat(*answer, "\n");
}

}  // namespace broker
