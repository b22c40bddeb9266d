#include "evaluation/whole_reading.h"

#include <algorithm>

#include "attention/block_sparse_attention.h"
#include "base/error.h"
#include "evaluation/prompt_layout.h"
#include "selection/block_selection.h"

namespace ssa {
namespace {

/// Attends as another context does, and counts on the way what chosen blocks come to.
class CountingContext : public AttentionContext {
 public:
  CountingContext(AttentionContext& inner, const BlockOptions& blocks, CountedRows rows)
      : inner_(inner), blocks_(blocks), rows_(std::move(rows)) {}

  Tensor attend(int64_t layer, const AttentionInput& in) override {
    count(in);
    return inner_.attend(layer, in);
  }
  Tensor attend_gated(int64_t layer, const AttentionInput& in, const Tensor& gates) override {
    count(in);
    return inner_.attend_gated(layer, in, gates);
  }

  /// Means over rows and heads by layer: [n_layers, n_prompts]; of evidence undefined without it.
  Tensor attended() const { return torch::stack(attended_); }
  Tensor recalled() const { return recalled_.empty() ? Tensor() : torch::stack(recalled_); }

 private:
  void count(const AttentionInput& in) {
    const int64_t n_prompts = rows_.tokens.size(0);
    const Tensor all = chosen_blocks({in.q, in.k, in.v, n_prompts, in.scale}, blocks_)
                           .unflatten(0, {n_prompts, -1});  // [n_prompts, heads, tokens, places]
    const Tensor at = rows_.tokens.unsqueeze(1).unsqueeze(3);
    const Tensor chosen =
        all.gather(2, at.expand({n_prompts, all.size(1), rows_.tokens.size(1), all.size(3)}));
    const Tensor there = chosen >= 0;
    // All blocks but the row's own are whole.
    const Tensor n_keys = (there.sum(3) - 1) * blocks_.block_size +
                          rows_.tokens.remainder(blocks_.block_size).unsqueeze(1) + 1;
    attended_.push_back(mean_of(n_keys.to(torch::kFloat64), rows_.counts));
    if (rows_.evidence.defined()) {
      const Tensor of_block =
          rows_.evidence.unsqueeze(1).unsqueeze(1).expand({-1, all.size(1), chosen.size(2), -1});
      const Tensor found = of_block.gather(3, chosen.clamp_min(0)).mul(there).sum(3);
      const Tensor n_evidence = rows_.evidence.sum(1).view({-1, 1, 1});
      recalled_.push_back(mean_of(found / n_evidence, rows_.predicts));
    }
  }

  /// values: [n_prompts, heads, n_rows].
  static Tensor mean_of(const Tensor& values, const Tensor& counts) {
    return (values.mean(1) * counts).sum(1) / counts.sum(1);
  }

  AttentionContext& inner_;
  BlockOptions blocks_;
  CountedRows rows_;
  std::vector<Tensor> attended_, recalled_;
};

/// [n_layers, n_prompts] as numbers of each prompt.
std::vector<std::vector<double>> by_prompt(const Tensor& layers) {
  const std::vector<double> all = to_numbers(layers.transpose(0, 1));
  std::vector<std::vector<double>> numbers;
  for (auto next = all.begin(); next != all.end(); next += layers.size(0)) {
    numbers.emplace_back(next, next + layers.size(0));
  }
  return numbers;
}

}  // namespace

WholeReading::WholeReading(const EvalSetup& setup,
                           std::vector<const EvalPrompt*> prompts,
                           const Prefill& prefill)
    : Reading(setup, std::move(prompts), prefill) {
  for (const EvalPrompt* prompt : prompts_) {
    prefixes_.push_back(joined_pieces(*prompt));
    n_prefix_.push_back(std::ssize(prefixes_.back()));
  }
}

Tensor WholeReading::feed(const FedRows&) {
  fail("prompts that were read whole have nothing to go on from");
}

/// Prefix and suffix of each prompt, padded to the longest.
Batch WholeReading::make_batch(const FedRows& fed) const {
  std::vector<std::vector<int64_t>> rows;
  size_t longest = 0;
  for (size_t prompt = 0; prompt < prefixes_.size(); ++prompt) {
    rows.push_back(prefixes_[prompt]);
    const auto suffix = forced_[prompt].fed();
    rows.back().insert(rows.back().end(), suffix.begin(), suffix.end());
    longest = std::max(longest, prefixes_[prompt].size() + fed.ids[prompt].size());
  }
  std::vector<int64_t> ids;
  for (std::vector<int64_t>& row : rows) {
    row.resize(longest, 0);
    ids.insert(ids.end(), row.begin(), row.end());
  }
  const torch::Device device = setup_.model.model.device();
  GistLayout layout(ChunkSizes{1}, {kRawLevel});  // without gists: any ids serve
  layout.append_raw(rows.front());
  Batch batch;
  batch.ids = torch::tensor(ids, torch::kInt64).to(device);
  batch.positions = torch::arange(static_cast<int64_t>(longest), batch.ids.options())
                        .repeat(static_cast<int64_t>(rows.size()));
  batch.n_sequences = std::ssize(rows);
  batch.longest = static_cast<int64_t>(longest);
  batch.groups.push_back({0, batch.n_sequences, layout, {}});
  return batch;
}

/// [n_prompts, n_blocks] float64 on the device; undefined where no prompt marks any.
Tensor WholeReading::evidence_by_block(int64_t n_blocks) const {
  const int64_t size = prefill_.blocks.block_size;
  const Tensor blocks = torch::zeros({std::ssize(prompts_), n_blocks}, torch::kFloat64);
  auto count = blocks.accessor<double, 2>();
  bool any = false;
  for (size_t prompt = 0; prompt < prompts_.size(); ++prompt) {
    const std::vector<Range>& evidence = prompts_[prompt]->evidence;
    for (int64_t key = 0; key < n_prefix_[prompt] && !evidence.empty(); ++key) {
      if (std::any_of(evidence.begin(), evidence.end(), [&](const Range& range) {
            return range.contains(key);
          })) {
        count[static_cast<int64_t>(prompt)][key / size] += 1;
        any = true;
      }
    }
  }
  return any ? blocks.to(setup_.model.model.device()) : Tensor();
}

CountedRows WholeReading::counted_rows(int64_t n_rows, int64_t n_tokens) const {
  const auto column = [](const std::vector<int64_t>& values) {
    return torch::tensor(values, torch::kInt64).unsqueeze(1);
  };
  std::vector<int64_t> firsts, ends;
  for (const ForcedSuffix& forced : forced_) {
    firsts.push_back(forced.first);
    ends.push_back(forced.n_fed());
  }
  const torch::Device device = setup_.model.model.device();
  const Tensor row = torch::arange(n_rows, torch::kInt64), counts = row < column(ends);
  const Tensor predicts = counts.logical_and(row >= column(firsts));
  const int64_t size = prefill_.blocks.block_size;
  return {(column(n_prefix_) + row).to(device),
          counts.to(torch::kFloat64).to(device),
          predicts.to(torch::kFloat64).to(device),
          evidence_by_block((n_tokens + size - 1) / size)};
}

/// Blocks ranked by the queries, on average.
double WholeReading::scanned(size_t prompt) const {
  double sum = 0;
  for (int64_t i = 0; i < forced_[prompt].n_fed(); ++i) {
    sum += static_cast<double>(ranked_blocks(n_prefix_[prompt] + i, prefill_.blocks.block_size));
  }
  return sum / static_cast<double>(forced_[prompt].n_fed());
}

Tensor WholeReading::feed_counted(const FedRows& fed, const Counted& counted) {
  CausalLM& model = setup_.model.model;
  const int64_t n_layers = model.config().n_layers;
  const Batch batch = make_batch(fed);
  const CountedRows rows = counted_rows(fed.rows.size(), batch.longest);
  SparseSparseOptions options = setup_.model.sparse;
  options.blocks = prefill_.blocks;
  StreamAttention sparse(
      batch, options, std::vector<Stream>(static_cast<size_t>(n_layers), Stream::kSparse));
  CountingContext counting(sparse, prefill_.blocks, rows);
  const Tensor hidden =
      model.forward(batch.ids, batch.positions, counting).unflatten(0, {batch.n_sequences, -1});

  const auto attended = by_prompt(counting.attended());
  const auto recalled = rows.evidence.defined() ? by_prompt(counting.recalled()) : attended;
  for (size_t prompt = 0; prompt < prompts_.size(); ++prompt) {
    MethodOutcome& outcome = counted.outcomes[prompt][counted.methods.front()];
    count(outcome, attended[prompt], scanned(prompt), n_layers);  // layer 0 chooses, too
    if (!prompts_[prompt]->evidence.empty()) {
      outcome.evidence_recall = recalled[prompt];
    }
  }
  return hidden.gather(1, rows.tokens.unsqueeze(2).expand({-1, -1, hidden.size(2)}));
}

}  // namespace ssa
