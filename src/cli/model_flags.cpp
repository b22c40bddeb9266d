#include "cli/model_flags.h"

#include <torch/cuda.h>
#include <torch/types.h>
#include <torch/utils.h>
#include <torch/version.h>

#include <filesystem>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoint/rope_scaling.h"
#include "cli/progress_bar.h"
#include "engine/kv_cache.h"

namespace ssa {

CLI::Option* add_model_option(CLI::App& app, std::string& model) {
  return app.add_option("model,-m,--model", model, "Hugging Face directory or .gguf file")
      ->required()
      ->type_name("MODEL");
}

void add_model_flags(CLI::App& app, ModelFlags& flags) {
  add_model_option(app, flags.model);
  add_run_flags(app, flags);
}

void add_run_flags(CLI::App& app, ModelFlags& flags) {
  app.add_option("--adapter", flags.adapter, "Folder with a gist adapter for this model")
      ->type_name("DIR");
  app.add_option(
         "--dtype",
         flags.dtype,
         "Number type of weights and arithmetic; auto: bf16 where the checkpoint is bf16 and the "
         "device multiplies it natively, on CUDA for quantised ones too, else f32")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "f64"}))
      ->capture_default_str();
  app.add_option("--weights",
                 flags.weights,
                 "int8: matrices in 8 bits on the CPU, for fast decoding; auto: as --dtype")
      ->check(CLI::IsMember({"auto", "int8"}))
      ->capture_default_str();
  app.add_option("--device", flags.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("-t,--threads", flags.threads, "CPU threads (default: one a core)")
      ->check(CLI::Range(1, 4096));
  app.add_option("--rope-scaling",
                 flags.rope_scaling,
                 "Longer context: linear, llama3 or yarn, a factor and perhaps the length trained "
                 "on, such as llama3:4:8192; none: without the model's own");
}

ModelConfig resolve_config(const ModelFlags& flags, const Checkpoint& checkpoint) {
  ModelConfig config = checkpoint.config();
  if (!flags.rope_scaling.empty()) {
    scale_rope(config, flags.rope_scaling);
  }
  return config;
}

torch::ScalarType resolve_dtype(const ModelFlags& flags, const ModelConfig& config) {
  if (flags.dtype == "auto") {
    // A file that names no float type, quantised ones above all, has none to keep.
    const bool cuda = flags.device != "cpu";
    const bool half = config.dtype == DType::kBF16 || (cuda && !config.dtype);
    const bool native = cuda || __builtin_cpu_supports("avx512bf16");
    return half && native ? torch::kBFloat16 : torch::kFloat32;
  }
  return flags.dtype == "f64"    ? torch::kFloat64
         : flags.dtype == "bf16" ? torch::kBFloat16
                                 : torch::kFloat32;
}

WeightKind resolve_weights(const ModelFlags& flags) {
  return flags.weights == "int8" ? WeightKind::kInt8 : WeightKind::kAsDtype;
}

std::string describe_arithmetic(const ModelFlags& flags, const CausalLM& model) {
  const char* weights = resolve_weights(flags) == WeightKind::kInt8 ? ", weights int8" : "";
  return concat(
      torch::toString(model.dtype()), weights, ", ", instruction_set_name(instruction_set()));
}

torch::Device resolve_device(const ModelFlags& flags) {
  const bool cuda = flags.device == "cuda" || flags.device.starts_with("cuda:");
  if (!cuda && flags.device != "cpu") {
    throw UsageError("--device " + flags.device + " is not one of cpu, cuda, cuda:N");
  }
  check(!cuda || torch::cuda::is_available(),
        "--device ",
        flags.device,
        ": LibTorch ",
        TORCH_VERSION,
        " finds no CUDA device here");
  try {
    const torch::Device device(flags.device);
    check(!cuda || device.index() < static_cast<int>(torch::cuda::device_count()),
          "--device ",
          flags.device,
          ": this machine has ",
          torch::cuda::device_count(),
          " CUDA devices");
    return device;
  } catch (const c10::Error&) {
    throw UsageError("--device " + flags.device + " is not one of cpu, cuda, cuda:N");
  }
}

OpenedModel open_model(const ModelFlags& flags) {
  OpenedModel opened;
  opened.base = open_checkpoint(flags.model);
  opened.checkpoint = opened.base;
  if (!flags.adapter.empty()) {
    opened.adapter = std::make_shared<AdapterFiles>(flags.adapter);
    opened.checkpoint =
        merged_checkpoint(opened.base, opened.adapter, opened.base->config().vocab_size);
  }
  return opened;
}

LoadedModel load(const ModelFlags& flags, const OpenedModel& opened) {
  if (flags.threads > 0) {
    torch::set_num_threads(flags.threads);
  }
  LoadedModel loaded{opened.checkpoint, nullptr, opened.base, nullptr};
  ProgressBar bar("loading");
  LoadOptions options;
  options.dtype = resolve_dtype(flags, loaded.base->config());
  options.weights = resolve_weights(flags);
  options.device = resolve_device(flags);
  options.config = resolve_config(flags, *loaded.base);
  options.progress = bar.callback();
  loaded.model = load_model(*loaded.base, options);
  if (opened.adapter) {
    loaded.adapter = Adapter::load(*loaded.model, *opened.adapter, loaded.model->dtype());
    loaded.adapter->pack(*loaded.model);
  }
  return loaded;
}

LoadedModel load(const ModelFlags& flags) {
  return load(flags, open_model(flags));
}

Tokenizer load_tokenizer(const Checkpoint& checkpoint, const std::string& path) {
  const Json json = checkpoint.tokenizer_json();
  check(!json.is_null(), path, " has no tokenizer.json");
  return Tokenizer::from_json(json);
}

Tokenizer open_tokenizer(const std::string& path) {
  const bool plain =
      is_present(std::filesystem::path(path) / "tokenizer.json") || path.ends_with(".json");
  return plain ? Tokenizer::from_file(path) : load_tokenizer(*open_checkpoint(path), path);
}

}  // namespace ssa
