#include "evaluation/sparsity.h"

#include <algorithm>
#include <memory>
#include <string>

#include "attention/block_sparse_attention.h"
#include "base/error.h"
#include "base/text.h"
#include "data/lay_sequence.h"
#include "evaluation/attention_measures.h"
#include "evaluation/token_scores.h"
#include "selection/unfold_mask.h"

namespace ssa {
namespace {

constexpr int64_t kLogitRows = 512;         // at once, where more are no faster
constexpr int64_t kTokensTogether = 32768;  // of windows in one pass, on CUDA

/// A choice of keys for sampled queries of a layer's input.
struct Choice {
  Tensor tokens;  // [n_rows]
  Tensor chosen;  // [n_kv_heads, n_rows, n_keys]
  Tensor lonely;  // [n_kv_heads]; may be undefined
};
/// Of each of the windows that lie one behind the other; none: the layer does not choose.
using ChoiceFn = std::function<std::vector<Choice>(int64_t layer, const AttentionInput& in)>;

/// Attends as another context does, and measures on the way.
class MeasuringContext : public AttentionContext {
 public:
  MeasuringContext(AttentionContext& inner, ChoiceFn choose, std::vector<LayerMeasures>& measures)
      : inner_(inner), choose_(std::move(choose)), measures_(measures) {}

  Tensor attend(int64_t layer, const AttentionInput& in) override {
    measure(layer, in);
    return inner_.attend(layer, in);
  }
  Tensor attend_gated(int64_t layer, const AttentionInput& in, const Tensor& gates) override {
    measure(layer, in);
    return inner_.attend_gated(layer, in, gates);
  }

 private:
  void measure(int64_t layer, const AttentionInput& in) {
    const std::vector<Choice> choices = choose_(layer, in);
    for (size_t i = 0; i < choices.size(); ++i) {
      const int64_t n = in.q.size(0) / std::ssize(choices), first = static_cast<int64_t>(i) * n;
      const auto own = [&](const Tensor& x) { return x.narrow(0, first, n); };
      measures_[static_cast<size_t>(layer)].add(
          measure_queries({own(in.q).index_select(0, choices[i].tokens),
                           choices[i].tokens,
                           own(in.k),
                           own(in.v),
                           choices[i].chosen,
                           in.scale}),
          choices[i].lonely);
    }
  }

  AttentionContext& inner_;
  ChoiceFn choose_;
  std::vector<LayerMeasures>& measures_;
};

/// n tokens of [begin, end), evenly spaced, the last among them.
Tensor sampled(int64_t begin, int64_t end, int64_t n, torch::Device device) {
  const int64_t all = end - begin, taken = std::min(n, all);
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < taken; ++i) {
    tokens.push_back(begin + (i + 1) * all / taken - 1);
  }
  return torch::tensor(tokens, torch::kInt64).to(device);
}

/// Share of blocks that no query behind them chooses, among those with a query behind them. (A
/// block's own queries always take it.) [n_kv_heads]
Tensor lonely_blocks(const Tensor& chosen, const Tensor& own) {
  const int64_t n_blocks = own.max().item<int64_t>() + 1;
  const Tensor elsewhere = chosen.lt(0).logical_or(chosen == own.unsqueeze(1));
  const Tensor marks =
      torch::zeros({chosen.size(0), n_blocks + 1}, chosen.options().dtype(torch::kFloat64));
  marks.scatter_(1, chosen.masked_fill(elsewhere, n_blocks).flatten(1), 1.0);
  return n_blocks == 1 ? Tensor() : 1 - marks.narrow(1, 0, n_blocks - 1).mean(1);
}

/// `chosen`: of one window, [n_kv_heads, n, n_places].
Choice choose_by_blocks(const Tensor& chosen, const BlockOptions& blocks, int64_t n_queries) {
  const int64_t n_kv_heads = chosen.size(0), n = chosen.size(1);
  const Tensor key = torch::arange(n, chosen.options());
  const Tensor block_of = key.div(blocks.block_size, "floor");
  Choice choice;
  choice.tokens = sampled(0, n, n_queries, chosen.device());
  choice.lonely = lonely_blocks(chosen, block_of);
  const Tensor rows = chosen.index_select(1, choice.tokens);
  const int64_t n_blocks = (n + blocks.block_size - 1) / blocks.block_size;
  const Tensor marks =
      torch::zeros({n_kv_heads, rows.size(1), n_blocks + 1}, rows.options().dtype(torch::kBool))
          .scatter_(2, torch::where(rows < 0, n_blocks, rows), true);
  choice.chosen = marks.index_select(2, block_of).logical_and(key <= choice.tokens.unsqueeze(1));
  return choice;
}

/// Sums over scored tokens.
struct LossSums {
  double n = 0;
  Tensor full;                 // [] float64, on the model's device
  Tensor sparse, kl, kl_back;  // [n_budgets] each
};

/// Logits held at once are so many; on the CPU a bounded number of rows serves the caches.
int64_t rows_of_logits(const CausalLM& model) {
  const int64_t vocab_size = model.config().vocab_size;
  return model.device().is_cuda() ? std::max(kLogitRows, (int64_t{1} << 27) / vocab_size)
                                  : kLogitRows;
}

Tensor log_p(CausalLM& model, const Tensor& hidden) {
  const Tensor logits = model.logits(hidden);
  return logits.log_softmax(-1, torch::promote_types(logits.scalar_type(), torch::kFloat32));
}

/// Final states of scored rows under one mode.
Tensor scored_rows(CausalLM& model, const Batch& batch, AttentionContext& context) {
  return model.forward(batch.ids, batch.positions, context).index_select(0, batch.target_rows);
}

void add_losses(LossSums& sums,
                CausalLM& model,
                const Tensor& full,
                const std::vector<Tensor>& sparse,
                const Tensor& targets) {
  const auto wide = torch::dtype(torch::kFloat64).device(full.device());
  if (!sums.full.defined()) {
    sums.full = torch::zeros({}, wide);
    for (Tensor* each : {&sums.sparse, &sums.kl, &sums.kl_back}) {
      *each = torch::zeros({std::ssize(sparse)}, wide);
    }
  }
  const int64_t most_rows = rows_of_logits(model);
  for (int64_t first = 0; first < full.size(0); first += most_rows) {
    const int64_t n = std::min(most_rows, full.size(0) - first);
    const Tensor wanted = targets.narrow(0, first, n).unsqueeze(1);
    const auto nll = [&](const Tensor& log) {
      return -log.gather(1, wanted).to(torch::kFloat64).sum();
    };
    const Tensor a = log_p(model, full.narrow(0, first, n));
    sums.full.add_(nll(a));
    sums.n += static_cast<double>(n);
    for (size_t i = 0; i < sparse.size(); ++i) {
      const auto budget = static_cast<int64_t>(i);
      const Tensor b = log_p(model, sparse[i].narrow(0, first, n)), apart = a - b;
      sums.sparse[budget].add_(nll(b));
      sums.kl[budget].add_((a.exp() * apart).sum(torch::kFloat64));
      sums.kl_back[budget].sub_((b.exp() * apart).sum(torch::kFloat64));
    }
  }
}

/// One run over all windows.
class Measurement {
 public:
  Measurement(CausalLM& model, const SparsityMethod& method, const SparsityOptions& options)
      : model_(model),
        method_(method),
        options_(options),
        measures_(static_cast<size_t>(model.config().n_layers)) {
    budgets_ = {method.blocks.blocks.n_blocks};
    for (const int64_t budget : options.budgets) {
      if (!method.gists && std::find(budgets_.begin(), budgets_.end(), budget) == budgets_.end()) {
        budgets_.push_back(budget);
      }
    }
  }

  /// Windows that one pass holds.
  int64_t windows_together() const {
    return method_.gists || !model_.device().is_cuda()
               ? 1
               : std::max<int64_t>(1, kTokensTogether / options_.length);
  }

  /// Whole windows, one behind the other: so many as go together, or fewer.
  void add_windows(std::span<const int64_t> ids) {
    if (method_.gists) {
      add_gist_window(ids);
    } else {
      add_block_windows(ids);
    }
  }

  Json result() const {
    Json out = losses();
    std::vector<Json> layers;
    int64_t n_measured = 0, n_beyond = 0;
    for (size_t layer = 0; layer < measures_.size(); ++layer) {
      if (!measures_[layer].empty()) {
        layers.push_back(measures_[layer].to_json());
        layers.back()["layer"] = layer;
        n_measured += measures_[layer].n_measured();
        n_beyond += measures_[layer].n_beyond();
      }
    }
    out["mean"] = mean_of_layers(layers);
    out["layers"] = layers;
    out["bound"] = {{"measured", n_measured}, {"violated", n_beyond}};
    return out;
  }

 private:
  std::vector<Stream> streams(Stream stream) const {
    return std::vector<Stream>(measures_.size(), stream);
  }

  void add_block_windows(std::span<const int64_t> ids) {
    std::vector<TrainingRow> rows;
    for (auto window = ids.begin(); window != ids.end(); window += options_.length) {
      rows.push_back({{lay_sequence({{}, {window, window + options_.length}, 1},
                                    {.settings = {}, .gists = false})}});
    }
    const Batch batch = to_device(make_batch(rows, {}), model_.device());
    SparseSparseOptions options = method_.blocks;
    options.alignment = Alignment::kNone;
    const ChoiceFn choose = [&](int64_t, const AttentionInput& in) {
      const Tensor chosen =
          chosen_blocks({in.q, in.k, in.v, std::ssize(rows), in.scale}, options.blocks);
      std::vector<Choice> choices;
      for (const Tensor& window : chosen.chunk(std::ssize(rows))) {
        choices.push_back(choose_by_blocks(window, options.blocks, options_.n_queries));
      }
      return choices;
    };
    SparseSparseOptions full_options = options;
    full_options.variant = SparseVariant::kFullAttention;
    StreamAttention full(batch, full_options, streams(Stream::kFull));
    MeasuringContext measuring(full, choose, measures_);
    const Tensor full_rows = scored_rows(model_, batch, measuring);
    std::vector<Tensor> sparse_rows;
    for (const int64_t budget : budgets_) {
      SparseSparseOptions at_budget = options;
      at_budget.blocks.n_blocks = budget;
      StreamAttention sparse(batch, at_budget, streams(Stream::kSparse));
      sparse_rows.push_back(scored_rows(model_, batch, sparse));
    }
    add_losses(sums_, model_, full_rows, sparse_rows, batch.target_ids);
  }

  /// The suffix unfolds; layer 0 and the prefix attend under the gist mask, where nobody chooses.
  void add_gist_window(std::span<const int64_t> ids) {
    const SparsityMethod::Gists& gists = *method_.gists;
    const auto n_prefix = std::ssize(ids) - std::min(gists.suffix_tokens, std::ssize(ids) / 2);
    const auto middle = ids.begin() + n_prefix;
    const TrainingRow row{
        {lay_sequence({{{ids.begin(), middle}}, {middle, ids.end()}, n_prefix},
                      {.settings = gists.settings, .boundaries = gists.boundaries})}};
    const MaskRule rule{gists.settings.sink, gists.settings.previous_chunks};
    const Batch batch = to_device(make_batch({&row, 1}, {rule, true}), model_.device());
    const GistLayout& layout = row.sequences[0].layout;
    const ChoiceFn choose = [&](int64_t layer, const AttentionInput& in) {
      return layer == 0 ? std::vector<Choice>()
                        : std::vector{choose_by_gists(in, layout, rule, gists.selection)};
    };
    TrainingAttention sparse(batch, {TrainingMode::kUnfold, rule, gists.selection});
    MeasuringContext measuring(sparse, choose, measures_);
    const Tensor sparse_rows = scored_rows(model_, batch, measuring);
    const Batch raw = raw_only(batch);
    TrainingAttention full(raw, {TrainingMode::kFull, rule});
    add_losses(sums_, model_, scored_rows(model_, raw, full), {sparse_rows}, batch.target_ids);
  }

  Choice choose_by_gists(const AttentionInput& in,
                         const GistLayout& layout,
                         const MaskRule& rule,
                         const SelectionOptions& selection) const {
    const int64_t begin = layout.prefix_end(), n = layout.n_tokens();
    const Tensor seen =
        unfold_mask(in.q.slice(0, begin), in.k.transpose(0, 1), layout, rule, selection);
    Choice choice;
    choice.tokens = sampled(begin, n, options_.n_queries, in.q.device());
    choice.chosen = seen.index_select(1, choice.tokens - begin);
    std::vector<int64_t> raw;
    for (int64_t t = rule.sink; t < begin; ++t) {
      if (layout.levels()[static_cast<size_t>(t)] == kRawLevel) {
        raw.push_back(t);
      }
    }
    const Tensor attended =
        seen.any(1).index_select(1, torch::tensor(raw, torch::kInt64).to(in.q.device()));
    choice.lonely = 1 - attended.to(torch::kFloat64).mean(1);
    return choice;
  }

  Json losses() const {
    const std::vector<double> sparse = to_numbers(sums_.sparse / sums_.n),
                              kl = to_numbers(sums_.kl / sums_.n);
    const double full = sums_.full.item<double>() / sums_.n;
    Json out = {{"n_tokens", sums_.n},
                {"full_loss", full},
                {"sparse_loss", sparse[0]},
                {"attention_gap", sparse[0] - full},
                {"kl_full_to_sparse", kl[0]},
                {"kl_sparse_to_full", sums_.kl_back[0].item<double>() / sums_.n}};
    out["capability_gap"] =
        options_.reference_loss ? Json(full - *options_.reference_loss) : Json();
    Json budgets = Json::array();
    for (size_t i = 0; !method_.gists && i < budgets_.size(); ++i) {
      budgets.push_back(
          {{"blocks", budgets_[i]}, {"sparse_loss", sparse[i]}, {"kl_full_to_sparse", kl[i]}});
    }
    out["budgets"] = budgets;
    return out;
  }

  CausalLM& model_;
  const SparsityMethod& method_;
  const SparsityOptions& options_;
  std::vector<int64_t> budgets_;  // the measured one first
  std::vector<LayerMeasures> measures_;
  LossSums sums_;
};

}  // namespace

Json measure_sparsity(CausalLM& model,
                      std::span<const int64_t> ids,
                      const SparsityMethod& method,
                      const SparsityOptions& options,
                      const std::function<void(int64_t done, int64_t all)>& progress) {
  const torch::NoGradGuard no_grad;
  const int64_t n_windows = std::min(options.n_windows, std::ssize(ids) / options.length);
  check(n_windows > 0, "the text has ", ids.size(), " tokens, and a window wants ", options.length);
  check(options.length <= model.config().max_position_embeddings,
        "windows of ",
        options.length,
        " tokens are beyond the model's ",
        model.config().max_position_embeddings,
        " positions");
  Measurement measurement(model, method, options);
  for (int64_t first = 0; first < n_windows;) {
    const int64_t n = std::min(measurement.windows_together(), n_windows - first);
    measurement.add_windows(ids.subspan(static_cast<size_t>(first * options.length),
                                        static_cast<size_t>(n * options.length)));
    first += n;
    if (progress) {
      progress(first, n_windows);
    }
  }
  Json result = measurement.result();
  result["n_windows"] = n_windows;
  result["length"] = options.length;
  return result;
}

}  // namespace ssa
