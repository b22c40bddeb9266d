#include "evaluation/reading.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "evaluation/dense_reading.h"
#include "evaluation/sparse_reading.h"
#include "evaluation/whole_reading.h"

namespace ssa {
namespace {

double mean_of(std::span<const double> values) {
  return values.empty() ? 0.0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

}  // namespace

Reading::Reading(const EvalSetup& setup,
                 std::vector<const EvalPrompt*> prompts,
                 const Prefill& prefill)
    : setup_(setup),
      prompts_(std::move(prompts)),
      prefill_(prefill),
      scorer_(setup.model.model, setup.model.settings.token_ids) {
  for (const EvalPrompt* prompt : prompts_) {
    forced_.push_back(forced_suffix(*prompt));
  }
}

std::vector<std::vector<size_t>> Reading::batches() const {
  int64_t a_stream = 1;
  for (const ForcedSuffix& forced : forced_) {
    a_stream = std::max(a_stream, std::ssize(forced.ids) * std::ssize(prompts_));
  }
  const auto most =
      streams_together()
          ? static_cast<size_t>(std::max<int64_t>(1, setup_.options.most_rows / a_stream))
          : size_t{1};
  std::vector<std::vector<size_t>> batches;
  for (const size_t i : prefill_.methods) {
    const EvalMethod& method = setup_.methods[i];
    const auto joins = [&](const std::vector<size_t>& batch) {
      const EvalMethod& head = setup_.methods[batch.front()];
      return batch.size() < most && (head.sets_budget() == method.sets_budget() || !method.ratio);
    };
    if (batches.empty() || !joins(batches.back())) {
      batches.emplace_back();
    }
    batches.back().push_back(i);
  }
  return batches;
}

/// Each stream the same suffix, padded to the longest prompt's.
Reading::FedRows Reading::forced_rows(int64_t n_methods, int64_t first_stream) const {
  FedRows fed;
  int64_t n_rows = 0;
  for (const ForcedSuffix& forced : forced_) {
    fed.rows.lengths.push_back(forced.n_fed());
    n_rows = std::max(n_rows, forced.n_fed());
  }
  std::vector<int64_t> places(static_cast<size_t>(n_rows));
  std::iota(places.begin(), places.end(), 0);
  for (const ForcedSuffix& forced : forced_) {
    std::vector<int64_t> padded(forced.fed().begin(), forced.fed().end());
    padded.resize(places.size(), 0);
    std::vector<int64_t>& ids = fed.ids.emplace_back();
    std::vector<int64_t>& rows = fed.rows.places.emplace_back();
    for (int64_t i = 0; i < n_methods; ++i) {
      ids.insert(ids.end(), padded.begin(), padded.end());
      rows.insert(rows.end(), places.begin(), places.end());
    }
  }
  for (int64_t i = 0; i < n_methods; ++i) {
    fed.rows.streams.insert(fed.rows.streams.end(), places.size(), first_stream + i);
  }
  return fed;
}

/// Of forced rows [n_prompts, n_rows, hidden_size] those that predict a target: by prompt, then by
/// method.
Tensor Reading::predicting_rows(const Tensor& hidden, int64_t n_methods) const {
  const int64_t n = hidden.size(1) / n_methods;
  std::vector<Tensor> rows;
  for (size_t prompt = 0; prompt < prompts_.size(); ++prompt) {
    const ForcedSuffix& forced = forced_[prompt];
    rows.push_back(hidden[static_cast<int64_t>(prompt)]
                       .view({n_methods, n, -1})
                       .slice(1, forced.first, forced.n_fed())
                       .flatten(0, 1));
  }
  return rows.size() == 1 ? rows.front() : torch::cat(rows);
}

void Reading::score(std::span<const size_t> methods,
                    const MethodBudgets& budgets,
                    Outcomes& outcomes) {
  const int64_t first_stream = n_streams_, n_methods = std::ssize(methods);
  n_streams_ += n_methods;
  open_streams(methods, budgets, first_stream);
  const Tensor hidden =
      feed_counted(forced_rows(n_methods, first_stream), Counted{methods, outcomes});
  std::vector<int64_t> targets;
  for (const ForcedSuffix& forced : forced_) {
    for (int64_t i = 0; i < n_methods; ++i) {
      targets.insert(targets.end(), forced.targets().begin(), forced.targets().end());
    }
  }
  const TokenScores scores = scorer_.score(predicting_rows(hidden, n_methods), targets);
  size_t first = 0;
  for (size_t prompt = 0; prompt < prompts_.size(); ++prompt) {
    const size_t n = forced_[prompt].targets().size();
    for (size_t i = 0; i < methods.size(); ++i, first += n) {
      const auto predictions = std::span(scores.predictions).subspan(first, n);
      judge(outcomes[prompt][methods[i]],
            prompt,
            std::span(scores.nll).subspan(first, n),
            predictions);
      if (setup_.options.answers && !prompts_[prompt]->answer.empty()) {
        answers_.push_back({prompt,
                            methods[i],
                            first_stream + static_cast<int64_t>(i),
                            {setup_, *prompts_[prompt], {predictions.begin(), predictions.end()}}});
      }
    }
  }
  if (answers_.empty()) {
    rewind();
  }
}

void Reading::judge(MethodOutcome& outcome,
                    size_t prompt,
                    std::span<const double> nll,
                    std::span<const int64_t> predictions) const {
  const std::span<const int64_t> targets = forced_[prompt].targets();
  outcome.prefix_tokens = prefix_tokens(prompt);
  outcome.suffix_tokens = forced_[prompt].n_fed();
  outcome.nll = mean_of(nll);
  outcome.n_scored = std::ssize(nll);
  const auto gain = static_cast<size_t>(std::min(setup_.options.gain_tokens - 1, outcome.n_scored));
  outcome.gain_nll = mean_of(nll.first(gain));
  outcome.all_correct = !prompts_[prompt]->answer.empty() &&
                        std::equal(targets.begin(), targets.end(), predictions.begin());
}

/// One token a stream that is open for some prompt. Where it is not, padding.
Reading::FedRows Reading::next_rows(std::span<OpenAnswer* const> open) const {
  FedRows fed;
  for (const OpenAnswer* each : open) {
    fed.rows.streams.push_back(each->stream);
  }
  std::vector<int64_t>& streams = fed.rows.streams;
  std::sort(streams.begin(), streams.end());
  streams.erase(std::unique(streams.begin(), streams.end()), streams.end());
  fed.rows.lengths.assign(prompts_.size(), 1);
  fed.ids.assign(prompts_.size(), std::vector<int64_t>(streams.size(), 0));
  for (const ForcedSuffix& forced : forced_) {
    fed.rows.places.emplace_back(streams.size(), forced.n_fed());
  }
  for (const OpenAnswer* each : open) {
    const auto row = static_cast<size_t>(
        std::lower_bound(streams.begin(), streams.end(), each->stream) - streams.begin());
    fed.ids[each->prompt][row] = each->answer.last_id();
    fed.rows.places[each->prompt][row] = each->answer.place();
  }
  return fed;
}

void Reading::answer(Outcomes& outcomes) {
  std::vector<OpenAnswer*> open;
  for (OpenAnswer& each : answers_) {
    open.push_back(&each);
  }
  while (true) {
    std::erase_if(open, [](OpenAnswer* each) { return !each->answer.grow(); });
    if (open.empty()) {
      break;
    }
    const FedRows fed = next_rows(open);
    const std::vector<int64_t> next = scorer_.likeliest(feed(fed).flatten(0, 1));
    const std::vector<int64_t>& streams = fed.rows.streams;
    for (OpenAnswer* each : open) {
      const auto row = std::lower_bound(streams.begin(), streams.end(), each->stream);
      const size_t i = each->prompt * streams.size() + static_cast<size_t>(row - streams.begin());
      each->answer.follow_with(next[i]);
    }
  }
  for (const OpenAnswer& each : answers_) {
    outcomes[each.prompt][each.method].answer = each.answer.text();
  }
  answers_.clear();
}

void Reading::count(MethodOutcome& outcome,
                    KeyBudget attended,
                    double scanned,
                    int64_t n_choosing) const {
  const CausalLM& model = setup_.model.model;
  const ModelConfig& config = model.config();
  outcome.attended = std::move(attended);
  const auto vector_bytes = static_cast<double>(config.head_dim * config.n_kv_heads) *
                            static_cast<double>(torch::elementSize(model.dtype()));
  outcome.attended_bytes =
      2 * vector_bytes * std::accumulate(outcome.attended.begin(), outcome.attended.end(), 0.0);
  outcome.scanned = scanned;
  outcome.scanned_bytes = vector_bytes * scanned * static_cast<double>(n_choosing);
}

std::unique_ptr<Reading> read_prefixes(const EvalSetup& setup,
                                       std::vector<const EvalPrompt*> prompts,
                                       const Prefill& prefill) {
  if (prefill.kind == PrefillKind::kSparse && !setup.options.answers) {
    return std::make_unique<WholeReading>(setup, std::move(prompts), prefill);
  }
  if (prefill.kind == PrefillKind::kSparse) {
    return std::make_unique<SparseReading>(setup, std::move(prompts), prefill);
  }
  return std::make_unique<DenseReading>(setup, std::move(prompts), prefill);
}

}  // namespace ssa
