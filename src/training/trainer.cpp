#include "training/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <future>

#include "base/error.h"
#include "distributed/gradient_reducer.h"
#include "distributed/watchdog.h"
#include "models/factory.h"
#include "tokenizer/tokenizer.h"
#include "training/run_adapter.h"
#include "training/run_report.h"
#include "training/sparse_checkpoint.h"
#include "training/step_cost.h"
#include "training/step_losses.h"
#include "training/step_profile.h"
#include "training/training_checkpoint.h"

namespace ssa {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

torch::ScalarType parse_dtype(const std::string& name) {
  if (name == "f32") {
    return torch::kFloat32;
  }
  if (name == "f64") {
    return torch::kFloat64;
  }
  check(name == "bf16", "recipe: model.dtype '", name, "' is not known; known are bf16, f32, f64");
  return torch::kBFloat16;
}

/// What one process computes in a step, read ahead by a thread of its own.
struct StepBatches {
  std::vector<Batch> micro;
  BatchCounts counts;  // of this process
};

/// Sums over processes of a few numbers.
std::vector<double> sum_over(ProcessGroup& group, std::vector<double> values) {
  if (group.size() == 1) {
    return values;
  }
  Tensor sums = torch::tensor(values, torch::kFloat64).to(group.device());
  group.all_reduce(sums);
  const Tensor host = sums.cpu();
  return {host.const_data_ptr<double>(), host.const_data_ptr<double>() + host.numel()};
}

class Trainer {
 public:
  Trainer(const Recipe& recipe, const TrainerOptions& options, std::shared_ptr<ProcessGroup> group)
      : recipe_(recipe), options_(options), group_(std::move(group)), device_(group_->device()) {
    check_batch();
    check_output();
    group_->check_same("the recipe", recipe_.text);
    load();
    optimizer_.emplace(trainable_parameters(), recipe_.optimizer, group_);
    reducer_.emplace(group_, std::vector<FlatGradients>{optimizer_->gradients()});
    std::shared_ptr<CausalLM> teacher;
    if (!recipe_.teacher.empty()) {
      teacher = load_model(*open_checkpoint(recipe_.teacher),
                           {.dtype = model_->dtype(), .device = device_});
      check(teacher->config().vocab_size >= source_->config().vocab_size - 3,
            "the teacher's vocabulary does not fit the model's");
    }
    objective_.emplace(*model_, teacher, recipe_.objective, adapter_switch());
    open_data();
    if (options_.resume) {
      resume();
    }
  }

  TrainingResult run() {
    if (group_->is_main()) {
      open_report();
    }
    WatchdogOptions watch;
    watch.on_failure = [this](const std::string& message) { say(message); };
    Watchdog watchdog(group_, watch);
    prefetch();
    const int64_t first = state_.step;
    last_log_ = Clock::now();
    while (state_.step < recipe_.training.steps && !stopped_) {
      profiled_step();
      watchdog.progress(state_.step);
      const bool last = state_.step == recipe_.training.steps || stopped_;
      if (recipe_.validation.interval > 0 &&
          (last || state_.step % recipe_.validation.interval == 0)) {
        const auto task = watchdog.long_task();
        validate();
      }
      if (last ||
          (recipe_.checkpoint.interval > 0 && state_.step % recipe_.checkpoint.interval == 0)) {
        const auto task = watchdog.long_task();
        save();
      }
    }
    if (first == state_.step && !options_.resume) {
      save();
    }
    return {state_.step, last_checkpoint_, stopped_};
  }

 private:
  void check_batch() const {
    check(recipe_.training.global_batch_size % group_->size() == 0,
          "training.global_batch_size ",
          recipe_.training.global_batch_size,
          " does not divide among ",
          group_->size(),
          " processes");
  }

  /// Checkpoints of another run would be taken for this one's, and be kept in their place.
  void check_output() const {
    check(options_.resume || !newest_training_checkpoint(recipe_.job.output),
          recipe_.job.output.string(),
          " holds checkpoints of an earlier run: go on from them with --resume, or choose another "
          "job.output");
  }

  void say(const std::string& line) const {
    if (options_.on_line) {
      options_.on_line(line);
    }
  }

  void load() {
    const torch::ScalarType dtype = parse_dtype(recipe_.model.dtype);
    const LoadOptions load{.dtype = dtype,
                           .held_dtype = dtype == torch::kBFloat16 && !recipe_.adapter
                                             ? std::optional(torch::kFloat32)
                                             : std::nullopt,
                           .device = device_};
    const bool from_adapter = recipe_.adapter && AdapterFiles::exist_in(options_.init_from);
    const std::filesystem::path path =
        options_.init_from.empty() || from_adapter ? recipe_.model.path : options_.init_from;
    const bool random = recipe_.model.init == "random" && path == recipe_.model.path;
    source_ = random ? open_untrained(path) : open_checkpoint(path);
    model_ = random ? make_random_model(source_->config(), recipe_.job.seed, load)
                    : load_model(*source_, load);
    if (recipe_.adapter) {
      adapter_ = make_run_adapter(
          recipe_, source_, *model_, from_adapter ? options_.init_from : std::filesystem::path());
      source_ = adapter_->source;
    }
    if (recipe_.objective.weights.sparse_sparse > 0) {
      source_ = with_sparse_settings(std::move(source_), recipe_.objective.sparse);
    }
    check(recipe_.data.seq_len <= source_->config().max_position_embeddings,
          "data.seq_len ",
          recipe_.data.seq_len,
          " is beyond the model's ",
          source_->config().max_position_embeddings,
          " positions");
  }

  /// Null where all weights are trained.
  std::shared_ptr<LowRankSwitch> adapter_switch() const {
    return adapter_ ? adapter_->adapter->power() : nullptr;
  }

  std::vector<NamedParameter> trainable_parameters() {
    std::vector<NamedParameter> parameters;
    if (adapter_) {
      for (auto& [name, tensor] : adapter_->adapter->parameters()) {
        parameters.push_back({name, tensor.set_requires_grad(true)});
      }
      // Frozen weights have no gradient: two products of three.
      n_weights_ =
          adapter_->n_base_weights * 2 / 3 + static_cast<double>(adapter_->adapter->n_weights());
      return parameters;
    }
    for (auto& parameter : model_->named_parameters()) {
      parameter.value().set_requires_grad(true);
      parameters.push_back({parameter.key(), parameter.value()});
      n_weights_ +=
          parameter.value().dim() >= 2 ? static_cast<double>(parameter.value().numel()) : 0.0;
    }
    if (!source_->config().tie_word_embeddings) {  // looked up, not multiplied
      n_weights_ -=
          static_cast<double>(source_->config().vocab_size * source_->config().hidden_size);
    }
    return parameters;
  }

  DataVocabulary vocabulary() const {
    const ModelConfig& config = source_->config();
    const Json json = source_->tokenizer_json();
    const GistSettings gist =
        config.gist.is_null() ? GistSettings() : parse_gist_settings(config.gist);
    check(!recipe_.data.gists || !gist.token_ids.empty(),
          recipe_.model.path.string(),
          " has no gist tokens; 'ssa gistify' adds them, and so does [adapter] with gist_rows (or "
          "set "
          "objective.lm alone)");
    const std::optional<int64_t> eos =
        config.eos_token_ids.empty() ? std::nullopt : std::optional(config.eos_token_ids.front());
    if (json.is_null()) {
      DataVocabulary words;  // datasets of ids alone, chunks without regard to words
      words.gist_ids = gist.token_ids;
      words.bos_id = config.bos_token_id;
      words.eos_id = eos;
      return words;
    }
    return make_data_vocabulary(
        Tokenizer::from_json(json), gist.token_ids, config.bos_token_id, eos);
  }

  void open_data() {
    const DataVocabulary words = vocabulary();
    data_.emplace(recipe_.data, words);
    if (group_->is_main()) {
      for (const std::string& warning : data_->warnings()) {
        say("warning: " + warning);
      }
    }
    if (!recipe_.validation.sources.empty()) {
      DataOptions held_out = recipe_.data;
      held_out.sources = recipe_.validation.sources;
      held_out.seed = 0;
      held_out.suffix_min = held_out.suffix_max;  // the same suffixes whatever the run
      held_out.chunks = {recipe_.data.chunks.front()};
      validation_.emplace(held_out, words);
    }
    check(recipe_.validation.interval == 0 || validation_,
          "recipe: validation.interval is set, and validation.sources is not");
  }

  void resume() {
    const auto newest = newest_training_checkpoint(recipe_.job.output);
    check(newest.has_value(),
          recipe_.job.output.string(),
          " holds no whole checkpoint to resume from");
    state_ = load_training_checkpoint(
        *newest, *model_, *optimizer_, adapter_ ? adapter_->adapter.get() : nullptr);
    last_checkpoint_ = *newest;
    if (group_->is_main()) {
      say(concat("resumed from ", newest->string()));
      if (state_.recipe != recipe_.text) {
        say("warning: the recipe differs from the one that the checkpoint was written with");
      }
    }
  }

  void open_report() {
    report_.emplace(recipe_.job.output,
                    validation_ ? recipe_.validation.modes : std::vector<std::string>(),
                    recipe_.metrics.tensorboard,
                    options_.on_line);
  }

  /// Rows of the step that begins at `first`, on the CPU.
  StepBatches read_step(uint64_t first) const {
    const int64_t n = recipe_.training.global_batch_size / group_->size();
    const int64_t micro =
        recipe_.training.micro_batch_size > 0 ? std::min(n, recipe_.training.micro_batch_size) : n;
    const BatchOptions layout{
        recipe_.objective.rule,
        recipe_.objective.weights.sft > 0 || recipe_.objective.distill_unfolds,
        recipe_.objective.weights.route > 0 ? recipe_.objective.route_queries : 0};
    StepBatches step;
    for (int64_t begin = 0; begin < n; begin += micro) {
      std::vector<TrainingRow> rows;
      for (int64_t i = begin; i < std::min(n, begin + micro); ++i) {
        rows.push_back(data_->row(first + static_cast<uint64_t>(group_->rank() * n + i)));
      }
      step.micro.push_back(make_batch(rows, layout));
      step.micro.back().row_number = first + static_cast<uint64_t>(group_->rank() * n + begin);
      const BatchCounts counts = count(step.micro.back());
      step.counts.targets += counts.targets;
      step.counts.suffix_targets += counts.suffix_targets;
      step.counts.sequences += counts.sequences;
      step.counts.raw_tokens += counts.raw_tokens;
    }
    return step;
  }

  void prefetch() {
    next_ = std::async(std::launch::async,
                       [this, first = state_.next_row] { return read_step(first); });
  }

  void profiled_step() {
    std::optional<StepProfile> profile;
    if (group_->is_main() && state_.step + 1 == recipe_.metrics.profile_step) {
      profile.emplace(device_);
    }
    step();
    if (profile) {
      profile->save(recipe_.job.output / "trace.json");
    }
  }

  void step() {
    const StepBatches batches = next_.get();
    state_.next_row += static_cast<uint64_t>(recipe_.training.global_batch_size);
    ++state_.step;
    if (state_.step < recipe_.training.steps) {
      prefetch();
    }
    const bool wants_stop = options_.stop != nullptr && options_.stop->load();
    const std::vector<double> totals = sum_over(*group_,
                                                {batches.counts.targets,
                                                 batches.counts.suffix_targets,
                                                 batches.counts.sequences,
                                                 batches.counts.raw_tokens,
                                                 wants_stop ? 1.0 : 0.0});
    const BatchCounts counts{totals[0], totals[1], totals[2], totals[3]};
    stopped_ = totals[4] > 0;
    optimizer_->zero_grad();
    StepLosses sums(device_);
    for (size_t i = 0; i < batches.micro.size(); ++i) {
      const Batch batch = to_device(batches.micro[i], device_);
      // Layers that are computed again reach parameters by a backward pass each: finish() then
      // reduces everything.
      if (i + 1 == batches.micro.size() && !recipe_.objective.recompute_layers) {
        reducer_->begin();
      }
      sums.add(objective_->run(batch, counts));
      flops_ += flops_of(batch, source_->config(), n_weights_, recipe_.data.gists);
    }
    reducer_->finish(1.0);
    const double norm = optimizer_->clip(recipe_.training.max_norm);
    group_->all_reduce(sums.sums());
    const auto losses = sums.values();
    check_loss(losses[0], norm);
    const double lr = recipe_.schedule.at(state_.step);
    optimizer_->step(lr);
    raw_tokens_ += counts.raw_tokens;
    log(losses, norm, lr);
    if (group_->is_main() && options_.on_step) {
      options_.on_step(state_.step, recipe_.training.steps);
    }
  }

  void check_loss(double loss, double norm) {
    const std::string kept = last_checkpoint_.empty()
                                 ? "there is no checkpoint yet"
                                 : "the last good checkpoint is " + last_checkpoint_.string();
    check(std::isfinite(loss) && std::isfinite(norm),
          "step ",
          state_.step,
          ": the loss is ",
          loss,
          " and the gradients' norm ",
          norm,
          "; training stops, ",
          kept);
    const double limit = recipe_.training.max_loss_growth;
    check(limit <= 0 || state_.step <= 20 || loss <= limit * state_.recent_loss || loss < 1e-3,
          "step ",
          state_.step,
          ": the loss jumped from ",
          state_.recent_loss,
          " to ",
          loss,
          " (training.max_loss_growth ",
          limit,
          "); training stops, ",
          kept);
    state_.recent_loss = state_.step == 1 ? loss : 0.9 * state_.recent_loss + 0.1 * loss;
  }

  void log(const std::array<double, kLossNames.size()>& losses, double norm, double lr) {
    if (!group_->is_main() || (state_.step % recipe_.metrics.log_interval != 0 &&
                               state_.step != 1 && state_.step != recipe_.training.steps)) {
      return;
    }
    if (device_.is_cuda()) {
      torch::cuda::synchronize();
    }
    StepReport report{.step = state_.step,
                      .losses = losses,
                      .grad_norm = norm,
                      .lr = lr,
                      .seconds = seconds_since(last_log_),
                      .raw_tokens = raw_tokens_,
                      .flops = flops_,
                      .peak_flops = peak_flops(device_),
                      .memory_bytes = peak_memory(device_)};
    report_->step(report);
    last_log_ = Clock::now();
    raw_tokens_ = flops_ = 0;
  }

  /// Time that went into something else than steps since `start`.
  void leave_out(Clock::time_point start) { last_log_ += Clock::now() - start; }

  /// Perplexity of held-out suffixes in every mode. Processes take rows in turn.
  void validate() {
    const auto start = Clock::now();
    std::vector<double> sums(recipe_.validation.modes.size() * 2, 0.0);
    const int64_t block = std::max<int64_t>(
        1, recipe_.training.micro_batch_size > 0 ? recipe_.training.micro_batch_size : 4);
    for (int64_t first = group_->rank() * block; first < recipe_.validation.rows;
         first += group_->size() * block) {
      std::vector<TrainingRow> rows;
      for (int64_t i = first; i < std::min(recipe_.validation.rows, first + block); ++i) {
        rows.push_back(validation_->row(static_cast<uint64_t>(i)));
      }
      const Batch batch = to_device(make_batch(rows, {recipe_.objective.rule, true}), device_);
      for (size_t mode = 0; mode < recipe_.validation.modes.size(); ++mode) {
        const bool base = recipe_.validation.modes[mode] == kBaseMode;
        const SwitchedOff adapter(base ? adapter_switch() : nullptr);
        const Tensor result = objective_
                                  ->evaluate(batch,
                                             parse_validation_mode(recipe_.validation.modes[mode],
                                                                   recipe_.objective.rule))
                                  .cpu();
        sums[2 * mode] += result[0].item<double>();
        sums[2 * mode + 1] += result[1].item<double>();
      }
    }
    sums = sum_over(*group_, sums);
    std::vector<double> perplexities;
    for (size_t mode = 0; mode < recipe_.validation.modes.size(); ++mode) {
      perplexities.push_back(std::exp(sums[2 * mode] / sums[2 * mode + 1]));
    }
    if (group_->is_main()) {
      report_->validation(state_.step, perplexities);
    }
    leave_out(start);
  }

  void save() {
    const auto start = Clock::now();
    state_.recipe = recipe_.text;
    save_training_checkpoint(recipe_.job.output,
                             *source_,
                             *model_,
                             *optimizer_,
                             state_,
                             recipe_.checkpoint.keep,
                             *group_,
                             adapter_ ? adapter_->adapter.get() : nullptr,
                             adapter_ ? adapter_->gist_config : Json());
    group_->barrier();
    if (const auto newest = newest_training_checkpoint(recipe_.job.output)) {
      last_checkpoint_ = *newest;
    }
    if (group_->is_main()) {
      say(concat("saved ", last_checkpoint_.string()));
    }
    leave_out(start);
  }

  const Recipe& recipe_;
  const TrainerOptions& options_;
  std::shared_ptr<ProcessGroup> group_;
  torch::Device device_;
  std::shared_ptr<const Checkpoint> source_;
  std::shared_ptr<CausalLM> model_;
  std::optional<RunAdapter> adapter_;  // absent: all weights are trained
  std::optional<AdamW> optimizer_;
  std::optional<GradientReducer> reducer_;
  std::optional<Objective> objective_;
  std::optional<TrainingData> data_, validation_;
  TrainingState state_;
  std::filesystem::path last_checkpoint_;
  std::future<StepBatches> next_;
  std::optional<RunReport> report_;  // rank 0 alone
  bool stopped_ = false;
  double n_weights_ = 0;               // that a token is multiplied with
  double raw_tokens_ = 0, flops_ = 0;  // since the last line
  Clock::time_point last_log_;
};

}  // namespace

torch::Device training_device(const std::string& name) {
  if (name == "auto") {
    return torch::cuda::is_available() ? torch::Device(torch::kCUDA) : torch::Device(torch::kCPU);
  }
  check(name == "cpu" || name == "cuda",
        "recipe: model.device '",
        name,
        "' is not known; known are auto, cpu, cuda");
  check(name == "cpu" || torch::cuda::is_available(),
        "recipe: model.device is cuda, and LibTorch sees no CUDA device");
  return torch::Device(name);
}

TrainingResult train(const Recipe& recipe,
                     const TrainerOptions& options,
                     std::shared_ptr<ProcessGroup> group) {
  Trainer trainer(recipe, options, std::move(group));
  return trainer.run();
}

}  // namespace ssa
