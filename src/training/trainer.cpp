#include "training/trainer.h"

#include <torch/cuda.h>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "distributed/gradient_reducer.h"
#include "distributed/sum_numbers.h"
#include "distributed/watchdog.h"
#include "training/run_model.h"
#include "training/run_report.h"
#include "training/step_cost.h"
#include "training/step_losses.h"
#include "training/step_profile.h"
#include "training/step_reader.h"
#include "training/training_checkpoint.h"
#include "training/validator.h"

namespace ssa {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Is `step` one of every `interval`? 0: none is.
bool is_due(int64_t step, int64_t interval) {
  return interval > 0 && step % interval == 0;
}

/// The loop over steps, and when to validate, to save and to stop. What is trained: run_model.h;
/// on what: step_reader.h.
class Trainer {
 public:
  Trainer(const Recipe& recipe, const TrainerOptions& options, std::shared_ptr<ProcessGroup> group)
      : recipe_(recipe), options_(options), group_(std::move(group)), device_(group_->device()) {
    check_batch();
    check_output();
    group_->check_same("the recipe", recipe_.text);
    trained_ = load_run_model(recipe_, options_.init_from, device_);
    optimizer_.emplace(trained_.parameters, recipe_.optimizer, group_);
    reducer_.emplace(group_, std::vector<FlatGradients>{optimizer_->gradients()});
    objective_.emplace(*trained_.model,
                       load_teacher(recipe_, trained_),
                       recipe_.objective,
                       trained_.adapter_switch());
    open_data();
    if (options_.resume) {
      resume();
    }
    peak_flops_ = peak_flops(device_, recipe_.metrics.peak_tflops);
  }

  TrainingResult run() {
    if (group_->is_main()) {
      open_report();
    }
    WatchdogOptions watch;
    watch.on_failure = [this](const std::string& message) { say(message); };
    Watchdog watchdog(group_, watch);
    reader_->start(state_.next_row);
    const int64_t first = state_.step;
    last_log_ = Clock::now();
    while (state_.step < recipe_.training.steps && !stopped_) {
      profiled_step();
      watchdog.progress(state_.step);
      const bool last = state_.step == recipe_.training.steps || stopped_;
      const int64_t interval = recipe_.validation.interval;
      if (interval > 0 && (last || is_due(state_.step, interval))) {
        const auto task = watchdog.long_task();
        validate();
      }
      if (last || is_due(state_.step, recipe_.checkpoint.interval)) {
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

  void open_data() {
    const DataVocabulary words = run_vocabulary(recipe_, *trained_.source);
    data_.emplace(recipe_.data, words);
    reader_.emplace(recipe_, *data_, group_->rank(), group_->size());
    if (group_->is_main()) {
      for (const std::string& warning : data_->warnings()) {
        say("warning: " + warning);
      }
    }
    if (!recipe_.validation.sources.empty()) {
      validator_.emplace(recipe_, words, *objective_, trained_.adapter_switch(), *group_);
    }
    check(recipe_.validation.interval == 0 || validator_,
          "recipe: validation.interval is set, and validation.sources is not");
  }

  void resume() {
    const auto newest = newest_training_checkpoint(recipe_.job.output);
    check(newest.has_value(),
          recipe_.job.output.string(),
          " holds no whole checkpoint to resume from");
    state_ =
        load_training_checkpoint(*newest, *trained_.model, *optimizer_, trained_.adapter_or_null());
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
                    validator_ ? recipe_.validation.modes : std::vector<std::string>(),
                    recipe_.metrics.tensorboard,
                    options_.on_line);
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
    const StepBatches batches = reader_->take();
    state_.next_row += static_cast<uint64_t>(recipe_.training.global_batch_size);
    ++state_.step;
    if (state_.step < recipe_.training.steps) {
      reader_->start(state_.next_row);
    }
    const BatchCounts counts = agree(batches.counts);
    optimizer_->zero_grad();
    StepLosses sums = add_gradients(batches.micro, counts);
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

  /// Counts over all processes; all of them stop where one is told to.
  BatchCounts agree(const BatchCounts& own) {
    const bool wants_stop = options_.stop != nullptr && options_.stop->load();
    const std::vector<double> totals = sum_numbers(
        *group_,
        {own.targets, own.suffix_targets, own.sequences, own.raw_tokens, wants_stop ? 1.0 : 0.0});
    stopped_ = totals[4] > 0;
    return {totals[0], totals[1], totals[2], totals[3]};
  }

  /// Forward and backward passes, and the sum of gradients over processes.
  StepLosses add_gradients(const std::vector<Batch>& micro, const BatchCounts& counts) {
    StepLosses sums(device_);
    for (size_t i = 0; i < micro.size(); ++i) {
      const Batch batch = to_device(micro[i], device_);
      // Layers that are computed again reach parameters by a backward pass each: finish() then
      // reduces everything.
      if (i + 1 == micro.size() && !recipe_.objective.recompute_layers) {
        reducer_->begin();
      }
      sums.add(objective_->run(batch, counts));
      flops_ += flops_of(batch, trained_.source->config(), trained_.n_weights, recipe_.data.gists);
    }
    reducer_->finish(1.0);
    return sums;
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
                      .peak_flops = peak_flops_,
                      .memory_bytes = peak_memory(device_)};
    report_->step(report);
    last_log_ = Clock::now();
    raw_tokens_ = flops_ = 0;
  }

  /// Time that went into something else than steps since `start`.
  void leave_out(Clock::time_point start) { last_log_ += Clock::now() - start; }

  void validate() {
    const auto start = Clock::now();
    const std::vector<double> perplexities = validator_->perplexities();
    if (group_->is_main()) {
      report_->validation(state_.step, perplexities);
    }
    leave_out(start);
  }

  void save() {
    const auto start = Clock::now();
    state_.recipe = recipe_.text;
    save_training_checkpoint(recipe_.job.output,
                             *trained_.source,
                             *trained_.model,
                             *optimizer_,
                             state_,
                             recipe_.checkpoint.keep,
                             *group_,
                             trained_.adapter_or_null(),
                             trained_.adapter ? trained_.adapter->gist_config : Json());
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
  RunModel trained_;
  std::optional<AdamW> optimizer_;
  std::optional<GradientReducer> reducer_;
  std::optional<Objective> objective_;
  std::optional<TrainingData> data_;
  std::optional<StepReader> reader_;
  std::optional<Validator> validator_;  // absent: the recipe asks for none
  std::optional<RunReport> report_;     // rank 0 alone
  TrainingState state_;
  std::filesystem::path last_checkpoint_;
  bool stopped_ = false;
  double peak_flops_ = 0;              // 0: not known
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
