#include "evaluation/key_chooser.h"

#include <algorithm>
#include <cmath>

#include "evaluation/chunk_tree.h"

namespace ssa {
namespace {

constexpr int64_t kStreamingSinks = 4;  // arXiv 2309.17453

/// N / ratio, the specification's measure of unfolding, and what is always attended with it.
double ruled_prefix_keys(const EvalMethod& method, const SuffixFrame& frame) {
  const auto n_tokens = static_cast<double>(std::max(frame.n_prompt, frame.prefix_end));
  return n_tokens / *method.ratio + static_cast<double>(std::max<int64_t>(0, frame.rule.sink)) +
         static_cast<double>(frame.rule.previous_chunks * frame.layout->chunk_sizes()[0]);
}

/// Keys of the suffix up to itself that a query sees on average, where rows are consecutive.
double mean_suffix_keys(const SuffixRows& rows, int64_t prefix_end) {
  return static_cast<double>(rows.indices.front() + rows.indices.back() + 2 - 2 * prefix_end) / 2.0;
}

SelectionOptions selection_of(const EvalMethod& method) {
  SelectionOptions options;
  options.pivot = method.pivot;
  options.ratio = method.ratio;
  return options;
}

int64_t ruled_top_k(const EvalMethod& method, const SuffixFrame& frame, int level, int64_t n) {
  return top_k_of_level(selection_of(method),
                        level,
                        std::max(frame.n_prompt, n),
                        frame.layout->n_gists(level),
                        frame.group_size,
                        frame.layout->chunk_sizes());
}

/// Chunks by a pivot, for methods that differ in how many.
class PivotChooser : public KeyChooser {
 public:
  PivotChooser(std::span<const StreamMethod> methods, int64_t first_stream, SuffixFrame frame)
      : KeyChooser({first_stream, first_stream + static_cast<int64_t>(methods.size())}),
        methods_(methods.begin(), methods.end()),
        frame_(std::move(frame)),
        tree_(view(), frame_.prefix_end, frame_.device),
        sets_budgets_(methods.front().method.sets_budget()),
        banks_(static_cast<size_t>(frame_.n_layers)),
        places_(static_cast<size_t>(frame_.n_layers)) {
    const UnfoldMask mask(view(),
                          frame_.rule,
                          selection_of(methods.front().method),
                          {{frame_.prefix_end, frame_.sequence_end}, frame_.n_prompt},
                          frame_.group_size,
                          frame_.device);
    always_ = mask.always().narrow(1, 0, frame_.prefix_end);
  }

  void begin_pass(const SuffixRows& rows) override {
    const auto here = [&](const auto& values, torch::ScalarType type) {
      return torch::tensor(values, type).to(frame_.device);
    };
    std::vector<int64_t> places = rows.indices, streams = rows.streams;
    std::vector<double> spread;
    for (size_t i = 0; i < places.size(); ++i) {
      constexpr double kGolden = 0.6180339887498949;  // spreads a share evenly over the queries
      spread.push_back(std::fmod(static_cast<double>(places[i]) * kGolden, 1.0));
      places[i] -= frame_.prefix_end;
      streams[i] -= this->streams().begin;
    }
    rows_.always = always_.index_select(0, here(places, torch::kInt64));
    rows_.stream = here(streams, torch::kInt64);
    rows_.spread = here(spread, torch::kFloat64);
    rows_.ruled.clear();
    for (int level = 0; level < frame_.layout->n_levels(); ++level) {
      std::vector<int64_t> top_k;
      for (size_t i = 0; i < streams.size(); ++i) {
        const EvalMethod& method = methods_[static_cast<size_t>(streams[i])].method;
        top_k.push_back(ruled_top_k(method, frame_, level, rows.indices[i] + 1));
      }
      rows_.ruled.push_back(here(top_k, torch::kInt64));
    }
    if (!sets_budgets_ && !wanted_.defined()) {
      want(rows, streams);
    }
  }

  Tensor attended(int64_t layer, const Tensor& q, const Tensor& keys) override {
    const auto i = static_cast<size_t>(layer);
    if (!banks_[i]) {
      banks_[i].emplace(view(), methods_.front().method.pivot, keys);
    }
    const ChunkTree::Ranked ranked = tree_.rank(banks_[i]->grouped_scores(q));
    if (!sets_budgets_ && !places_[i].top_k.defined()) {
      places_[i] = fit(ranked, wanted_[layer]);
    }
    const Tensor kept =
        tree_.kept(ranked, sets_budgets_ ? rows_.ruled : by_level(spread_out(places_[i])));
    return tree_.keys(kept).logical_or_(rows_.always);
  }

 private:
  /// So many chunks a head, and one more for a share of the queries: [n_streams] each.
  struct Places {
    Tensor top_k;  // int64
    Tensor share;  // float64
  };
  /// Of this pass, on the device; [n_rows, ...].
  struct Rows {
    Tensor always;              // keys of the prefix attended whatever is chosen
    Tensor stream;              // ordinal among this chooser's
    Tensor spread;              // in [0, 1): whether a row is among the share that gets one more
    std::vector<Tensor> ruled;  // by level: the specification's top_k
  };

  ChunkView view() const { return {*frame_.layout, frame_.has_gists}; }

  /// What budgets, and the numbers behind them, come to in the first pass.
  void want(const SuffixRows& rows, const std::vector<int64_t>& stream_of_row) {
    const int64_t n_streams = this->streams().size();
    const auto n_rows = rows.size() / n_streams;
    std::vector<double> wanted;
    for (int64_t layer = 0; layer < frame_.n_layers; ++layer) {
      for (int64_t stream = 0; stream < n_streams; ++stream) {
        const StreamMethod& of = methods_[static_cast<size_t>(stream)];
        const SuffixRows own = rows.part({stream * n_rows, (stream + 1) * n_rows});
        wanted.push_back(of.budget != nullptr ? (*of.budget)[static_cast<size_t>(layer)]
                                              : ruled_prefix_keys(of.method, frame_) +
                                                    mean_suffix_keys(own, frame_.prefix_end));
        wanted.back() -= mean_suffix_keys(own, frame_.prefix_end);
      }
    }
    TORCH_CHECK(static_cast<int64_t>(stream_of_row.size()) == n_streams * n_rows,
                "key chooser: suffixes of unequal length");
    wanted_ = torch::tensor(wanted, torch::kFloat64).view({-1, n_streams}).to(frame_.device);
    n_rows_a_stream_ = n_rows;
    added_ = tree_.added_keys(rows_.always);
    n_always_ = rows_.always.sum(1).to(torch::kFloat64);
  }

  /// Given for levels 0 and 1; levels above keep no fewer than the specification's.
  std::vector<Tensor> by_level(const Tensor& top_k) const {
    std::vector<Tensor> levels(rows_.ruled.size(), top_k);
    for (size_t level = 2; level < levels.size(); ++level) {
      levels[level] = torch::maximum(top_k, rows_.ruled[level]);
    }
    return levels;
  }

  Tensor spread_out(const Places& places) const {
    const Tensor one_more = rows_.spread < places.share.index_select(0, rows_.stream);
    return places.top_k.index_select(0, rows_.stream) + one_more;
  }

  /// Keys of the prefix that each stream's rows attend on average: [n_streams].
  Tensor mean_attended(const ChunkTree::Ranked& ranked, const Tensor& top_k) const {
    const Tensor kept = tree_.kept(ranked, by_level(top_k.index_select(0, rows_.stream)));
    const Tensor added = added_.mul(kept).sum(torch::IntArrayRef{0, 2}).to(torch::kFloat64);
    const auto n_heads = static_cast<double>(kept.size(0));
    return (added / n_heads + n_always_).view({-1, n_rows_a_stream_}).mean(1);
  }

  /// The places with which the queries of this pass attend as many keys as wanted, on average: a
  /// search that all streams make together, with as many steps as the longest may need.
  Places fit(const ChunkTree::Ranked& ranked, const Tensor& wanted) const {
    const int64_t most = std::max<int64_t>(1, frame_.layout->n_gists(0));
    Tensor low = torch::ones_like(wanted, torch::kInt64), high = torch::full_like(low, most);
    for (int64_t reach = 1; reach < most; reach *= 2) {
      const Tensor middle = (low + high + 1).div(2, "floor");
      const Tensor fits = mean_attended(ranked, middle) <= wanted;
      low = torch::where(fits, middle, low);
      high = torch::where(fits, high, middle - 1).clamp_min(1);
    }
    const Tensor keys = mean_attended(ranked, low);
    const Tensor step = mean_attended(ranked, (low + 1).clamp_max(most)) - keys;
    const Tensor share = ((wanted - keys) / step).clamp(0, 1);
    return {low, share.masked_fill(step <= 0, 0)};
  }

  std::vector<StreamMethod> methods_;
  SuffixFrame frame_;
  ChunkTree tree_;
  bool sets_budgets_;
  Tensor always_;  // [sequence_end - prefix_end, prefix_end]
  Rows rows_;
  // Of the first pass, where budgets are given: keys of the prefix wanted, [n_layers, n_streams];
  // keys that each gist adds, [n_rows, n_gists]; those attended anyway, [n_rows].
  Tensor wanted_, added_, n_always_;
  int64_t n_rows_a_stream_ = 0;
  std::vector<std::optional<PivotBank>> banks_;  // [n_layers]
  std::vector<Places> places_;                   // [n_layers]
};

/// The same keys of the prefix for every query: what streaming and heavy hitters have in common.
class FixedChooser : public KeyChooser {
 public:
  FixedChooser(const StreamMethod& stream, int64_t first_stream, const SuffixFrame& frame)
      : KeyChooser({first_stream, first_stream + 1}),
        frame_(frame),
        method_(stream.method),
        prefix_(static_cast<size_t>(frame.n_layers)) {
    if (stream.budget != nullptr) {
      budget_ = *stream.budget;
    }
  }

  void begin_pass(const SuffixRows& rows) override {
    n_rows_ = rows.size();
    if (!n_suffix_keys_) {
      n_suffix_keys_ = mean_suffix_keys(rows, frame_.prefix_end);
    }
  }

  Tensor attended(int64_t layer, const Tensor&, const Tensor&) override {
    Tensor& prefix = prefix_[static_cast<size_t>(layer)];
    if (!prefix.defined()) {
      prefix = choose(layer, n_prefix_keys(static_cast<size_t>(layer)));
    }
    return prefix.unsqueeze(1).expand({prefix.size(0), n_rows_, prefix.size(1)});
  }

 protected:
  /// [n_kv_heads or 1, prefix_end] bool with n of the prefix's keys.
  virtual Tensor choose(int64_t layer, int64_t n) const = 0;

  Tensor blank() const {
    return torch::zeros({1, frame_.prefix_end},
                        torch::TensorOptions().dtype(torch::kBool).device(frame_.device));
  }

  SuffixFrame frame_;

 private:
  int64_t n_prefix_keys(size_t layer) const {
    const double keys =
        budget_.empty() ? ruled_prefix_keys(method_, frame_) : budget_[layer] - *n_suffix_keys_;
    return std::clamp(static_cast<int64_t>(std::lround(keys)), int64_t{0}, frame_.prefix_end);
  }

  EvalMethod method_;
  KeyBudget budget_;
  int64_t n_rows_ = 0;
  std::optional<double> n_suffix_keys_;  // of the first pass
  std::vector<Tensor> prefix_;           // [n_layers]
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
  HeavyChooser(const StreamMethod& stream,
               int64_t first_stream,
               const SuffixFrame& frame,
               const ReceivedAttention& received)
      : FixedChooser(stream, first_stream, frame), received_(received) {}

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

bool chooses(const EvalMethod& method, const SuffixFrame& frame) {
  switch (method.rule) {
    case KeyRule::kAll:
    case KeyRule::kGists:
      return false;
    case KeyRule::kPivots:
      return frame.prefix_end > 0 && frame.layout->n_gists() > 0;
    case KeyRule::kWindow:
    case KeyRule::kHeavy:
      return frame.prefix_end > 0;
  }
  TORCH_INTERNAL_ASSERT(false, "method without a rule");
}

bool choose_alike(const EvalMethod& a, const EvalMethod& b) {
  return a.rule == KeyRule::kPivots && b.rule == KeyRule::kPivots && a.pivot == b.pivot &&
         a.chunk == b.chunk && a.prefill == b.prefill;
}

std::unique_ptr<KeyChooser> make_key_chooser(std::span<const StreamMethod> methods,
                                             int64_t first_stream,
                                             const SuffixFrame& frame,
                                             const ReceivedAttention* received) {
  switch (methods.front().method.rule) {
    case KeyRule::kPivots:
      return std::make_unique<PivotChooser>(methods, first_stream, frame);
    case KeyRule::kWindow:
      return std::make_unique<WindowChooser>(methods.front(), first_stream, frame);
    case KeyRule::kHeavy:
      return std::make_unique<HeavyChooser>(methods.front(), first_stream, frame, *received);
    case KeyRule::kAll:
    case KeyRule::kGists:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "method that does not choose");
}

double n_scanned(const EvalMethod& method, const SuffixFrame& frame, int64_t suffix_end) {
  if (method.rule != KeyRule::kPivots || method.pivot == Pivot::kRecent ||
      method.pivot == Pivot::kRandom) {
    return 0;
  }
  const GistLayout& layout = *frame.layout;
  const int top = layout.n_levels() - 1;
  auto n = static_cast<double>(layout.n_gists(top));
  for (int level = top; level > 0; --level) {
    // Children of what each head keeps; heads of a group may share some.
    const int64_t top_k = ruled_top_k(method, frame, level, suffix_end);
    const int64_t children =
        frame.group_size * top_k * layout.chunk_sizes()[static_cast<size_t>(level)];
    n += static_cast<double>(std::min(children, layout.n_gists(level - 1)));
  }
  return method.pivot == Pivot::kQuest ? 2 * n : n;  // maxima and minima
}

}  // namespace ssa
