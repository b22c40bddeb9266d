#include "evaluation/dense_reading.h"

#include <algorithm>

#include "evaluation/prompt_layout.h"

namespace ssa {
namespace {

/// Numbers by layer, [n_prompts, n_rows] each, as means over each stream's rows from begin[prompt]
/// to end[prompt]: [n_prompts][n_streams][n_layers]. Empty without layers.
std::vector<std::vector<std::vector<double>>> layer_means(const std::vector<Tensor>& layers,
                                                          int64_t n_streams,
                                                          const std::vector<Range>& rows) {
  std::vector<std::vector<std::vector<double>>> means(
      rows.size(), std::vector<std::vector<double>>(static_cast<size_t>(n_streams)));
  if (layers.empty()) {
    return means;
  }
  const Tensor all = torch::stack(layers, 2).unflatten(1, {n_streams, -1});
  std::vector<Tensor> of_prompts;
  for (size_t prompt = 0; prompt < rows.size(); ++prompt) {
    of_prompts.push_back(all[static_cast<int64_t>(prompt)]
                             .slice(1, rows[prompt].begin, rows[prompt].end)
                             .mean(1));  // [n_streams, n_layers]
  }
  const std::vector<double> numbers = to_numbers(torch::stack(of_prompts));
  auto next = numbers.begin();
  for (auto& of_prompt : means) {
    for (auto& of_stream : of_prompt) {
      of_stream.assign(next, next + std::ssize(layers));
      next += std::ssize(layers);
    }
  }
  return means;
}

ModelConfig with_heads_of(ModelConfig config, size_t n_prompts) {
  config.n_kv_heads *= static_cast<int64_t>(n_prompts);
  return config;
}

}  // namespace

DenseReading::DenseReading(const EvalSetup& setup,
                           std::vector<const EvalPrompt*> prompts,
                           const Prefill& prefill)
    : Reading(setup, std::move(prompts), prefill) {
  const CausalLM& model = setup.model.model;
  const ModelConfig& config = model.config();
  frame_.has_gists = prefill.kind == PrefillKind::kGist;
  frame_.rule = {setup.model.settings.sink, setup.model.settings.previous_chunks};
  frame_.n_layers = config.n_layers;
  frame_.n_kv_heads = config.n_kv_heads;
  frame_.group_size = config.n_heads / config.n_kv_heads;
  frame_.device = model.device();
  std::vector<GistMaskPlanPtr> plans(prompts_.size());
  for (size_t i = 0; i < prompts_.size(); ++i) {
    prefixes_.push_back(lay(*prompts_[i], frame_.prompts.emplace_back(), plans[i]));
  }
  const bool sums = std::any_of(prefill.methods.begin(), prefill.methods.end(), [&](size_t i) {
    return setup.methods[i].rule == KeyRule::kHeavy;
  });
  const int64_t n_suffix = frame_.n_places();
  const int64_t room = frame_.width() + std::min(std::ssize(prefill.methods) * n_suffix,
                                                 n_suffix + setup.options.most_rows);
  attention_ = std::make_unique<EvaluationAttention>(
      KvCache(with_heads_of(config, prompts_.size()), model.dtype(), model.device(), room),
      frame_,
      std::move(plans),
      sums);
  read();
}

DenseReading::Prefix DenseReading::lay(const EvalPrompt& prompt,
                                       PromptFrame& frame,
                                       GistMaskPlanPtr& plan) const {
  Prefix prefix;
  prefix.ids = prefill_.kind == PrefillKind::kNone ? prompt.lead : joined_pieces(prompt);
  prefix.n_raw = std::ssize(prefix.ids);
  prefix.positions = consecutive_positions(0, prefix.n_raw);
  if (frame_.has_gists) {
    const GistLayout layout = lay_prefix(setup_.model, prompt, prefill_.chunk);
    frame.layout = std::make_shared<GistLayout>(with_suffix(layout, prompt, setup_.options));
    prefix.ids.assign(layout.ids().begin(), layout.ids().end());
    prefix.positions.assign(layout.positions().begin(), layout.positions().end());
    if (!prefix.ids.empty()) {
      plan = to_device(*plan_gist_mask(layout, frame_.rule), frame_.device);
    }
  }
  frame.prefix_end = std::ssize(prefix.ids);
  frame.n_prompt = frame.prefix_end + std::ssize(prompt.suffix);
  frame.sequence_end = frame.prefix_end + most_suffix_tokens(prompt, setup_.options);
  return prefix;
}

Tensor DenseReading::forward(const std::vector<int64_t>& ids,
                             const std::vector<int64_t>& positions) {
  CausalLM& model = setup_.model.model;
  const Tensor both =
      torch::stack({torch::tensor(ids, torch::kInt64), torch::tensor(positions, torch::kInt64)})
          .to(model.device());
  return model.forward(both[0], both[1], *attention_);
}

void DenseReading::read() {
  const int64_t width = frame_.width();
  const int64_t piece = prompts_.size() > 1 ? width : setup_.options.piece;
  for (int64_t begin = 0; begin < width; begin += piece) {
    const int64_t end = std::min(begin + piece, width);
    std::vector<int64_t> ids, positions;
    for (const Prefix& prefix : prefixes_) {
      for (int64_t t = begin; t < end; ++t) {
        const bool there = t < std::ssize(prefix.ids);
        ids.push_back(there ? prefix.ids[static_cast<size_t>(t)] : 0);
        positions.push_back(there ? prefix.positions[static_cast<size_t>(t)] : 0);
      }
    }
    attention_->begin_prefix({begin, end});
    forward(ids, positions);
  }
}

/// What a method's chooser sees.
const SuffixFrame& DenseReading::frame_of(const EvalMethod& method) {
  if (frame_.has_gists || !method.ratio) {
    return frame_;
  }
  const ChunkSizes chunk = {method.chunk.front()};  // only marks chunks, has no levels above them
  if (const auto found = marked_.find(chunk); found != marked_.end()) {
    return found->second;
  }
  SuffixFrame frame = frame_;
  for (size_t i = 0; i < prompts_.size(); ++i) {
    frame.prompts[i].layout = std::make_shared<GistLayout>(
        with_suffix(lay_prefix(setup_.model, *prompts_[i], chunk), *prompts_[i], setup_.options));
  }
  return marked_.emplace(chunk, std::move(frame)).first->second;
}

void DenseReading::open_streams(std::span<const size_t> methods,
                                const MethodBudgets& budgets,
                                int64_t first) {
  for (size_t begin = 0, end = 0; begin < methods.size(); begin = end) {
    const EvalMethod& method = setup_.methods[methods[begin]];
    std::vector<StreamMethod> alike;
    for (end = begin; end < methods.size() &&
                      (end == begin || choose_alike(method, setup_.methods[methods[end]]));
         ++end) {
      alike.push_back({setup_.methods[methods[end]], budgets[end]});
    }
    const SuffixFrame& frame = frame_of(method);
    if (std::any_of(frame.prompts.begin(), frame.prompts.end(), [&](const PromptFrame& prompt) {
          return chooses(method, prompt);
        })) {
      attention_->add_chooser(make_key_chooser(
          alike, first + static_cast<int64_t>(begin), frame, &attention_->received()));
    }
  }
}

Tensor DenseReading::feed(const FedRows& fed) {
  std::vector<int64_t> ids, positions;
  for (size_t prompt = 0; prompt < prompts_.size(); ++prompt) {
    ids.insert(ids.end(), fed.ids[prompt].begin(), fed.ids[prompt].end());
    for (const int64_t place : fed.rows.places[prompt]) {
      positions.push_back(prefixes_[prompt].n_raw + place);
    }
  }
  attention_->begin_suffixes(fed.rows);
  return forward(ids, positions).unflatten(0, {std::ssize(prompts_), -1});
}

Tensor DenseReading::feed_counted(const FedRows& fed, const Counted& counted) {
  PassTally tally;
  attention_->set_tally(&tally, evidence());
  const Tensor hidden = feed(fed);
  attention_->set_tally(nullptr, {});
  std::vector<Range> all, predicting;
  for (const ForcedSuffix& forced : forced_) {
    all.push_back({0, forced.n_fed()});
    predicting.push_back({forced.first, forced.n_fed()});
  }
  const int64_t n_streams = std::ssize(counted.methods);
  const auto attended = layer_means(tally.attended, n_streams, all);
  const auto recall = layer_means(tally.evidence, n_streams, predicting);
  for (size_t i = 0; i < counted.methods.size(); ++i) {
    const EvalMethod& method = setup_.methods[counted.methods[i]];
    const SuffixFrame& frame = frame_of(method);
    for (size_t prompt = 0; prompt < prompts_.size(); ++prompt) {
      MethodOutcome& outcome = counted.outcomes[prompt][counted.methods[i]];
      const PromptFrame& own = frame.prompts[prompt];
      const double scanned =
          chooses(method, own)
              ? n_scanned(method, frame, own, own.prefix_end + forced_[prompt].n_fed())
              : 0.0;
      count(outcome, attended[prompt][i], scanned, frame_.n_layers - 1);  // layer 0 never chooses
      if (!prompts_[prompt]->evidence.empty() && prefill_.kind != PrefillKind::kNone) {
        outcome.evidence_recall = recall[prompt][i];
      }
    }
  }
  return hidden;
}

/// Indices in the sequence of the evidence's raw tokens.
std::vector<int64_t> DenseReading::evidence_keys(size_t prompt) const {
  const std::vector<Range>& evidence = prompts_[prompt]->evidence;
  const PromptFrame& frame = frame_.prompts[prompt];
  std::vector<int64_t> keys;
  for (int64_t key = 0; key < frame.prefix_end && !evidence.empty(); ++key) {
    const auto i = static_cast<size_t>(key);
    const bool raw = !frame_.has_gists || frame.layout->levels()[i] == kRawLevel;
    const bool marked = std::any_of(evidence.begin(), evidence.end(), [&](const Range& range) {
      return range.contains(prefixes_[prompt].positions[i]);
    });
    if (raw && marked) {
      keys.push_back(key);
    }
  }
  return keys;
}

/// [n_prompts, width] bool on the device; undefined where no prompt marks any.
Tensor DenseReading::evidence() const {
  if (prefill_.kind == PrefillKind::kNone) {
    return {};
  }
  Tensor marks = torch::zeros({std::ssize(prompts_), frame_.width()}, torch::kBool);
  auto mark = marks.accessor<bool, 2>();
  bool any = false;
  for (size_t prompt = 0; prompt < prompts_.size(); ++prompt) {
    for (const int64_t key : evidence_keys(prompt)) {
      mark[static_cast<int64_t>(prompt)][key] = any = true;
    }
  }
  return any ? marks.to(frame_.device) : Tensor();
}

}  // namespace ssa
