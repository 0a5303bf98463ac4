// SPDX-License-Identifier: Apache-2.0
// What the parts of the benchmark share: samples, rows of the table, and the heap's count.
#ifndef GMEM_SELFTESTS_VHOST_BENCH_H_
#define GMEM_SELFTESTS_VHOST_BENCH_H_

#include <sched.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gmem::vhost::peers {

/// Times of the same work, in microseconds.
class Samples {
 public:
  /// Adds one sample: the mean of @p count times @p work, which does @p per things.
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
/// Prints how long both took by their medians, and the ratio: ours to theirs if the goal
/// is at most some number, theirs to ours ("faster by") if it is at least.
void Row(const char* name, const Samples& ours, const Samples& theirs,
         Direction direction = kNoGoal, double goal = 0);
/// Prints one number.
void Value(const char* name, double value, const char* unit, Direction direction = kNoGoal,
           double goal = 0);
/// Prints why a row can't be there.
void NotMeasured(const char* name, const char* why);

/// Keeps this process, and the peers that it starts meanwhile, on one CPU. A round trip then
/// takes what the two do for it. On several it takes that and the time until a CPU has woken
/// up, or not: where the scheduler happens to put the two makes a threefold difference.
class OneCpu {
 public:
  OneCpu();
  OneCpu(const OneCpu&) = delete;
  OneCpu& operator=(const OneCpu&) = delete;
  ~OneCpu();

 private:
  cpu_set_t before_;
};

/// Bytes that this process has asked the heap for until now.
uint64_t AllocatedBytes();

// The parts.
void BenchCodec();
void BenchAllocations();
void BenchShmem();
void BenchBlock(const char* our_device);

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_VHOST_BENCH_H_
