// The best k of n scores, exactly, for any instruction set.
//
// 1. A sample, every (n / 512)th score, says which threshold a few more than k scores should reach.
// 2. One pass keeps the scores that reach it: the candidates, a few per cent of all.
// 3. Bisection over the order of floats finds a threshold that k of them reach, or the value of
//    which some must go: at most 33 counts, mostly half as many, without a branch on a score.
// 4. One pass marks what is above, and the first of those equal.
//
// Where the sample misled (fewer than k candidates; less than one time in a thousand), all scores
// are candidates: right as well, but slower.
//
// Comparisons with NaN are false, so that a NaN is never counted, and -0 equals 0 as the contract
// wants it.
//
// An instruction set brings Ops:
//   count(x, n, threshold)       how many of x are >= threshold
//   keep(x, n, threshold, out)   stores those, in order and up to 16 numbers more; returns how many
//   compare(x, value)            {above, equal}: a bit for each of 64 scores
#pragma once

#include <cstdint>

namespace ssa::cpu {
namespace {

inline constexpr float kInfinity = __builtin_inff(), kNaN = __builtin_nanf("");

/// Bits of scores above a value, and equal to it.
struct Comparison {
  uint64_t above, equal;
};

/// Integers in the order of floats, -0 just below 0: its own inverse.
inline int32_t flip(int32_t bits) {
  return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}
inline int32_t order_of(float value) {
  return flip(__builtin_bit_cast(int32_t, value));
}
inline float at_order(int32_t order) {
  return __builtin_bit_cast(float, flip(order));
}

struct Reach {
  float threshold;
  int64_t n;  // how many reach it
};

/// A threshold that exactly k of x reach, else the k-th best of x. At least k of x, k >= 1, are >=
/// `floor`.
template <class Ops>
Reach find_reach(const float* x, int64_t n, int64_t k, float floor) {
  Reach best = {floor, Ops::count(x, n, floor)};
  int64_t low = order_of(floor), beyond = int64_t{order_of(kInfinity)} + 1;
  while (best.n > k && beyond - low > 1) {
    const int64_t middle = low + (beyond - low) / 2;
    const float threshold = at_order(static_cast<int32_t>(middle));
    const int64_t reached = Ops::count(x, n, threshold);
    const bool enough = reached >= k;
    best = enough ? Reach{threshold, reached} : best;
    low = enough ? middle : low;
    beyond = enough ? beyond : middle;
  }
  return best;
}

/// What to keep: all above the value, and the first n_equal of those equal to it.
struct Cut {
  float value;
  int64_t n_equal;
};

/// The cut that keeps k of x.
template <class Ops>
Cut cut_at(const float* x, int64_t n, int64_t k, float floor) {
  const Reach reach = find_reach<Ops>(x, n, k, floor);
  if (reach.n == k) {
    return {reach.threshold, k};
  }
  const float next = at_order(order_of(reach.threshold) + 1);
  return {reach.threshold, k - Ops::count(x, n, next)};
}

/// A threshold that a few more than k scores should reach: of a sample that should hold m of the
/// best k, the number of rank m + 3 * sqrt(m) + 3. Minus infinity where a sample is of no use.
template <class Ops>
float guess_threshold(const float* scores, int64_t n, int64_t k, float* sample) {
  constexpr int64_t kSample = 512;
  if (n < 2 * kSample) {
    return -kInfinity;
  }
  const int64_t stride = n / kSample;
  for (int64_t i = 0; i < kSample; ++i) {
    sample[i] = scores[i * stride];
  }
  const double expected = static_cast<double>(k) * kSample / static_cast<double>(n);
  const auto rank = static_cast<int64_t>(expected + 3 * __builtin_sqrt(expected) + 3);
  if (Ops::count(sample, kSample, -kInfinity) < rank) {
    return -kInfinity;
  }
  return find_reach<Ops>(sample, kSample, rank, -kInfinity).threshold;
}

template <class Ops>
Cut find_cut(const float* scores, int64_t n, int64_t k, float* scratch) {
  const float threshold = guess_threshold<Ops>(scores, n, k, scratch);
  if (threshold > -kInfinity) {
    const int64_t n_candidates = Ops::keep(scores, n, threshold, scratch);
    if (n_candidates >= k) {
      return cut_at<Ops>(scratch, n_candidates, k, threshold);
    }
  }
  if (Ops::count(scores, n, -kInfinity) <= k) {
    return {-kInfinity, n};
  }
  return cut_at<Ops>(scores, n, k, -kInfinity);
}

inline uint64_t lowest_bits(uint64_t bits, int64_t n) {
  uint64_t lowest = 0;
  for (; n > 0 && bits != 0; --n) {
    lowest |= bits & -bits;
    bits &= bits - 1;
  }
  return lowest;
}

/// The bits of 64 scores that the cut keeps; it uses up equal ones.
template <class Ops>
uint64_t keep_bits(const float* scores, Cut& cut) {
  const Comparison found = Ops::compare(scores, cut.value);
  if (found.equal == 0 || cut.n_equal == 0) {
    return found.above;
  }
  const uint64_t equal = lowest_bits(found.equal, cut.n_equal);
  cut.n_equal -= __builtin_popcountll(equal);
  return found.above | equal;
}

/// TopKKernels::top_k.
template <class Ops>
void top_k(const float* scores, int64_t n, int64_t k, uint64_t* bits, float* scratch) {
  constexpr int64_t kWord = 64;
  if (k <= 0) {
    return;
  }
  Cut cut = find_cut<Ops>(scores, n, k, scratch);
  int64_t i = 0;
  for (; i + kWord <= n; i += kWord) {
    bits[i / kWord] |= keep_bits<Ops>(scores + i, cut);
  }
  if (i < n) {
    for (int64_t j = 0; j < kWord; ++j) {
      scratch[j] = i + j < n ? scores[i + j] : kNaN;
    }
    bits[i / kWord] |= keep_bits<Ops>(scratch, cut);
  }
}

}  // namespace
}  // namespace ssa::cpu
