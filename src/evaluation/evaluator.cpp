#include "evaluation/evaluator.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "evaluation/block_tally.h"
#include "evaluation/token_scores.h"

namespace ssa {
namespace {

constexpr int64_t kMostRows = 1024;  // of suffixes in one pass, but for a single longer one

std::vector<int64_t> joined_pieces(const EvalPrompt& prompt) {
  std::vector<int64_t> ids;
  for (const auto& piece : prompt.pieces) {
    ids.insert(ids.end(), piece.begin(), piece.end());
  }
  return ids;
}

double mean_of(std::span<const double> values) {
  return values.empty() ? 0.0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

/// Of layers' numbers a row, streams of equal length one behind the other: means over each stream's
/// rows from `first` on, by stream and layer.
std::vector<std::vector<double>> layer_means(const std::vector<Tensor>& layers,
                                             int64_t n_streams,
                                             int64_t first) {
  std::vector<std::vector<double>> means(static_cast<size_t>(n_streams));
  if (layers.empty()) {
    return means;
  }
  const auto n_layers = static_cast<std::ptrdiff_t>(layers.size());
  const std::vector<double> all =
      to_numbers(torch::stack(layers, 1).unflatten(0, {n_streams, -1}).slice(1, first).mean(1));
  for (size_t i = 0; i < means.size(); ++i) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(i) * n_layers;
    means[i].assign(begin, begin + n_layers);
  }
  return means;
}

/// The text up to the first line end behind other text, without white space around it.
std::string first_line_of(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) {
    return {};
  }
  const std::string line = text.substr(begin, text.find('\n', begin) - begin);
  return line.substr(0, line.find_last_not_of(" \t\r") + 1);
}

}  // namespace

std::vector<std::string> budget_names(const EvalMethod& method) {
  const std::string ratio = concat(method.ratio.value_or(1.0));
  return {ratio + "@" + format_chunk_sizes(method.chunk), ratio};
}

const KeyBudget* find_budget(const KnownBudgets& known, const EvalMethod& method) {
  for (const std::string& name : budget_names(method)) {
    if (const auto found = known.find(name); found != known.end()) {
      return &found->second;
    }
  }
  return nullptr;
}

void add_budget(KnownBudgets& known, const EvalMethod& method, const KeyBudget& budget) {
  for (const std::string& name : budget_names(method)) {
    known.emplace(name, budget);
  }
}

/// One prefix in one cache, from which every method of the prefill goes on as a stream.
class Evaluator::Reading {
 public:
  Reading(const Evaluator& owner, const EvalPrompt& prompt, const Prefill& prefill)
      : owner_(owner),
        prompt_(prompt),
        prefill_(prefill),
        scorer_(owner.model_.model, owner.model_.settings.token_ids) {
    const CausalLM& model = owner.model_.model;
    const bool has_gists = prefill.kind == PrefillKind::kGist;
    ids_ = prefill.kind == PrefillKind::kNone ? prompt.lead : joined_pieces(prompt);
    frame_.has_gists = has_gists;
    frame_.rule = {owner.model_.settings.sink, owner.model_.settings.previous_chunks};
    frame_.n_layers = model.config().n_layers;
    frame_.group_size = model.config().n_heads / model.config().n_kv_heads;
    frame_.device = model.device();
    n_raw_ = static_cast<int64_t>(ids_.size());
    positions_ = consecutive_positions(0, n_raw_);
    GistMaskPlanPtr plan;
    if (has_gists) {
      const GistLayout prefix = owner.lay_prefix(prompt, prefill.chunk);
      frame_.layout = std::make_shared<GistLayout>(owner.with_suffix(prefix, prompt));
      ids_.assign(prefix.ids().begin(), prefix.ids().end());
      positions_.assign(prefix.positions().begin(), prefix.positions().end());
      plan =
          ids_.empty() ? nullptr : to_device(*plan_gist_mask(prefix, frame_.rule), frame_.device);
    }
    frame_.prefix_end = static_cast<int64_t>(ids_.size());
    frame_.n_prompt = frame_.prefix_end + static_cast<int64_t>(prompt.suffix.size());
    frame_.sequence_end = frame_.prefix_end + owner.most_suffix_tokens(prompt);
    read(std::move(plan));
  }

  /// Methods that may be fed to one pass, as `methods` orders them; those that set budgets apart.
  std::vector<std::vector<size_t>> batches() const {
    const int64_t a_stream = static_cast<int64_t>(prompt_.suffix.size() + prompt_.answer.size());
    const auto most =
        block_tally_ ? size_t{1} : static_cast<size_t>(std::max<int64_t>(1, kMostRows / a_stream));
    std::vector<std::vector<size_t>> batches;
    for (const size_t i : prefill_.methods) {
      const EvalMethod& method = owner_.methods_[i];
      const auto joins = [&](const std::vector<size_t>& batch) {
        const EvalMethod& head = owner_.methods_[batch.front()];
        return batch.size() < most && (head.sets_budget() == method.sets_budget() || !method.ratio);
      };
      if (batches.empty() || !joins(batches.back())) {
        batches.emplace_back();
      }
      batches.back().push_back(i);
    }
    return batches;
  }

  /// The methods' suffixes in one pass, under teacher forcing. `budgets`: one a method, or null.
  std::vector<MethodOutcome> score(std::span<const size_t> methods,
                                   std::span<const KeyBudget* const> budgets) {
    const int64_t first_stream = add_streams(methods, budgets);
    const bool answers = !prompt_.answer.empty();
    std::vector<int64_t> ids = prompt_.suffix;
    ids.insert(ids.end(), prompt_.answer.begin(), prompt_.answer.end());
    const int64_t first = answers ? static_cast<int64_t>(prompt_.suffix.size()) - 1 : 0;
    const std::span<const int64_t> targets = std::span(ids).subspan(static_cast<size_t>(first) + 1);
    const auto fed = std::span(ids).first(ids.size() - 1);

    std::vector<MethodOutcome> outcomes(methods.size());
    const Tensor hidden = feed_counted(outcomes, methods, first_stream, fed, first);
    const TokenScores scores = scorer_.score(hidden.slice(1, first).flatten(0, 1), targets);
    for (size_t i = 0; i < methods.size(); ++i) {
      const size_t n = targets.size();
      judge(outcomes[i],
            std::span(scores.nll).subspan(i * n, n),
            std::span(scores.predictions).subspan(i * n, n),
            targets);
      outcomes[i].suffix_tokens = static_cast<int64_t>(fed.size());
      if (answers) {
        answers_.push_back(
            {first_stream + static_cast<int64_t>(i),
             {scores.predictions.begin() + static_cast<std::ptrdiff_t>(i * n),
              scores.predictions.begin() + static_cast<std::ptrdiff_t>((i + 1) * n)}});
      }
    }
    if (!answers) {
      sequence_->rewind(frame_.prefix_end);
    }
    return outcomes;
  }

  /// Greedy answers of the methods scored since the last call, in their order; none without a gold
  /// answer. A pass holds the next token of each that goes on.
  std::vector<std::string> answers() {
    std::vector<Answer*> open;
    for (Answer& answer : answers_) {
      open.push_back(&answer);
    }
    while (true) {
      open.erase(std::remove_if(open.begin(), open.end(), [&](Answer* a) { return !grow(*a); }),
                 open.end());
      if (open.empty()) {
        break;
      }
      std::vector<Fed> fed;
      for (const Answer* answer : open) {
        const auto n = static_cast<int64_t>(prompt_.suffix.size() + answer->ids.size()) - 1;
        fed.push_back({answer->stream, n, {&answer->ids.back(), 1}});
      }
      const std::vector<int64_t> next = scorer_.likeliest(feed(fed));
      for (size_t i = 0; i < open.size(); ++i) {
        open[i]->next = next[i];
      }
    }
    std::vector<std::string> texts;
    for (const Answer& answer : answers_) {
      texts.push_back(owner_.options_.stop_at_newline ? first_line_of(answer.text) : answer.text);
    }
    answers_.clear();
    return texts;
  }

 private:
  /// Tokens of a stream's suffix, from index `first` of the suffix on.
  struct Fed {
    int64_t stream;
    int64_t first;
    std::span<const int64_t> ids;
  };
  /// A greedy answer on its way.
  struct Answer {
    int64_t stream;
    std::vector<int64_t> predictions;  // what follows each token of the gold answer
    std::vector<int64_t> ids = {};
    std::string text = {};
    int64_t next = -1;
    bool follows = true;  // goes the gold answer's way so far
  };

  void read(GistMaskPlanPtr plan) {
    CausalLM& model = owner_.model_.model;
    const int64_t n_suffix = owner_.most_suffix_tokens(prompt_);
    if (prefill_.kind == PrefillKind::kSparse) {
      block_tally_.emplace(frame_.n_layers, prefill_.blocks.block_size);
      sequence_ = std::make_unique<Sequence>(
          model,
          owner_.model_.make_sparse(prefill_.blocks, frame_.prefix_end + n_suffix, &*block_tally_));
    } else {
      const bool sums =
          std::any_of(prefill_.methods.begin(), prefill_.methods.end(), [&](size_t method) {
            return owner_.methods_[method].rule == KeyRule::kHeavy;
          });
      const int64_t n_streams = static_cast<int64_t>(prefill_.methods.size());
      auto attention = std::make_unique<EvaluationAttention>(
          KvCache(model.config(),
                  model.dtype(),
                  model.device(),
                  frame_.prefix_end + std::min(n_streams * n_suffix, n_suffix + kMostRows)),
          frame_,
          std::move(plan),
          sums);
      attention_ = attention.get();
      sequence_ = std::make_unique<Sequence>(model, std::move(attention));
    }
    sequence_->advance(ids_, positions_, owner_.options_.piece, {});
  }

  /// What a method's chooser sees.
  SuffixFrame frame_of(const EvalMethod& method) const {
    SuffixFrame frame = frame_;
    if (!frame.has_gists && method.ratio) {  // only marks chunks, and has no levels above them
      frame.layout = std::make_shared<GistLayout>(
          owner_.with_suffix(owner_.lay_prefix(prompt_, {method.chunk.front()}), prompt_));
    }
    return frame;
  }

  /// Numbers of streams are those of methods in their order. Returns the first.
  int64_t add_streams(std::span<const size_t> methods, std::span<const KeyBudget* const> budgets) {
    const int64_t first_stream = n_streams_;
    n_streams_ += static_cast<int64_t>(methods.size());
    for (size_t begin = 0, end = 0; begin < methods.size() && attention_ != nullptr; begin = end) {
      const EvalMethod& method = owner_.methods_[methods[begin]];
      std::vector<StreamMethod> alike;
      for (end = begin; end < methods.size() &&
                        (end == begin || choose_alike(method, owner_.methods_[methods[end]]));
           ++end) {
        alike.push_back({owner_.methods_[methods[end]], budgets[end]});
      }
      const SuffixFrame frame = frame_of(method);
      if (chooses(method, frame)) {
        attention_->add_chooser(make_key_chooser(
            alike, first_stream + static_cast<int64_t>(begin), frame, &attention_->received()));
      }
    }
    return first_stream;
  }

  /// Hidden states of all tokens, stream by stream.
  Tensor feed(std::span<const Fed> fed) {
    std::vector<int64_t> ids, positions;
    SuffixRows rows;
    for (const Fed& part : fed) {
      for (size_t i = 0; i < part.ids.size(); ++i) {
        const int64_t index = part.first + static_cast<int64_t>(i);
        ids.push_back(part.ids[i]);
        positions.push_back(n_raw_ + index);
        rows.streams.push_back(part.stream);
        rows.indices.push_back(frame_.prefix_end + index);
      }
    }
    if (attention_ != nullptr) {
      attention_->set_rows(std::move(rows));
    } else {
      sequence_->rewind(frame_.prefix_end + fed.front().first);
    }
    Tensor hidden;
    sequence_->advance(
        ids, positions, static_cast<int64_t>(ids.size()), [&](int64_t, const Tensor& all) {
          hidden = all;
        });
    return hidden;
  }

  void judge(MethodOutcome& outcome,
             std::span<const double> nll,
             std::span<const int64_t> predictions,
             std::span<const int64_t> targets) const {
    outcome.prefix_tokens = frame_.prefix_end;
    outcome.nll = mean_of(nll);
    outcome.n_scored = static_cast<int64_t>(nll.size());
    const auto gain =
        static_cast<size_t>(std::min(owner_.options_.gain_tokens - 1, outcome.n_scored));
    outcome.gain_nll = mean_of(nll.first(gain));
    outcome.all_correct =
        !prompt_.answer.empty() && std::equal(targets.begin(), targets.end(), predictions.begin());
  }

  /// The suffixes, and what they attended; evidence counts from row `first` of each on. Hidden
  /// states: [n_streams, n, hidden_size].
  Tensor feed_counted(std::vector<MethodOutcome>& outcomes,
                      std::span<const size_t> methods,
                      int64_t first_stream,
                      std::span<const int64_t> ids,
                      int64_t first) {
    const auto n = static_cast<int64_t>(ids.size());
    const auto n_streams = static_cast<int64_t>(methods.size());
    std::vector<Fed> fed;
    for (int64_t i = 0; i < n_streams; ++i) {
      fed.push_back({first_stream + i, 0, ids});
    }
    const std::vector<int64_t> evidence = evidence_keys();
    if (block_tally_) {
      block_tally_->start({frame_.prefix_end + first, frame_.prefix_end + n}, evidence);
      const Tensor hidden = feed(fed);
      block_tally_->stop();
      count(outcomes[0], block_tally_->attended(), block_tally_->n_scanned());
      outcomes[0].evidence_recall = block_tally_->evidence_recall();
      return hidden.unsqueeze(0);
    }
    PassTally tally;
    attention_->set_tally(
        &tally,
        evidence.empty() ? Tensor() : torch::tensor(evidence, torch::kInt64).to(frame_.device));
    const Tensor hidden = feed(fed);
    attention_->set_tally(nullptr, {});
    const auto attended = layer_means(tally.attended, n_streams, 0);
    const auto recall = layer_means(tally.evidence, n_streams, first);
    for (size_t i = 0; i < outcomes.size(); ++i) {
      const EvalMethod& method = owner_.methods_[methods[i]];
      const SuffixFrame frame = frame_of(method);
      count(outcomes[i],
            attended[i],
            chooses(method, frame) ? n_scanned(method, frame, frame_.prefix_end + n) : 0.0);
      outcomes[i].evidence_recall = recall[i];
    }
    return hidden.unflatten(0, {n_streams, n});
  }

  /// Takes in the next token where it is known. False: the answer is complete; else a pass behind
  /// its last token must say what follows. As far as the answer goes the gold one's way,
  /// `predictions` does.
  bool grow(Answer& answer) const {
    const auto& eos = owner_.model_.model.config().eos_token_ids;
    auto& ids = answer.ids;
    while (true) {
      if (answer.follows) {
        answer.next = answer.predictions[ids.size()];
      }
      if (std::find(eos.begin(), eos.end(), answer.next) != eos.end()) {
        return false;
      }
      answer.follows = answer.follows && ids.size() < prompt_.answer.size() &&
                       answer.next == prompt_.answer[ids.size()];
      ids.push_back(answer.next);
      answer.text = owner_.model_.tokenizer.decode(ids, /*skip_special=*/true);
      const size_t begin = answer.text.find_first_not_of(" \t\r\n");
      const bool line_ended =
          begin != std::string::npos && answer.text.find('\n', begin) != std::string::npos;
      if (static_cast<int64_t>(ids.size()) >= owner_.most_new_tokens(prompt_) ||
          (line_ended && owner_.options_.stop_at_newline)) {
        return false;
      }
      answer.follows = answer.follows && ids.size() < answer.predictions.size();
      if (!answer.follows) {
        return true;
      }
    }
  }

  /// Indices in the sequence of the evidence's raw tokens.
  std::vector<int64_t> evidence_keys() const {
    if (prompt_.evidence.empty() || prefill_.kind == PrefillKind::kNone) {
      return {};
    }
    std::vector<int64_t> keys;
    for (int64_t key = 0; key < frame_.prefix_end; ++key) {
      const auto i = static_cast<size_t>(key);
      const bool raw = !frame_.has_gists || frame_.layout->levels()[i] == kRawLevel;
      const bool marked =
          std::any_of(prompt_.evidence.begin(), prompt_.evidence.end(), [&](const Range& range) {
            return range.contains(positions_[i]);
          });
      if (raw && marked) {
        keys.push_back(key);
      }
    }
    return keys;
  }

  void count(MethodOutcome& outcome, KeyBudget attended, double n_scanned) const {
    const CausalLM& model = owner_.model_.model;
    const ModelConfig& config = model.config();
    outcome.attended = std::move(attended);
    const auto vector_bytes = static_cast<double>(config.head_dim * config.n_kv_heads) *
                              static_cast<double>(torch::elementSize(model.dtype()));
    outcome.attended_bytes =
        2 * vector_bytes * std::accumulate(outcome.attended.begin(), outcome.attended.end(), 0.0);
    outcome.scanned = n_scanned;
    // Layer 0 chooses nothing where gists do.
    const int64_t n_choosing = config.n_layers - (block_tally_ ? 0 : 1);
    outcome.scanned_bytes = vector_bytes * outcome.scanned * static_cast<double>(n_choosing);
  }

  const Evaluator& owner_;
  const EvalPrompt& prompt_;
  const Prefill& prefill_;
  TokenScorer scorer_;
  SuffixFrame frame_;
  std::vector<int64_t> ids_, positions_;  // of the prefix
  int64_t n_raw_ = 0;                     // raw tokens of the prefix
  int64_t n_streams_ = 0;
  std::vector<Answer> answers_;
  EvaluationAttention* attention_ = nullptr;  // owned by the sequence; null where it is sparse
  std::optional<BlockTally> block_tally_;     // where it is
  std::unique_ptr<Sequence> sequence_;
};

Evaluator::Evaluator(EvalModel model, std::vector<EvalMethod> methods, EvalOptions options)
    : model_(std::move(model)), methods_(std::move(methods)), options_(options) {}

/// Those that set budgets come first.
std::vector<Evaluator::Prefill> Evaluator::plan() const {
  std::vector<Prefill> prefills;
  for (const PrefillKind kind :
       {PrefillKind::kGist, PrefillKind::kFull, PrefillKind::kSparse, PrefillKind::kNone}) {
    for (size_t i = 0; i < methods_.size(); ++i) {
      const EvalMethod& method = methods_[i];
      if (method.prefill != kind) {
        continue;
      }
      const ChunkSizes chunk = kind == PrefillKind::kGist ? method.chunk : ChunkSizes{};
      const auto same = [&](const Prefill& other) {
        return other.kind == kind && other.chunk == chunk && other.blocks == method.blocks;
      };
      auto found = std::find_if(prefills.begin(), prefills.end(), same);
      if (found == prefills.end()) {
        found = prefills.insert(prefills.end(), Prefill{kind, chunk, method.blocks, {}});
      }
      found->methods.push_back(i);
    }
  }
  const auto sets_budget = [&](size_t i) { return methods_[i].sets_budget(); };
  for (Prefill& prefill : prefills) {
    std::stable_partition(prefill.methods.begin(), prefill.methods.end(), sets_budget);
  }
  std::stable_partition(prefills.begin(), prefills.end(), [&](const Prefill& prefill) {
    return sets_budget(prefill.methods.front());
  });
  return prefills;
}

int64_t Evaluator::most_new_tokens(const EvalPrompt& prompt) const {
  return options_.predict > 0 ? options_.predict : static_cast<int64_t>(prompt.answer.size());
}

void Evaluator::check_length(const EvalPrompt& prompt) const {
  const int64_t n_new = prompt.answer.empty() ? 0 : most_new_tokens(prompt);
  const auto n_answer = static_cast<int64_t>(prompt.answer.size());
  const int64_t n =
      prompt.n_prefix() + static_cast<int64_t>(prompt.suffix.size()) + std::max(n_new, n_answer);
  const int64_t most = model_.model.config().max_position_embeddings;
  check(n <= most,
        prompt.where,
        ": ",
        n,
        " tokens with the answer; the model has ",
        most,
        " positions");
}

GistLayout Evaluator::lay_prefix(const EvalPrompt& prompt, const ChunkSizes& chunk) const {
  GistSettings settings = model_.settings;
  settings.chunk = chunk;
  settings.word_aware = model_.boundaries != nullptr;
  InterleaveOptions options;
  options.boundaries = model_.boundaries;
  options.bos_id = model_.model.config().bos_token_id;
  return lay_pieces(prompt.pieces, settings, options);
}

int64_t Evaluator::most_suffix_tokens(const EvalPrompt& prompt) const {
  return static_cast<int64_t>(prompt.suffix.size() + prompt.answer.size()) +
         most_new_tokens(prompt);
}

/// Ids of the suffix do not matter.
GistLayout Evaluator::with_suffix(GistLayout prefix, const EvalPrompt& prompt) const {
  const std::vector<int64_t> suffix(static_cast<size_t>(most_suffix_tokens(prompt)));
  prefix.append_raw(suffix);
  return prefix;
}

std::vector<MethodOutcome> Evaluator::run(const EvalPrompt& prompt,
                                          const KnownBudgets& known) const {
  check_length(prompt);
  std::vector<MethodOutcome> outcomes(methods_.size());
  KnownBudgets measured;
  for (const Prefill& prefill : plan()) {
    Reading reading(*this, prompt, prefill);
    std::vector<size_t> scored;
    const auto answer = [&] {
      const std::vector<std::string> answers = reading.answers();
      for (size_t i = 0; i < answers.size(); ++i) {
        outcomes[scored[i]].answer = answers[i];
      }
      scored.clear();
    };
    for (const std::vector<size_t>& batch : reading.batches()) {
      run_batch(reading, batch, known, measured, outcomes);
      scored.insert(scored.end(), batch.begin(), batch.end());
      if (prefill.kind == PrefillKind::kSparse) {  // one stream at a time
        answer();
      }
    }
    answer();
  }
  return outcomes;
}

void Evaluator::run_batch(Reading& reading,
                          std::span<const size_t> batch,
                          const KnownBudgets& known,
                          KnownBudgets& measured,
                          std::vector<MethodOutcome>& outcomes) const {
  std::vector<const KeyBudget*> budgets;
  std::vector<std::string> sources;
  for (const size_t i : batch) {
    const EvalMethod& method = methods_[i];
    const KeyBudget* here = find_budget(measured, method);
    budgets.push_back(here != nullptr ? here : find_budget(known, method));
    sources.push_back(method.sets_budget()        ? "own"
                      : !method.ratio             ? ""
                      : here != nullptr           ? "run"
                      : budgets.back() != nullptr ? "file"
                                                  : "rule");
  }
  std::vector<MethodOutcome> scored = reading.score(batch, budgets);
  for (size_t i = 0; i < batch.size(); ++i) {
    const EvalMethod& method = methods_[batch[i]];
    scored[i].budget = sources[i];
    if (method.sets_budget()) {
      add_budget(measured, method, scored[i].attended);
    }
    outcomes[batch[i]] = std::move(scored[i]);
  }
}

}  // namespace ssa
