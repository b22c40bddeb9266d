#include "evaluation/evaluator.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "evaluation/block_tally.h"

namespace ssa {
namespace {

constexpr int64_t kRowsOfLogits = 128;  // at once: [rows, vocab_size] float32

/// Likelihood of tokens, and what would have been likelier.
struct TokenScores {
  std::vector<double> nll;           // [n]
  std::vector<int64_t> predictions;  // [n]: the likeliest token that may be generated
};

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

std::vector<double> to_numbers(const std::vector<Tensor>& scalars) {
  if (scalars.empty()) {
    return {};
  }
  const Tensor all = torch::stack(scalars).to(torch::kCPU, torch::kFloat64).contiguous();
  return {all.const_data_ptr<double>(), all.const_data_ptr<double>() + all.numel()};
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

/// One prefix in one cache, from which every method of the prefill goes on.
class Evaluator::Reading {
 public:
  Reading(Evaluator& owner, const EvalPrompt& prompt, const Prefill& prefill)
      : owner_(owner), prompt_(prompt), prefill_(prefill) {
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
    if (has_gists) {
      frame_.layout = std::make_shared<GistLayout>(owner.lay(prompt, prefill.chunk));
      frame_.prefix_end = frame_.layout->prefix_end();
      const auto n = static_cast<size_t>(frame_.prefix_end);
      const auto ids = frame_.layout->ids().first(n),
                 positions = frame_.layout->positions().first(n);
      ids_.assign(ids.begin(), ids.end());
      positions_.assign(positions.begin(), positions.end());
    } else {
      frame_.prefix_end = n_raw_;
    }
    frame_.n_prompt = frame_.prefix_end + static_cast<int64_t>(prompt.suffix.size());
    read();
  }

  MethodOutcome run(const EvalMethod& method, const KeyBudget* budget) {
    SuffixFrame frame = frame_;
    if (!frame.has_gists && method.ratio) {  // only marks chunks, and has no levels above them
      frame.layout = std::make_shared<GistLayout>(owner_.lay(prompt_, {method.chunk.front()}));
    }
    const auto chooser = attention_ == nullptr
                             ? nullptr
                             : make_key_chooser(method, frame, budget, &attention_->received());
    set_chooser(chooser.get());
    sequence_->rewind(frame_.prefix_end);
    MethodOutcome outcome;
    outcome.prefix_tokens = frame_.prefix_end;
    score(outcome, chooser.get());
    set_chooser(nullptr);
    return outcome;
  }

 private:
  void read() {
    CausalLM& model = owner_.model_.model;
    const int64_t capacity = frame_.n_prompt + static_cast<int64_t>(prompt_.answer.size()) +
                             owner_.most_new_tokens(prompt_);
    const bool sums =
        std::any_of(prefill_.methods.begin(), prefill_.methods.end(), [&](size_t method) {
          return owner_.methods_[method].rule == KeyRule::kHeavy;
        });
    if (prefill_.kind == PrefillKind::kSparse) {
      block_tally_.emplace(frame_.n_layers, prefill_.blocks.block_size);
      sequence_ = std::make_unique<Sequence>(
          model, owner_.model_.make_sparse(prefill_.blocks, capacity, &*block_tally_));
    } else {
      auto attention = std::make_unique<EvaluationAttention>(
          KvCache(model.config(), model.dtype(), model.device(), capacity), frame_, sums);
      attention_ = attention.get();
      sequence_ = std::make_unique<Sequence>(model, std::move(attention));
    }
    sequence_->advance(ids_, positions_, owner_.options_.piece, {});
  }

  void set_chooser(KeyChooser* chooser) {
    if (attention_ != nullptr) {
      attention_->set_chooser(chooser);
    }
  }

  /// Feeds suffix tokens from index `first` of the suffix on; hidden states of all.
  Tensor feed(std::span<const int64_t> ids, int64_t first) {
    Tensor hidden;
    const auto positions = consecutive_positions(n_raw_ + first, static_cast<int64_t>(ids.size()));
    const auto keep = [&](int64_t, const Tensor& rows) { hidden = rows; };
    sequence_->advance(ids, positions, static_cast<int64_t>(ids.size()), keep);
    return hidden;
  }

  /// Gists are never generated.
  Tensor without_gists(Tensor logits) const {
    for (const int64_t id : owner_.model_.settings.token_ids) {
      if (id >= 0 && id < logits.size(1)) {
        logits.select(1, id).fill_(-std::numeric_limits<double>::infinity());
      }
    }
    return logits;
  }

  TokenScores score_tokens(const Tensor& hidden, std::span<const int64_t> targets) const {
    CausalLM& model = owner_.model_.model;
    const torch::InferenceMode inference;
    TokenScores scores;
    for (int64_t begin = 0; begin < hidden.size(0); begin += kRowsOfLogits) {
      const int64_t end = std::min(begin + kRowsOfLogits, hidden.size(0));
      const auto part =
          targets.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
      const Tensor wanted = torch::tensor(std::vector<int64_t>(part.begin(), part.end()))
                                .to(model.device())
                                .unsqueeze(1);
      Tensor logits = model.logits(hidden.slice(0, begin, end));
      logits =
          logits.to(logits.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32);
      const Tensor nll = (logits.logsumexp(1, true) - logits.gather(1, wanted))
                             .to(torch::kCPU, torch::kFloat64)
                             .contiguous();
      const Tensor best = without_gists(logits).argmax(1).to(torch::kCPU).contiguous();
      scores.nll.insert(scores.nll.end(),
                        nll.const_data_ptr<double>(),
                        nll.const_data_ptr<double>() + nll.numel());
      scores.predictions.insert(scores.predictions.end(),
                                best.const_data_ptr<int64_t>(),
                                best.const_data_ptr<int64_t>() + best.numel());
    }
    return scores;
  }

  /// The suffix, and what it attended; evidence counts from row `first` on.
  Tensor feed_counted(MethodOutcome& outcome,
                      std::span<const int64_t> ids,
                      int64_t first,
                      const KeyChooser* chooser) {
    const auto n = static_cast<int64_t>(ids.size());
    if (block_tally_) {
      block_tally_->start({n_raw_ + first, n_raw_ + n}, evidence_keys());
      const Tensor hidden = feed(ids, 0);
      block_tally_->stop();
      count(outcome, block_tally_->attended(), block_tally_->n_scanned());
      outcome.evidence_recall = block_tally_->evidence_recall();
      return hidden;
    }
    PassTally tally;
    const std::vector<int64_t> evidence = evidence_keys();
    attention_->set_tally(
        &tally,
        {first, n},
        evidence.empty() ? Tensor() : torch::tensor(evidence, torch::kInt64).to(frame_.device));
    const Tensor hidden = feed(ids, 0);
    attention_->set_tally(nullptr, {}, {});
    count(outcome, to_numbers(tally.attended), chooser != nullptr ? chooser->n_scanned() : 0.0);
    outcome.evidence_recall = to_numbers(tally.evidence);
    return hidden;
  }

  /// The suffix in one pass, under teacher forcing; then the greedy answer.
  void score(MethodOutcome& outcome, const KeyChooser* chooser) {
    const bool answers = !prompt_.answer.empty();
    std::vector<int64_t> ids = prompt_.suffix;
    ids.insert(ids.end(), prompt_.answer.begin(), prompt_.answer.end());
    const int64_t first = answers ? static_cast<int64_t>(prompt_.suffix.size()) - 1 : 0;
    const std::span<const int64_t> targets = std::span(ids).subspan(static_cast<size_t>(first) + 1);
    const auto n_fed = static_cast<int64_t>(ids.size()) - 1;
    const Tensor hidden =
        feed_counted(outcome, std::span(ids).first(static_cast<size_t>(n_fed)), first, chooser);
    const TokenScores scores = score_tokens(hidden.slice(0, first), targets);

    outcome.nll = mean_of(scores.nll);
    outcome.n_scored = static_cast<int64_t>(scores.nll.size());
    outcome.suffix_tokens = n_fed;
    const auto gain =
        static_cast<size_t>(std::min(owner_.options_.gain_tokens - 1, outcome.n_scored));
    outcome.gain_nll = mean_of(std::span(scores.nll).first(gain));
    outcome.all_correct =
        answers && std::equal(targets.begin(), targets.end(), scores.predictions.begin());
    if (answers) {
      outcome.answer = generate_from(scores.predictions);
    }
  }

  /// Greedy. As far as the answer goes the gold one's way, its tokens are in the cache already, and
  /// `predictions` says what follows them.
  std::string generate_from(const std::vector<int64_t>& predictions) {
    const CausalLM& model = owner_.model_.model;
    const int64_t most = owner_.most_new_tokens(prompt_);
    const auto n_question = static_cast<int64_t>(prompt_.suffix.size());
    const auto& eos = model.config().eos_token_ids;
    std::vector<int64_t> ids;
    int64_t next = predictions.front();
    std::string text;
    bool follows = true;
    while (std::find(eos.begin(), eos.end(), next) == eos.end()) {
      follows = follows && ids.size() < prompt_.answer.size() && next == prompt_.answer[ids.size()];
      ids.push_back(next);
      text = owner_.model_.tokenizer.decode(ids, /*skip_special=*/true);
      const size_t begin = text.find_first_not_of(" \t\r\n");
      const bool line_ended =
          begin != std::string::npos && text.find('\n', begin) != std::string::npos;
      if (static_cast<int64_t>(ids.size()) >= most ||
          (line_ended && owner_.options_.stop_at_newline)) {
        break;
      }
      if (follows && ids.size() < predictions.size()) {
        next = predictions[ids.size()];
        continue;
      }
      const int64_t behind = n_question + static_cast<int64_t>(ids.size()) - 1;
      sequence_->rewind(frame_.prefix_end + behind);
      const Tensor hidden = feed({&ids.back(), 1}, behind);
      next = score_tokens(hidden, {&ids.back(), 1}).predictions.front();
    }
    return owner_.options_.stop_at_newline ? first_line_of(text) : text;
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

  Evaluator& owner_;
  const EvalPrompt& prompt_;
  const Prefill& prefill_;
  SuffixFrame frame_;
  std::vector<int64_t> ids_, positions_;      // of the prefix
  int64_t n_raw_ = 0;                         // raw tokens of the prefix
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

/// The whole prompt with room for any answer; ids of the suffix do not matter.
GistLayout Evaluator::lay(const EvalPrompt& prompt, const ChunkSizes& chunk) const {
  GistSettings settings = model_.settings;
  settings.chunk = chunk;
  settings.word_aware = model_.boundaries != nullptr;
  InterleaveOptions options;
  options.boundaries = model_.boundaries;
  options.bos_id = model_.model.config().bos_token_id;
  GistLayout layout = lay_pieces(prompt.pieces, settings, options);
  const auto n_suffix = static_cast<int64_t>(prompt.suffix.size() + prompt.answer.size());
  const std::vector<int64_t> suffix(static_cast<size_t>(n_suffix + most_new_tokens(prompt)));
  layout.append_raw(suffix);
  return layout;
}

std::vector<MethodOutcome> Evaluator::run(const EvalPrompt& prompt, const KnownBudgets& known) {
  check_length(prompt);
  std::vector<MethodOutcome> outcomes(methods_.size());
  KnownBudgets measured;
  for (const Prefill& prefill : plan()) {
    Reading reading(*this, prompt, prefill);
    for (const size_t i : prefill.methods) {
      const EvalMethod& method = methods_[i];
      const KeyBudget* here = find_budget(measured, method);
      const KeyBudget* budget = here != nullptr ? here : find_budget(known, method);
      outcomes[i] = reading.run(method, budget);
      if (method.sets_budget()) {
        add_budget(measured, method, outcomes[i].attended);
        outcomes[i].budget = "own";
      } else if (method.ratio) {
        outcomes[i].budget = here != nullptr ? "run" : budget != nullptr ? "file" : "rule";
      }
    }
  }
  return outcomes;
}

}  // namespace ssa
