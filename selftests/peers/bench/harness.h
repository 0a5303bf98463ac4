// SPDX-License-Identifier: MIT OR Apache-2.0
// Shared by the parts of the benchmark: samples, rows of the table, and the heap's count.
#ifndef GMEM_SELFTESTS_PEERS_BENCH_HARNESS_H_
#define GMEM_SELFTESTS_PEERS_BENCH_HARNESS_H_

#include <sched.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gmem::vhost::peers {

/// Times of the same work, in microseconds.
class Samples {
 public:
  /// Runs @p work @p count times, and adds one sample: the mean time of one operation. Each call of
  /// @p work does @p per operations.
  template <typename Work>
  void Time(int count, Work&& work, int per = 1) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < count; i++) work();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    Add(took.count() / count / per);
  }
  void Add(double microseconds) { values_.push_back(microseconds); }
  double Median() const;

 private:
  std::vector<double> values_;
};

enum Direction { kAtMost, kAtLeast, kNoGoal };

/// Prints the head of the table.
void Header();
/// Prints a row: both medians and their ratio. For a goal with kAtLeast, the ratio is theirs to
/// ours ("faster by"), otherwise ours to theirs.
void Row(const char* name, const Samples& ours, const Samples& theirs,
         Direction direction = kNoGoal, double goal = 0);
/// Prints a row with one number.
void Value(const char* name, double value, const char* unit, Direction direction = kNoGoal,
           double goal = 0);
/// Prints a row that says why there is no result.
void NotMeasured(const char* name, const char* why);

/// Keeps this process, and the peers that it starts, on one CPU. The time of a round trip is then
/// the time that the two processes need for their work. On several CPUs, the time to wake up a CPU
/// may come on top. It depends on where the scheduler puts the two: a threefold difference.
class OneCpu {
 public:
  OneCpu();
  OneCpu(const OneCpu&) = delete;
  OneCpu& operator=(const OneCpu&) = delete;
  ~OneCpu();

 private:
  cpu_set_t before_;
};

/// The number of bytes that this process has allocated from the heap so far.
uint64_t AllocatedBytes();

// The parts of the benchmark. Each prints its rows.
void BenchCodec();
void BenchAllocations();
void BenchShmem();
void BenchBlock(const char* our_device);

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_PEERS_BENCH_HARNESS_H_
