// Loops by one team of threads, of which a later one needs all of an earlier one.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <thread>

namespace ssa {

/// Calls prepare(begin, end) over [0, n_prepare), work(begin, end) over [0, n_work), and, once all
/// of the first is done, finish(begin, end) over what the same thread worked on: one start of
/// threads instead of three. Nobody waits long, as the first loop comes first in every thread.
/// `grain`: fewest calls' worth that a thread is started for. None of the three may throw.
template <class Prepare, class Work, class Finish>
void chained_loops(int64_t n_prepare,
                   int64_t n_work,
                   int64_t grain,
                   const Prepare& prepare,
                   const Work& work,
                   const Finish& finish) {
  std::atomic<int64_t> left = n_prepare;
  at::parallel_for(0, n_prepare + n_work, grain, [&](int64_t begin, int64_t end) {
    const int64_t prepared = std::min(end, n_prepare);
    if (begin < prepared) {
      prepare(begin, prepared);
      left.fetch_sub(prepared - begin, std::memory_order_release);
    }
    const int64_t from = std::max<int64_t>(begin - n_prepare, 0), to = end - n_prepare;
    if (from < to) {
      work(from, to);
      while (left.load(std::memory_order_acquire) > 0) {
        std::this_thread::yield();
      }
      finish(from, to);
    }
  });
}

}  // namespace ssa
