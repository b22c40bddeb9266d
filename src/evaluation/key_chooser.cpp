#include "evaluation/key_chooser.h"

#include <algorithm>
#include <cmath>

namespace ssa {
namespace {

constexpr int64_t kStreamingSinks = 4;  // arXiv 2309.17453

/// The mean over queries and heads of how many keys a mask shows.
double mean_attended(const Tensor& mask) {
  return mask.sum().item<double>() / static_cast<double>(mask.size(0) * mask.size(1));
}

/// N / ratio, the specification's measure of unfolding, and what is always attended with it.
double ruled_prefix_keys(const EvalMethod& method, const SuffixFrame& frame) {
  const auto n_tokens = static_cast<double>(std::max(frame.n_prompt, frame.prefix_end));
  return n_tokens / *method.ratio + static_cast<double>(std::max<int64_t>(0, frame.rule.sink)) +
         static_cast<double>(frame.rule.previous_chunks * frame.layout->chunk_sizes()[0]);
}

/// Keys of the suffix up to itself that a query sees on average.
double mean_suffix_keys(Range queries, int64_t prefix_end) {
  return static_cast<double>(queries.begin - prefix_end + queries.end - prefix_end + 1) / 2.0;
}

/// Chunks by a pivot.
class PivotChooser : public KeyChooser {
 public:
  PivotChooser(const EvalMethod& method, const SuffixFrame& frame, const KeyBudget* budget)
      : method_(method),
        frame_(frame),
        banks_(static_cast<size_t>(frame.n_layers)),
        places_(static_cast<size_t>(frame.n_layers)) {
    if (budget != nullptr && !method.sets_budget()) {
      budget_ = *budget;
    }
    options_.pivot = method.pivot;
    options_.ratio = method.ratio;
  }

  void begin_pass(Range queries) override {
    queries_ = queries;
    mask_.emplace(view(),
                  frame_.rule,
                  options_,
                  SuffixQueries{queries, frame_.n_prompt},
                  frame_.group_size,
                  frame_.device);
  }

  Tensor attended(int64_t layer, const Tensor& q, const Tensor& keys) override {
    const auto i = static_cast<size_t>(layer);
    if (!banks_[i]) {
      banks_[i].emplace(view(), method_.pivot, keys.narrow(1, 0, frame_.prefix_end));
    }
    if (method_.sets_budget()) {
      return attend(*banks_[i], q, {});
    }
    if (!places_[i]) {
      places_[i] = fit(*banks_[i], q, wanted_keys(i));
    }
    return attend(*banks_[i], q, top_k_of(*places_[i]));
  }

  double n_scanned() const override {
    if (method_.pivot == Pivot::kRecent || method_.pivot == Pivot::kRandom) {
      return 0;
    }
    const GistLayout& layout = *frame_.layout;
    const int top = layout.n_levels() - 1;
    auto n = static_cast<double>(layout.n_gists(top));
    for (int level = top; level > 0; --level) {
      // Children of what each head keeps; heads of a group may share some.
      const int64_t top_k = top_k_of_level(options_,
                                           level,
                                           std::max(frame_.n_prompt, queries_.end),
                                           layout.n_gists(level),
                                           frame_.group_size,
                                           layout.chunk_sizes());
      const int64_t children =
          frame_.group_size * top_k * layout.chunk_sizes()[static_cast<size_t>(level)];
      n += static_cast<double>(std::min(children, layout.n_gists(level - 1)));
    }
    return method_.pivot == Pivot::kQuest ? 2 * n : n;  // maxima and minima
  }

 private:
  /// So many chunks a head, and one more for a share of the queries.
  struct Places {
    int64_t top_k = 1;
    double share = 0;
  };

  ChunkView view() const { return {*frame_.layout, frame_.has_gists}; }

  Tensor attend(const PivotBank& bank, const Tensor& q, const std::vector<int64_t>& top_k) const {
    return mask_->attended(mask_->kept(q, bank, top_k));
  }

  double wanted_keys(size_t layer) const {
    return budget_.empty()
               ? ruled_prefix_keys(method_, frame_) + mean_suffix_keys(queries_, frame_.prefix_end)
               : budget_[layer];
  }

  std::vector<int64_t> top_k_of(const Places& places) const {
    constexpr double kGolden = 0.6180339887498949;  // spreads the share evenly over the queries
    std::vector<int64_t> top_k;
    for (int64_t index = queries_.begin; index < queries_.end; ++index) {
      const double place = std::fmod(static_cast<double>(index) * kGolden, 1.0);
      top_k.push_back(places.top_k + (place < places.share ? 1 : 0));
    }
    return top_k;
  }

  /// The places with which the queries of this pass attend as many keys as wanted, on average.
  Places fit(const PivotBank& bank, const Tensor& q, double wanted) const {
    const auto count = [&](int64_t top_k) {
      return mean_attended(attend(bank, q, top_k_of({top_k, 0})));
    };
    const int64_t most = std::max<int64_t>(1, frame_.layout->n_gists(0));
    const double guess = wanted / static_cast<double>(frame_.group_size) /
                         static_cast<double>(frame_.layout->chunk_sizes()[0]);
    int64_t low = 1, high = std::clamp(static_cast<int64_t>(guess), int64_t{1}, most);
    double low_keys = count(low), high_keys = high == low ? low_keys : count(high);
    while (high_keys <= wanted && high < most) {
      low = high;
      low_keys = high_keys;
      high = std::min(most, 2 * high);
      high_keys = count(high);
    }
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      const double keys = count(middle);
      (keys <= wanted ? low : high) = middle;
      (keys <= wanted ? low_keys : high_keys) = keys;
    }
    if (high_keys <= wanted || high_keys <= low_keys) {
      return {high, 0};
    }
    return {low, std::clamp((wanted - low_keys) / (high_keys - low_keys), 0.0, 1.0)};
  }

  EvalMethod method_;
  SuffixFrame frame_;
  SelectionOptions options_;
  KeyBudget budget_;
  Range queries_;
  std::optional<UnfoldMask> mask_;
  std::vector<std::optional<PivotBank>> banks_;  // [n_layers]
  std::vector<std::optional<Places>> places_;    // [n_layers]
};

/// The same keys of the prefix for every query: what streaming and heavy hitters have in common.
class FixedChooser : public KeyChooser {
 public:
  FixedChooser(const EvalMethod& method, const SuffixFrame& frame, const KeyBudget* budget)
      : method_(method), frame_(frame), prefix_(static_cast<size_t>(frame.n_layers)) {
    if (budget != nullptr) {
      budget_ = *budget;
    }
  }

  void begin_pass(Range queries) override {
    queries_ = queries;
    suffix_ = suffix_mask(queries, frame_.prefix_end, frame_.device).unsqueeze(0);
  }

  Tensor attended(int64_t layer, const Tensor&, const Tensor&) override {
    const auto i = static_cast<size_t>(layer);
    if (!prefix_[i].defined()) {
      prefix_[i] = choose(layer, n_prefix_keys(i));
    }
    Tensor mask = suffix_.repeat({prefix_[i].size(0), 1, 1});
    mask.slice(2, 0, frame_.prefix_end).copy_(prefix_[i].unsqueeze(1));
    return mask;
  }

 protected:
  /// [n_kv_heads or 1, prefix_end] bool with n of the prefix's keys.
  virtual Tensor choose(int64_t layer, int64_t n) const = 0;

  Tensor blank() const {
    return torch::zeros({1, frame_.prefix_end},
                        torch::TensorOptions().dtype(torch::kBool).device(frame_.device));
  }

  EvalMethod method_;
  SuffixFrame frame_;

 private:
  int64_t n_prefix_keys(size_t layer) const {
    const double keys = budget_.empty()
                            ? ruled_prefix_keys(method_, frame_)
                            : budget_[layer] - mean_suffix_keys(queries_, frame_.prefix_end);
    return std::clamp(static_cast<int64_t>(std::lround(keys)), int64_t{0}, frame_.prefix_end);
  }

  KeyBudget budget_;
  Range queries_;
  Tensor suffix_;               // [1, n_queries, n_keys]
  std::vector<Tensor> prefix_;  // [n_layers]
};

class WindowChooser : public FixedChooser {
 public:
  using FixedChooser::FixedChooser;

 protected:
  Tensor choose(int64_t, int64_t n) const override {
    Tensor prefix = blank();
    const int64_t n_sinks = std::min(n, kStreamingSinks);
    prefix.slice(1, 0, n_sinks).fill_(true);
    prefix.slice(1, frame_.prefix_end - (n - n_sinks)).fill_(true);
    return prefix;
  }
};

/// Half of the budget for heavy hitters, half for the last tokens, as published.
class HeavyChooser : public FixedChooser {
 public:
  HeavyChooser(const EvalMethod& method,
               const SuffixFrame& frame,
               const KeyBudget* budget,
               const ReceivedAttention& received)
      : FixedChooser(method, frame, budget), received_(received) {}

 protected:
  Tensor choose(int64_t layer, int64_t n) const override {
    const Tensor& received = received_[static_cast<size_t>(layer)];
    const int64_t n_recent = n / 2, older = frame_.prefix_end - n_recent;
    Tensor prefix = blank().repeat({received.size(0), 1});
    prefix.slice(1, older).fill_(true);
    const Tensor heaviest =
        std::get<1>(received.slice(1, 0, older).topk(std::min(n - n_recent, older), 1));
    return prefix.scatter_(1, heaviest, true);
  }

 private:
  ReceivedAttention received_;
};

}  // namespace

std::unique_ptr<KeyChooser> make_key_chooser(const EvalMethod& method,
                                             const SuffixFrame& frame,
                                             const KeyBudget* budget,
                                             const ReceivedAttention* received) {
  if (frame.prefix_end == 0) {
    return nullptr;
  }
  switch (method.rule) {
    case KeyRule::kAll:
    case KeyRule::kGists:
      return nullptr;
    case KeyRule::kPivots:
      return frame.layout->n_gists() == 0 ? nullptr
                                          : std::make_unique<PivotChooser>(method, frame, budget);
    case KeyRule::kWindow:
      return std::make_unique<WindowChooser>(method, frame, budget);
    case KeyRule::kHeavy:
      return std::make_unique<HeavyChooser>(method, frame, budget, *received);
  }
  TORCH_INTERNAL_ASSERT(false, "method without a rule");
}

Tensor suffix_mask(Range queries, int64_t prefix_end, torch::Device device) {
  const auto options = torch::TensorOptions().dtype(torch::kBool).device(device);
  Tensor mask = torch::ones({queries.size(), queries.end}, options).tril(queries.begin);
  mask.slice(1, 0, prefix_end).fill_(false);
  return mask;
}

}  // namespace ssa
