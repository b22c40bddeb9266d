#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace ssa {
namespace {

struct Candidate {
  int64_t token;
  double probability;
};

/// Tokens by falling probability, ties by id; the first k alone are in order (and kept) if k > 0.
std::vector<Candidate> most_likely(std::span<const float> logits, double temperature, int64_t k) {
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto before = [&](int64_t a, int64_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  const size_t kept = k > 0 ? std::min(order.size(), static_cast<size_t>(k)) : order.size();
  std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(kept), order.end(), before);
  std::vector<Candidate> candidates;
  const double top = logits[static_cast<size_t>(order[0])];
  for (size_t i = 0; i < kept; ++i) {
    const double logit = logits[static_cast<size_t>(order[i])];
    candidates.push_back({order[i], std::exp((logit - top) / temperature)});
  }
  return candidates;
}

void normalise(std::vector<Candidate>& candidates) {
  const double sum = std::accumulate(
      candidates.begin(), candidates.end(), 0.0, [](double total, const Candidate& candidate) {
        return total + candidate.probability;
      });
  for (Candidate& candidate : candidates) {
    candidate.probability /= sum;
  }
}

/// Keeps the fewest tokens whose probabilities reach p.
void keep_top_p(std::vector<Candidate>& candidates, double p) {
  double mass = 0;
  size_t n = 0;
  while (n < candidates.size() && mass < p) {
    mass += candidates[n++].probability;
  }
  candidates.resize(std::max<size_t>(1, n));
}

void keep_min_p(std::vector<Candidate>& candidates, double min_p) {
  const double least = min_p * candidates.front().probability;
  std::erase_if(candidates, [&](const Candidate& c) { return c.probability < least; });
}

}  // namespace

void validate(const SamplingOptions& options) {
  check(options.temperature >= 0 && std::isfinite(options.temperature),
        "temperature ",
        options.temperature,
        " is not a finite number from 0 on");
  check(options.top_k >= 0, "top-k ", options.top_k, " is below 0");
  check(options.top_p > 0 && options.top_p <= 1, "top-p ", options.top_p, " is not in (0, 1]");
  check(options.min_p >= 0 && options.min_p <= 1, "min-p ", options.min_p, " is not in [0, 1]");
  check(options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty),
        "repetition penalty ",
        options.repetition_penalty,
        " is not a finite number above 0");
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  validate(options);
}

void Sampler::observe(int64_t token) {
  if (options_.repetition_penalty != 1.0) {
    seen_.insert(token);
  }
}

int64_t Sampler::sample(std::span<const float> logits) {
  check(!logits.empty(), "no logits to sample from");
  std::vector<float> penalised(logits.begin(), logits.end());
  for (const int64_t token : seen_) {
    float& logit = penalised[static_cast<size_t>(token)];
    const auto penalty = static_cast<float>(options_.repetition_penalty);
    logit = logit < 0 ? logit * penalty : logit / penalty;
  }
  const bool broken = std::any_of(penalised.begin(), penalised.end(), [](float logit) {
    return std::isnan(logit) || logit == std::numeric_limits<float>::infinity();
  });
  check(!broken, "the model's logits are not numbers (NaN or infinite)");
  const auto best = std::max_element(penalised.begin(), penalised.end());
  check(std::isfinite(*best), "all logits are minus infinity: no token may follow");
  if (options_.temperature == 0) {
    return best - penalised.begin();
  }
  return draw(penalised);
}

int64_t Sampler::draw(std::vector<float>& logits) {
  std::vector<Candidate> candidates = most_likely(logits, options_.temperature, options_.top_k);
  normalise(candidates);
  keep_top_p(candidates, options_.top_p);
  keep_min_p(candidates, options_.min_p);
  normalise(candidates);
  // 53 random bits as a number in [0, 1): the standard's distributions differ between libraries.
  double left = static_cast<double>(random_() >> 11) * 0x1.0p-53;
  for (const Candidate& candidate : candidates) {
    left -= candidate.probability;
    if (left < 0) {
      return candidate.token;
    }
  }
  return candidates.back().token;
}

}  // namespace ssa
