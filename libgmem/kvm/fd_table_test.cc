// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/fd_table.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"

namespace gmem::kvm {
namespace {

using testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

UniqueFd NewFile(const std::string& content) {
  UniqueFd fd(memfd_create("file", MFD_CLOEXEC));
  EXPECT_EQ(write(fd.get(), content.data(), content.size()), content.size());
  return fd;
}

ino_t Inode(int fd) {
  struct stat stat = {};
  EXPECT_EQ(fstat(fd, &stat), 0) << fd;
  return stat.st_ino;
}

class FakeEnvironment {
 public:
  explicit FakeEnvironment(std::map<std::string, std::string> variables)
      : variables_(std::move(variables)) {}
  const char* operator()(const char* name) const {
    const auto variable = variables_.find(name);
    return variable == variables_.end() ? nullptr : variable->second.c_str();
  }

 private:
  std::map<std::string, std::string> variables_;
};

absl::StatusOr<FdTable> Inherit(std::map<std::string, std::string> variables) {
  return FdTable::Inherit(FakeEnvironment(std::move(variables)));
}

TEST(KvmFdTableTest, SavesDuplicatesUnderNames) {
  const UniqueFd file = NewFile("one");
  FdTable table;
  ASSERT_TRUE(table.Save("ram0", file.get()).ok());
  EXPECT_EQ(table.size(), 1);
  EXPECT_NE(table.Find("ram0"), file.get());
  EXPECT_EQ(Inode(table.Find("ram0")), Inode(file.get()));
  EXPECT_EQ(table.Find("ram1"), -1);
  EXPECT_EQ(fcntl(table.Find("ram0"), F_GETFD), FD_CLOEXEC);

  const UniqueFd taken = *table.Take("ram0");
  EXPECT_EQ(Inode(taken.get()), Inode(file.get()));
  EXPECT_EQ(table.size(), 0);
  const absl::Status again = table.Take("ram0").status();
  EXPECT_EQ(again.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(again), HasSubstr("\"ram0\""));
}

TEST(KvmFdTableTest, NamesAreUnique) {
  FdTable table;
  ASSERT_TRUE(table.Save("ram", 0).ok());
  EXPECT_EQ(table.Save("ram", 0).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(table.size(), 1);
}

TEST(KvmFdTableTest, NamesFollowSystemdsRule) {
  FdTable table;
  for (const std::string& name :
       {std::string(), std::string("a:b"), std::string("a\nb"), std::string("\x7f"),
        std::string("\xc3\xa4"), std::string(256, 'a'), std::string("a\0b", 3)}) {
    const absl::Status status = table.Save(name, 0);
    EXPECT_EQ(GetErrno(status), EINVAL) << name;
  }
  EXPECT_EQ(table.size(), 0);
  EXPECT_TRUE(table.Save(std::string(255, 'a'), 0).ok());
  EXPECT_TRUE(table.Save("a b=c", 0).ok());
}

TEST(KvmFdTableTest, RefusesToSaveAClosedDescriptor) {
  FdTable table;
  EXPECT_EQ(GetErrno(table.Save("ram", 1 << 20)), EBADF);
  EXPECT_EQ(GetErrno(table.Save("ram", -1)), EBADF);
}

// Inherit() reads the string that PrepareExec() wrote. A name may contain '='.
TEST(KvmFdTableTest, InheritsPreparedDescriptors) {
  const UniqueFd one = NewFile("one");
  const UniqueFd two = NewFile("two");
  FdTable table;
  ASSERT_TRUE(table.Save("ram0", one.get()).ok());
  ASSERT_TRUE(table.Save("a=b", two.get()).ok());
  const std::string variable = *table.PrepareExec();
  ASSERT_EQ(variable, absl::StrCat("GMEM_FDS=", getpid(), ":", table.Find("ram0"),
                                   "=ram0:", table.Find("a=b"), "=a=b"));
  EXPECT_EQ(fcntl(table.Find("ram0"), F_GETFD), 0);
  EXPECT_EQ(fcntl(table.Find("a=b"), F_GETFD), 0);

  // Release the numbers, so that the second table owns them, as in a new program.
  const int first = table.Take("ram0")->release();
  const int second = table.Take("a=b")->release();
  const FdTable inherited = *Inherit({{"GMEM_FDS", variable.substr(9)}});
  EXPECT_EQ(inherited.size(), 2);
  EXPECT_EQ(inherited.Find("ram0"), first);
  EXPECT_EQ(inherited.Find("a=b"), second);
  EXPECT_EQ(fcntl(first, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(second, F_GETFD), FD_CLOEXEC);
}

TEST(KvmFdTableTest, CancelExec) {
  FdTable table;
  ASSERT_TRUE(table.Save("ram", 0).ok());
  ASSERT_TRUE(table.PrepareExec().ok());
  EXPECT_EQ(fcntl(table.Find("ram"), F_GETFD), 0);
  ASSERT_TRUE(table.CancelExec().ok());
  EXPECT_EQ(fcntl(table.Find("ram"), F_GETFD), FD_CLOEXEC);
}

TEST(KvmFdTableTest, SurvivesExec) {
  FdTable table;
  ASSERT_TRUE(table.Save("ram", NewFile("kept").get()).ok());
  std::array<int, 2> ends;
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    dup2(out.get(), STDOUT_FILENO);
    std::string variable = *table.PrepareExec();
    char* const environment[] = {variable.data(), nullptr};
    // $$ is the shell's own process ID.
    execle("/bin/sh", "sh", "-c",
           "list=${GMEM_FDS#$$:}; cat /dev/fd/${list%%=*}; echo \" ${list#*=}\"", nullptr,
           environment);
    _exit(127);
  }
  out.reset();
  std::array<char, 64> text;
  const ssize_t length = read(in.get(), text.data(), text.size());
  std::string all(text.data(), length > 0 ? static_cast<size_t>(length) : 0);
  for (;;) {
    const ssize_t more = read(in.get(), text.data(), text.size());
    if (more <= 0) break;
    all.append(text.data(), static_cast<size_t>(more));
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(all, "kept ram\n");
}

TEST(KvmFdTableTest, NothingToInherit) {
  EXPECT_EQ(Inherit({})->size(), 0);
  EXPECT_EQ(Inherit({{"GMEM_FDS", ""}})->size(), 0);
  EXPECT_EQ(
      Inherit({{"LISTEN_PID", absl::StrCat(getpid())}, {"LISTEN_FDS", "0"}, {"LISTEN_FDNAMES", ""}})
          ->size(),
      0);
  EXPECT_EQ(Inherit({{"GMEM_FDS", absl::StrCat(getpid(), ":")}})->size(), 0);
  // These are for the process that started this one.
  EXPECT_EQ(Inherit({{"LISTEN_PID", "1"}, {"LISTEN_FDS", "2"}})->size(), 0);
}

// A child inherits the variable from its parent, but has other descriptors under these numbers.
TEST(KvmFdTableTest, IgnoresVariablesForAnotherProcess) {
  UniqueFd file(fcntl(NewFile("").get(), F_DUPFD, 3));
  FdTable table;
  const int fd = file.get();
  ASSERT_TRUE(table.Adopt("ram", std::move(file)).ok());
  const std::string variable = table.PrepareExec()->substr(sizeof("GMEM_FDS"));
  ASSERT_EQ(fcntl(fd, F_GETFD), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    bool ok = false;
    {
      const auto inherited = Inherit({{"GMEM_FDS", variable}});
      ok = inherited.ok() && inherited->size() == 0;
    }
    _exit(ok && fcntl(fd, F_GETFD) == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(KvmFdTableTest, AdoptsUnderTheSameNumber) {
  UniqueFd file(fcntl(NewFile("").get(), F_DUPFD, 3));
  const int fd = file.get();
  FdTable table;
  ASSERT_TRUE(table.Adopt("ram", std::move(file)).ok());
  EXPECT_EQ(table.Find("ram"), fd);
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(*table.PrepareExec(), absl::StrCat("GMEM_FDS=", getpid(), ":", fd, "=ram"));
}

TEST(KvmFdTableTest, ClosesADescriptorThatItCantAdopt) {
  FdTable table;
  ASSERT_TRUE(table.Adopt("ram", NewFile("")).ok());
  for (const auto& [name, error] : {std::pair("ram", EEXIST), std::pair("a:b", EINVAL)}) {
    UniqueFd file = NewFile("");
    const int fd = file.get();
    EXPECT_EQ(GetErrno(table.Adopt(name, std::move(file))), error);
    EXPECT_EQ(fcntl(fd, F_GETFD), -1) << name;
  }
  EXPECT_EQ(GetErrno(table.Adopt("none", UniqueFd())), EBADF);
  EXPECT_EQ(table.size(), 1);
}

// Runs in a child, which doesn't need its standard input.
TEST(KvmFdTableTest, RefusesToAdoptStandardDescriptors) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    dup2(NewFile("").get(), STDIN_FILENO);
    FdTable table;
    const absl::Status status = table.Adopt("in", UniqueFd(STDIN_FILENO));
    _exit(GetErrno(status) == EINVAL && Message(status).find("descriptor 0,") == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(KvmFdTableTest, FailedPreparationLeavesNothingInheritable) {
  UniqueFd first = NewFile("");
  UniqueFd second = NewFile("");
  const int first_fd = first.get();
  const int second_fd = second.get();
  FdTable table;
  ASSERT_TRUE(table.Adopt("first", std::move(first)).ok());
  ASSERT_TRUE(table.Adopt("second", std::move(second)).ok());
  // Close a descriptor behind the table's back.
  ASSERT_EQ(close(second_fd), 0);
  EXPECT_EQ(GetErrno(table.PrepareExec().status()), EBADF);
  EXPECT_EQ(fcntl(first_fd, F_GETFD), FD_CLOEXEC);
  (void)table.Take("second")->release();
}

TEST(KvmFdTableTest, RefusesInvalidVariables) {
  const UniqueFd file = NewFile("");
  const std::string fd = absl::StrCat(file.get());
  for (const std::string& value :
       {std::string("ram"), std::string("=ram"), std::string("x=ram"), std::string("-1=ram"), fd,
        absl::StrCat(fd, "="), absl::StrCat(fd, "=ram:", fd, "=rom"), std::string("0=ram"),
        std::string("1048576=ram"), std::string("99999999999=ram")}) {
    const std::string variable = absl::StrCat(getpid(), ":", value);
    EXPECT_EQ(GetErrno(Inherit({{"GMEM_FDS", variable}}).status()), EINVAL) << variable;
  }
  for (const std::string& value :
       {fd + "=ram", std::string("ram"), std::string(":"), ":" + fd + "=ram"}) {
    const absl::Status status = Inherit({{"GMEM_FDS", value}}).status();
    EXPECT_THAT(Message(status), HasSubstr("process ID")) << value;
  }
  EXPECT_EQ(fcntl(file.get(), F_GETFD), FD_CLOEXEC) << "was closed";

  const std::string pid = absl::StrCat(getpid());
  EXPECT_EQ(GetErrno(Inherit({{"LISTEN_PID", "me"}, {"LISTEN_FDS", "1"}}).status()), EINVAL);
  for (const char* count : {"-1", "many", "2147483647"}) {
    EXPECT_EQ(GetErrno(Inherit({{"LISTEN_PID", pid}, {"LISTEN_FDS", count}}).status()), EINVAL);
  }
  EXPECT_THAT(
      Message(
          Inherit({{"LISTEN_PID", pid}, {"LISTEN_FDS", "1"}, {"LISTEN_FDNAMES", "a:b"}}).status()),
      HasSubstr("it needs as many names as there are descriptors: 1"));
}

// Runs in a child, where the test can choose what descriptors 3 and 4 are.
TEST(KvmFdTableTest, InheritsFromTheServiceManager) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const UniqueFd file = NewFile("");
    const ino_t inode = Inode(file.get());
    dup2(file.get(), 3);
    dup2(file.get(), 4);
    const std::string pid = absl::StrCat(getpid());
    auto named = Inherit({{"LISTEN_PID", pid}, {"LISTEN_FDS", "2"}, {"LISTEN_FDNAMES", "x:ram"}});
    bool ok = named.ok() && named->Find("x") == 3 && named->Find("ram") == 4 &&
              fcntl(4, F_GETFD) == FD_CLOEXEC && Inode(named->Find("ram")) == inode;
    (void)named->Take("x")->release();
    (void)named->Take("ram")->release();
    auto unnamed = Inherit({{"LISTEN_PID", pid}, {"LISTEN_FDS", "1"}});
    ok = ok && unnamed.ok() && unnamed->Find("unknown") == 3;
    (void)unnamed->Take("unknown")->release();
    auto empty = Inherit({{"LISTEN_PID", pid}, {"LISTEN_FDS", "2"}, {"LISTEN_FDNAMES", ":ram"}});
    ok = ok && empty.ok() && empty->Find("unknown") == 3 && empty->Find("ram") == 4;
    _exit(ok ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// exec() keeps the process ID, so LISTEN_PID still matches, although the program may have closed
// the descriptors.
TEST(KvmFdTableTest, HandedOnByAProgramThatTheServiceManagerRan) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const UniqueFd file = NewFile("");
    dup2(file.get(), 4);
    close(3);
    const std::string pid = absl::StrCat(getpid());
    const auto inherit = [&pid] {
      return Inherit({{"LISTEN_PID", pid},
                      {"LISTEN_FDS", "2"},
                      {"LISTEN_FDNAMES", "x:old"},
                      {"GMEM_FDS", pid + ":4=ram"}});
    };
    auto kept = inherit();
    bool ok = kept.ok() && kept->size() == 1 && kept->Find("ram") == 4;
    if (ok) (void)kept->Take("ram")->release();
    dup2(4, 3);
    auto both = inherit();
    ok = ok && both.ok() && both->size() == 2 && both->Find("ram") == 4 && both->Find("x") == 3;
    _exit(ok ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace gmem::kvm
