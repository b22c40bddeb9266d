// A training run as a TOML file, in torchtitan's sections: docs/training.md lists every key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/adapter_files.h"
#include "data/training_data.h"
#include "training/objective.h"
#include "training/optimizer.h"
#include "training/schedule.h"

namespace ssa {

struct JobSettings {
  std::filesystem::path output;  // checkpoints, log.csv, tensorboard/; required
  uint64_t seed = 0;             // of data and of random initialisation
};

struct ModelSettings {
  std::filesystem::path
      path;  // checkpoint; with init = "random" its config.json and tokenizer are enough; required
  std::string init = "weights";
  std::string dtype =
      "bf16";  // of activations; parameters, gradients and moments are float32 (f64: all float64)
  std::string device = "auto";
};

/// [adapter]: low-rank updates are trained, and the model stays as it is.
struct AdapterSettings {
  AdapterConfig config;  // rank, alpha, targets
  bool gist_rows =
      true;  // rows for the gist tokens, too; unless said, where an objective has gists
};

struct TrainingSettings {
  int64_t steps = 1000;
  int64_t global_batch_size = 8;  // rows a step, over all processes
  int64_t micro_batch_size = 0;   // rows a forward pass; 0: all that fall to a process
  double max_norm = 1.0;          // of gradients; 0: no clipping
  bool activation_checkpointing = false;
  double max_loss_growth = 4.0;  // stops where the loss is this many times its recent mean; 0: only
                                 // where it is not finite
};

struct ValidationSettings {
  std::vector<DataSource> sources;
  int64_t interval = 0;  // steps; 0: none
  int64_t rows = 32;
  // full, sparse[:BLOCKS], gists, ssa[:PIVOT][:RATIO]
  std::vector<std::string> modes = {"full", "gists", "ssa"};
};

struct CheckpointSettings {
  int64_t interval = 0;  // steps; 0: at the end alone
  int64_t keep = 2;      // newest ones; 0: all
};

struct MetricsSettings {
  int64_t log_interval = 10;
  bool tensorboard = true;
  int64_t profile_step = 0;  // this step is recorded to output/trace.json; 0: none
  double peak_tflops = 0;    // of a CUDA device, which mfu is a share of; 0: by its name
};

struct Recipe {
  JobSettings job;
  ModelSettings model;
  std::optional<AdapterSettings> adapter;  // absent: all weights are trained
  DataOptions data;
  int64_t previous_chunks = 1;  // [gist]
  ObjectiveOptions objective;
  std::filesystem::path teacher;  // [objective] frozen copy for distill; empty: the model itself
  AdamWOptions optimizer;
  Schedule schedule;
  TrainingSettings training;
  ValidationSettings validation;
  CheckpointSettings checkpoint;
  MetricsSettings metrics;

  /// The recipe as it is run, all keys and overrides, as TOML.
  std::string text;
};

/// `overrides`: "--section.key", "value" alternating or "--section.key=value"; values are TOML, or
/// a bare string. Throws Error naming file, line and key for what does not parse, an unknown key
/// (with the nearest match), a wrong type, or values that do not fit each other; UsageError for an
/// override of another form, of an unknown key or of a wrong type.
Recipe read_recipe(const std::filesystem::path& path, std::span<const std::string> overrides);

/// The validation mode of full attention with the adapter switched off.
inline constexpr const char* kBaseMode = "base";

/// How one of ValidationSettings::modes attends. Throws Error naming it.
TrainingAttentionOptions parse_validation_mode(const std::string& mode, const MaskRule& rule);

}  // namespace ssa
