#include "attention/cpu/attend.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace ssa::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float rounded_to_bf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000U);
}

/// The three buffers of a softmax state.
struct State {
  explicit State(const HeadShape& shape)
      : largest(shape.group_size, -kInfinity),
        sum(shape.group_size, 0),
        out(shape.group_size * shape.head_dim, 0) {}

  SoftmaxState view() { return {largest.data(), sum.data(), out.data()}; }

  std::vector<float> largest;
  std::vector<float> sum;
  std::vector<float> out;
};

/// Random queries and rows, both as stored and as the numbers that these stand for. Rows lie at odd
/// addresses.
struct Case {
  Case(HeadShape shape_, int64_t n_tokens_, float query_size = 1)
      : shape(shape_), n_tokens(n_tokens_) {
    std::mt19937 random(static_cast<uint32_t>(shape.head_dim * 100 + shape.group_size));
    std::normal_distribution<float> normal;
    q.resize(shape.group_size * shape.head_dim);
    for (float& x : q) {
      x = normal(random) * query_size;
      x = shape.type == KvType::kF32 ? x : rounded_to_bf16(x);
    }
    const int64_t vector = vector_bytes(shape.type, shape.head_dim);
    bytes.resize(n_tokens * 2 * vector + 1);
    numbers.resize(n_tokens * 2 * shape.head_dim);
    for (int64_t i = 0; i < 2 * n_tokens; ++i) {
      float* values = numbers.data() + i * shape.head_dim;
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        values[d] = normal(random);
      }
      store_vector(shape.type, values, shape.head_dim, bytes.data() + 1 + i * vector);
      load_vector(shape.type, bytes.data() + 1 + i * vector, shape.head_dim, values);
    }
  }

  /// What an int8 value is multiplied with; 1 for other types.
  float value_scale(int64_t token) const {
    if (shape.type != KvType::kInt8) {
      return 1;
    }
    uint16_t bits;
    std::memcpy(&bits, run(token + 1, token + 1).keys - sizeof bits, sizeof bits);
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
  const float* key(int64_t token) const { return numbers.data() + 2 * token * shape.head_dim; }
  const float* value(int64_t token) const { return key(token) + shape.head_dim; }
  float score(int64_t head, int64_t token) const {
    double sum = 0;
    for (int64_t d = 0; d < shape.head_dim; ++d) {
      sum += double{q[head * shape.head_dim + d]} * key(token)[d];
    }
    return static_cast<float>(sum);
  }
  KvRun run(int64_t begin, int64_t end) const {
    const int64_t row = row_bytes(shape.type, shape.head_dim);
    const std::byte* keys = bytes.data() + 1 + begin * row;
    return {keys, keys + row / 2, end - begin, row, row};
  }

  HeadShape shape;
  int64_t n_tokens;
  float scale = 0.125F;
  std::vector<float> q;
  std::vector<std::byte> bytes;
  std::vector<float> numbers;  // [n_tokens, 2, head_dim]
};

/// Attention over all tokens in doubles; with `round_weights`, as bf16 attention computes it:
/// weights (times the values' scales) rounded to bf16, sums in floats.
std::vector<double> expected(const Case& c, bool round_weights = false) {
  std::vector<double> out(c.q.size(), 0);
  for (int64_t h = 0; h < c.shape.group_size; ++h) {
    std::vector<double> scores;
    double largest = -kInfinity;
    for (int64_t t = 0; t < c.n_tokens; ++t) {
      double score = 0;
      for (int64_t d = 0; d < c.shape.head_dim; ++d) {
        score += double{c.q[h * c.shape.head_dim + d]} * c.key(t)[d];
      }
      scores.push_back(score * c.scale);
      largest = std::max(largest, scores.back());
    }
    double sum = 0;
    for (int64_t t = 0; t < c.n_tokens; ++t) {
      scores[t] = std::exp(scores[t] - largest);
      if (round_weights) {
        const float value_scale = c.value_scale(t);
        scores[t] = rounded_to_bf16(static_cast<float>(scores[t]) * value_scale) / value_scale;
      }
      sum += scores[t];
    }
    for (int64_t t = 0; t < c.n_tokens; ++t) {
      for (int64_t d = 0; d < c.shape.head_dim; ++d) {
        double& to = out[h * c.shape.head_dim + d];
        to += scores[t] * c.value(t)[d];
        to = round_weights ? static_cast<float>(to) : to;
      }
    }
    for (int64_t d = 0; d < c.shape.head_dim; ++d) {
      out[h * c.shape.head_dim + d] /= sum;
    }
  }
  return out;
}

template <class A, class B>
double distance(const A& a, const B& b) {
  double square = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    square += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  }
  return std::sqrt(square);
}

/// How far an output may be from `exact`, as a root of summed squares.
double tolerance(const Case& c, const std::vector<double>& exact) {
  const double size = distance(exact, std::vector<double>(exact.size(), 0));
  if (c.shape.type == KvType::kF32) {
    return 1e-5 * size;
  }
  return 2 * distance(expected(c, true), exact) + 1e-5 * size;
}

std::vector<float> finished(const AttendKernels& kernels, const HeadShape& shape, State& state) {
  std::vector<float> out(state.out.size(), NAN);
  kernels.finish(shape, state.view(), out.data());
  return out;
}

/// The ways in which the same tokens can be handed over.
enum class Pattern { kOneRun, kShortRuns, kScored, kMerged };

std::vector<KvRun> short_runs(const Case& c, int64_t begin, int64_t end) {
  std::vector<KvRun> runs;
  for (int64_t length = 1; begin < end; begin += length, length = length % 19 + 1) {
    runs.push_back(c.run(begin, std::min(begin + length, end)));
    runs.push_back(c.run(begin, begin));  // nothing
  }
  return runs;
}

State attended(const AttendKernels& kernels, const Case& c, const std::vector<KvRun>& runs) {
  State state(c.shape);
  kernels.attend(c.shape, c.q.data(), c.scale, runs, {}, state.view());
  return state;
}

State attended_with_scored(const AttendKernels& kernels, const Case& c) {
  const int64_t n_scored = c.n_tokens / 2, stride = n_scored + 3;
  std::vector<float> scores(c.shape.group_size * stride);
  std::vector<ScoredValue> scored;
  for (int64_t t = 0; t < n_scored; ++t) {
    for (int64_t h = 0; h < c.shape.group_size; ++h) {
      scores[h * stride + t] = c.score(h, t);
    }
    scored.push_back({c.run(t, t + 1).values, scores.data() + t, stride});
  }
  State state(c.shape);
  const KvRun rest = c.run(n_scored, c.n_tokens);
  kernels.attend(c.shape, c.q.data(), c.scale, {&rest, 1}, scored, state.view());
  return state;
}

State attended_in_parts(const AttendKernels& kernels, const Case& c) {
  State state(c.shape);
  for (int64_t begin = 0; begin < c.n_tokens; begin += 37) {
    State part = attended(kernels, c, {c.run(begin, std::min(begin + 37, c.n_tokens))});
    kernels.merge(c.shape, part.view(), state.view());
  }
  return state;
}

State attended(const AttendKernels& kernels, const Case& c, Pattern pattern) {
  switch (pattern) {
    case Pattern::kOneRun:
      return attended(kernels, c, {c.run(0, c.n_tokens)});
    case Pattern::kShortRuns:
      return attended(kernels, c, short_runs(c, 0, c.n_tokens));
    case Pattern::kScored:
      return attended_with_scored(kernels, c);
    case Pattern::kMerged:
      break;
  }
  return attended_in_parts(kernels, c);
}

class AttendTest : public testing::TestWithParam<InstructionSet> {
 protected:
  const AttendKernels& kernels_ = attend_kernels(GetParam());
};

void expect_right(const AttendKernels& kernels,
                  const Case& c,
                  const std::vector<Pattern>& patterns) {
  const std::vector<double> exact = expected(c);
  const double most = tolerance(c, exact);
  for (const Pattern pattern : patterns) {
    State state = attended(kernels, c, pattern);
    EXPECT_LE(distance(finished(kernels, c.shape, state), exact), most)
        << kv_type_name(c.shape.type) << ", head_dim " << c.shape.head_dim << ", group "
        << c.shape.group_size << ", pattern " << static_cast<int>(pattern);
  }
}

TEST_P(AttendTest, AgreesWithDoubles) {
  for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kInt8}) {
    for (const int64_t head_dim : {8, 32, 40, 64, 80, 96, 128, 192, 256}) {
      for (const int64_t group_size : {1, 2, 3, 4, 7, 8, 16}) {
        expect_right(kernels_,
                     Case({type, head_dim, group_size}, 101),
                     {Pattern::kOneRun, Pattern::kShortRuns, Pattern::kScored, Pattern::kMerged});
      }
    }
  }
}

TEST_P(AttendTest, LargestShape) {
  for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kInt8}) {
    expect_right(kernels_, Case({type, 512, 64}, 35), {Pattern::kOneRun});
  }
}

TEST_P(AttendTest, ScoresOfTenThousand) {
  for (const KvType type : {KvType::kF32, KvType::kBF16}) {
    // A float holds scores of this size to 1e-3 only: outputs are compared where one key is far
    // ahead.
    Case c({type, 64, 3}, 200, 1e4F);
    const std::vector<double> exact = expected(c);
    for (const Pattern pattern : {Pattern::kOneRun, Pattern::kMerged}) {
      State state = attended(kernels_, c, pattern);
      EXPECT_LE(distance(finished(kernels_, c.shape, state), exact), 1e-2);
    }
  }
}

TEST_P(AttendTest, EveryBlockLength) {
  const Case whole({KvType::kBF16, 64, 3}, 70);
  for (int64_t n = 1; n <= whole.n_tokens; ++n) {
    Case c = whole;
    c.n_tokens = n;
    expect_right(kernels_, c, {Pattern::kOneRun});
  }
}

TEST_P(AttendTest, MergeIsAssociative) {
  const Case c({KvType::kF32, 40, 3}, 90);
  const auto part = [&](int64_t begin, int64_t end) {
    return attended(kernels_, c, {c.run(begin, end)});
  };
  State left = part(0, 10), right = part(20, 90), middle = part(10, 20);
  kernels_.merge(c.shape, middle.view(), left.view());
  kernels_.merge(c.shape, right.view(), left.view());
  State other_left = part(0, 10), other_middle = part(10, 20), other_right = part(20, 90);
  kernels_.merge(c.shape, other_right.view(), other_middle.view());
  kernels_.merge(c.shape, other_middle.view(), other_left.view());
  EXPECT_LE(distance(finished(kernels_, c.shape, left), finished(kernels_, c.shape, other_left)),
            1e-5);
}

TEST_P(AttendTest, NothingLeavesTheStateAsItIs) {
  const Case c({KvType::kInt8, 72, 5}, 20);
  State state = attended(kernels_, c, Pattern::kOneRun);
  const State before = state;
  const std::vector<KvRun> empty = {c.run(0, 0), c.run(3, 3)};
  kernels_.attend(c.shape, c.q.data(), c.scale, {}, {}, state.view());
  kernels_.attend(c.shape, c.q.data(), c.scale, empty, {}, state.view());
  State fresh(c.shape);
  kernels_.merge(c.shape, fresh.view(), state.view());
  EXPECT_EQ(state.largest, before.largest);
  EXPECT_EQ(state.sum, before.sum);
  EXPECT_EQ(state.out, before.out);
  EXPECT_EQ(finished(kernels_, c.shape, fresh), std::vector<float>(fresh.out.size(), 0));
}

TEST_P(AttendTest, ScoresOfMinusInfinityWeighNothing) {
  const Case c({KvType::kBF16, 32, 2}, 2);
  const float scores[] = {-kInfinity, 1, -kInfinity, -kInfinity};  // [key, head]
  std::vector<ScoredValue> scored;
  for (int64_t t = 0; t < 2; ++t) {
    scored.push_back({c.run(t, t + 1).values, scores + 2 * t, 1});
  }
  State state(c.shape);
  kernels_.attend(c.shape, c.q.data(), c.scale, {}, scored, state.view());
  const std::vector<float> out = finished(kernels_, c.shape, state);
  for (int64_t d = 0; d < 32; ++d) {
    EXPECT_EQ(out[d], 0);
    EXPECT_EQ(out[32 + d], c.value(0)[d]);
  }
}

TEST_P(AttendTest, NanStaysInItsHead) {
  Case c({KvType::kF32, 64, 3}, 50);
  c.q[64] = NAN;
  State state = attended(kernels_, c, Pattern::kOneRun);
  const std::vector<float> out = finished(kernels_, c.shape, state);
  for (int64_t d = 0; d < 64; ++d) {
    EXPECT_TRUE(std::isfinite(out[d]) && std::isnan(out[64 + d]) && std::isfinite(out[128 + d]));
  }
}

TEST_P(AttendTest, ZeroVectorsCount) {
  Case c({KvType::kInt8, 16, 1}, 2);
  const std::vector<float> zeros(16, 0);
  store_vector(
      KvType::kInt8, zeros.data(), 16, c.bytes.data() + 1 + vector_bytes(KvType::kInt8, 16));
  const float scores[] = {0, 0};
  const std::vector<ScoredValue> scored = {{c.run(0, 1).values, scores, 1},
                                           {c.run(1, 2).values, scores + 1, 1}};
  State state(c.shape);
  kernels_.attend(c.shape, c.q.data(), c.scale, {}, scored, state.view());
  const std::vector<float> out = finished(kernels_, c.shape, state);
  for (int64_t d = 0; d < 16; ++d) {
    EXPECT_NEAR(out[d], c.value(1)[d] / 2, 0.01);
  }
}

INSTANTIATE_TEST_SUITE_P(All,
                         AttendTest,
                         testing::ValuesIn(available_instruction_sets()),
                         [](const auto& set) {
                           return std::string(instruction_set_name(set.param));
                         });

}  // namespace
}  // namespace ssa::cpu
