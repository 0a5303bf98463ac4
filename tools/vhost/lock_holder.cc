// SPDX-License-Identifier: MIT OR Apache-2.0
#include "lock_holder.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace {

namespace fs = std::filesystem;

// Has the process a descriptor whose open file holds a lock on the file @name ("08:01:1234")?
bool Holds(const fs::path& process, const std::string& name) {
  std::error_code error;
  for (fs::directory_iterator entry(process / "fdinfo", error); !error && entry != fs::end(entry);
       entry.increment(error)) {
    std::ifstream info(entry->path());
    for (std::string line; std::getline(info, line);) {
      if (absl::StartsWith(line, "lock:") &&
          absl::StrContains(line, absl::StrCat(" ", name, " "))) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace

std::string LockHolder(int fd) {
  struct stat info = {};
  if (fstat(fd, &info) != 0) return "another process";
  const std::string name =
      absl::StrFormat("%02x:%02x:%d", major(info.st_dev), minor(info.st_dev), info.st_ino);
  std::error_code error;
  for (fs::directory_iterator entry("/proc", error); !error && entry != fs::end(entry);
       entry.increment(error)) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry->path().filename().string(), &pid) || pid == getpid() ||
        !Holds(entry->path(), name)) {
      continue;
    }
    std::string command;
    std::getline(std::ifstream(entry->path() / "comm"), command);
    return absl::StrCat("process ", pid, " (", command, ")");
  }
  return "another process";
}
