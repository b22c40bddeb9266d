// Threads that work through one job in phases.
#pragma once

#include <functional>

namespace ssa::cpu {

/// One thread's place in the team that runs a job.
class Team {
 public:
  int rank = 0;
  int size = 1;
  /// Waits until all of the team are here.
  void barrier() const;
  /// This thread's share of n items, about as many for each: [begin, end).
  template <class Fn>
  void share(int64_t n, const Fn& fn) const {
    for (int64_t i = n * rank / size; i < n * (rank + 1) / size; ++i) {
      fn(i);
    }
  }
};

/// Runs the job on up to n_threads threads of OpenMP, the pool that LibTorch uses too, and waits.
/// Inside a parallel region the team is the calling thread alone. The job must not throw.
void run_team(int n_threads, const std::function<void(const Team&)>& job);

}  // namespace ssa::cpu
