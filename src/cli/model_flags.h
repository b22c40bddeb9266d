// The flags that every command with a model has, and what they open.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "cli/command.h"
#include "models/adapter.h"
#include "models/causal_lm.h"
#include "models/factory.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

struct ModelFlags {
  std::string model;             // Hugging Face directory or .gguf file
  std::string dtype = "auto";    // f32, bf16, f64; auto: see resolve_dtype
  std::string weights = "auto";  // int8, or auto: as dtype says
  std::string device = "cpu";    // cpu, cuda, cuda:N
  int threads = 0;               // 0: one a core
  std::string rope_scaling;      // see scale_rope; empty: the checkpoint's
  std::string adapter;           // folder; empty: none
};

/// Adds the model, as an argument or by -m.
CLI::Option* add_model_option(CLI::App& app, std::string& model);
/// Adds --adapter, --dtype, --weights, --device, --threads and --rope-scaling.
void add_run_flags(CLI::App& app, ModelFlags& flags);
/// Adds both.
void add_model_flags(CLI::App& app, ModelFlags& flags);

/// What --dtype auto means: bf16 where the checkpoint is bf16 and the device multiplies it
/// natively, on CUDA also where it names no float type (quantised matrices), else f32.
torch::ScalarType resolve_dtype(const ModelFlags& flags, const ModelConfig& config);
/// The checkpoint's configuration under --rope-scaling.
ModelConfig resolve_config(const ModelFlags& flags, const Checkpoint& checkpoint);
WeightKind resolve_weights(const ModelFlags& flags);
/// "BFloat16, weights int8, avx512": what computes, for reports.
std::string describe_arithmetic(const ModelFlags& flags, const CausalLM& model);
/// Throws Error where LibTorch has no such device.
torch::Device resolve_device(const ModelFlags& flags);

struct LoadedModel {
  std::shared_ptr<const Checkpoint> checkpoint;  // with the adapter
  std::shared_ptr<CausalLM> model;
  std::shared_ptr<const Checkpoint> base;  // without it
  std::shared_ptr<Adapter> adapter;        // null: none
};

/// Files that are open, and checked against each other, and of whose weights nothing is read.
struct OpenedModel {
  std::shared_ptr<const Checkpoint> checkpoint;  // with the adapter
  std::shared_ptr<const Checkpoint> base;        // without it
  std::shared_ptr<const AdapterFiles> adapter;   // null: none
};
OpenedModel open_model(const ModelFlags& flags);

/// Sets the number of threads and loads the model, with a progress bar. The adapter lies beside the
/// base's weights, which are not copied.
LoadedModel load(const ModelFlags& flags, const OpenedModel& opened);
LoadedModel load(const ModelFlags& flags);  // opens it, too

/// The checkpoint's tokenizer; throws Error if it has none.
Tokenizer load_tokenizer(const Checkpoint& checkpoint, const std::string& path);
/// The same of a model at a path. A folder with tokenizer.json alone serves, as does the file
/// itself.
Tokenizer open_tokenizer(const std::string& path);

}  // namespace ssa
