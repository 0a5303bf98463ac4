// SPDX-License-Identifier: MIT OR Apache-2.0
// Compares the vhost-user part of the library with other implementations. A row is the ratio of
// two medians: one run measures both sides alternately. Prints every row, even one that misses its
// goal.
//
//   vhost_bench [PART]...    codec, heap, shmem, block; the default is all
//
// Environment variables: GMEM_PEERS is the path of selftests/runner/peers, GMEM_TOOLS is the folder
// of gmem-vhost-blk.
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "bench/harness.h"

namespace {

std::atomic<uint64_t> allocated = 0;

}  // namespace

// The C library's own functions, under the names that remain when a program replaces them.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* pointer, size_t size);

void* malloc(size_t size) {
  allocated += size;
  return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
  allocated += count * size;
  return __libc_calloc(count, size);
}

void* realloc(void* pointer, size_t size) {
  allocated += size;
  return __libc_realloc(pointer, size);
}
}

namespace gmem::vhost::peers {
namespace {

void PrintGoal(double value, Direction direction, double goal) {
  if (direction == kNoGoal) {
    std::printf("\n");
    return;
  }
  const bool is_met = direction == kAtMost ? value <= goal : value >= goal;
  std::printf("  %s%5.2f %s\n", direction == kAtMost ? "<=" : ">=", goal,
              is_met ? "met" : "MISSED");
}

}  // namespace

OneCpu::OneCpu() {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  if (sched_getaffinity(0, sizeof(before_), &before_) != 0 ||
      sched_setaffinity(0, sizeof(one), &one) != 0) {
    perror("can't choose a CPU");
    exit(1);
  }
}

OneCpu::~OneCpu() { sched_setaffinity(0, sizeof(before_), &before_); }

uint64_t AllocatedBytes() { return allocated; }

double Samples::Median() const {
  std::vector<double> sorted = values_;
  const auto middle = sorted.begin() + static_cast<ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

void Header() {
  std::printf("%-48s %10s %10s %7s  goal\n", "row (medians)", "gmem", "other", "ratio");
}

void Row(const char* name, const Samples& ours, const Samples& theirs, Direction direction,
         double goal) {
  const double mine = ours.Median();
  const double other = theirs.Median();
  const double ratio = direction == kAtLeast ? other / mine : mine / other;
  std::printf("%-48s %8.2fus %8.2fus %6.2fx", name, mine, other, ratio);
  PrintGoal(ratio, direction, goal);
  std::fflush(stdout);
}

void Value(const char* name, double value, const char* unit, Direction direction, double goal) {
  std::printf("%-48s %8.2f%-2s %18s", name, value, unit, "");
  PrintGoal(value, direction, goal);
  std::fflush(stdout);
}

void NotMeasured(const char* name, const char* why) {
  std::printf("%-48s not measured: %s\n", name, why);
}

}  // namespace gmem::vhost::peers

int main(int argc, char** argv) {
  using namespace gmem::vhost::peers;  // NOLINT: one program's own parts
  const std::vector<std::string_view> parts(argv + 1, argv + argc);
  const auto wanted = [&parts](std::string_view part) {
    return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end();
  };
  const char* const tools = getenv("GMEM_TOOLS");
  const std::string device = std::string(tools == nullptr ? "." : tools) + "/gmem-vhost-blk";
  Header();
  if (wanted("codec")) BenchCodec();
  if (wanted("heap")) BenchAllocations();
  if (wanted("shmem")) BenchShmem();
  if (wanted("block")) BenchBlock(device.c_str());
  return 0;
}
