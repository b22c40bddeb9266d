#include "training/training_checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <utility>
#include <vector>

#include "base/atomic_folder.h"
#include "base/error.h"
#include "base/file.h"
#include "base/list_folder.h"
#include "base/remove_folder.h"
#include "checkpoint/hf_save.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"
#include "tensor/convert.h"

namespace ssa {
namespace {

constexpr const char* kStateFile = "training.json";
constexpr const char* kTensorsFile = "training.safetensors";
constexpr const char* kParameterPrefix = "parameter.";
constexpr const char* kBuildingPrefix = ".building-";
constexpr const char* kRemovingPrefix = ".removing-";

class TrainedCheckpoint : public Checkpoint {
 public:
  TrainedCheckpoint(const Checkpoint& source, const CausalLM& model, torch::ScalarType dtype)
      : source_(source),
        config_(source.config()),
        parameters_(model.named_parameters()),
        dtype_(dtype) {
    config_.dtype = to_dtype(dtype);
  }

  std::string format() const override { return "safetensors"; }
  const ModelConfig& config() const override { return config_; }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names = parameters_.keys();
    std::sort(names.begin(), names.end());
    return names;
  }
  bool has_tensor(const std::string& name) const override { return parameters_.contains(name); }
  std::vector<int64_t> tensor_shape(const std::string& name) const override {
    return parameters_[name].sizes().vec();
  }
  DType tensor_dtype(const std::string&) const override { return to_dtype(dtype_); }
  HostTensor tensor(const std::string& name) const override {
    return to_host(parameters_[name].detach().to(torch::kCPU, dtype_));
  }
  uint64_t tensor_bytes() const override {
    uint64_t bytes = 0;
    for (const auto& parameter : parameters_) {
      bytes += static_cast<uint64_t>(parameter.value().numel()) * torch::elementSize(dtype_);
    }
    return bytes;
  }
  Json tokenizer_json() const override { return source_.tokenizer_json(); }
  Json tokenizer_config() const override { return source_.tokenizer_config(); }
  std::optional<std::string> chat_template() const override { return source_.chat_template(); }
  Json generation_config() const override { return source_.generation_config(); }

 private:
  const Checkpoint& source_;
  ModelConfig config_;
  torch::OrderedDict<std::string, Tensor> parameters_;
  torch::ScalarType dtype_;
};

Json read_if_present(const std::filesystem::path& path) {
  return is_present(path) ? read_json_file(path) : Json();
}

class UntrainedCheckpoint : public Checkpoint {
 public:
  explicit UntrainedCheckpoint(const std::filesystem::path& folder)
      : folder_(folder),
        config_(parse_hf_config(read_json_file(folder / "config.json"),
                                read_if_present(folder / "generation_config.json"))) {}

  std::string format() const override { return "no weights"; }
  const ModelConfig& config() const override { return config_; }
  std::vector<std::string> tensor_names() const override { return {}; }
  bool has_tensor(const std::string&) const override { return false; }
  std::vector<int64_t> tensor_shape(const std::string& name) const override { missing(name); }
  HostTensor tensor(const std::string& name) const override { missing(name); }
  uint64_t tensor_bytes() const override { return 0; }
  Json tokenizer_json() const override { return read_if_present(folder_ / "tokenizer.json"); }
  Json tokenizer_config() const override {
    return read_if_present(folder_ / "tokenizer_config.json");
  }
  std::optional<std::string> chat_template() const override { return std::nullopt; }
  Json generation_config() const override {
    return read_if_present(folder_ / "generation_config.json");
  }

 private:
  [[noreturn]] void missing(const std::string& name) const {
    fail(folder_.string(), ": no tensor ", name, ": it holds no weights");
  }
  std::filesystem::path folder_;
  ModelConfig config_;
};

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%06lld", static_cast<long long>(step));
  return name;
}

/// Whole checkpoints, oldest first.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& output) {
  std::vector<std::pair<int64_t, std::filesystem::path>> found;
  for (const std::filesystem::path& entry : list_folder(output)) {
    const std::string name = entry.filename().string();
    // Unfinished ones have another name (AtomicFolder).
    if (name.starts_with("step-") && name.find_first_not_of("0123456789", 5) == std::string::npos &&
        name.size() > 5 && is_present(entry / kStateFile)) {
      found.emplace_back(std::stoll(name.substr(5)), entry);
    }
  }
  std::sort(found.begin(), found.end());
  std::vector<std::filesystem::path> paths;
  for (auto& each : found) {
    paths.push_back(std::move(each.second));
  }
  return paths;
}

/// Removes what interrupted saves and removals have left: nobody else writes here.
void sweep(const std::filesystem::path& output) {
  for (const std::filesystem::path& entry : list_folder(output)) {
    const std::string name = entry.filename().string();
    if (name.starts_with(kBuildingPrefix) || name.starts_with(kRemovingPrefix)) {
      remove_folder(entry);
    }
  }
}

/// Parameters that the weights beside them hold rounded, or under other names.
std::vector<std::pair<std::string, Tensor>> exact_parameters(const CausalLM& model,
                                                             const Adapter* adapter) {
  if (adapter != nullptr) {
    return adapter->parameters();
  }
  std::vector<std::pair<std::string, Tensor>> wider;
  for (const auto& parameter : model.named_parameters()) {
    if (parameter.value().scalar_type() != model.dtype()) {
      wider.emplace_back(parameter.key(), parameter.value());
    }
  }
  return wider;
}

void write_state(const std::filesystem::path& folder,
                 const std::vector<std::pair<std::string, Tensor>>& parameters,
                 const TrainingState& state,
                 const std::pair<Tensor, Tensor>& moments,
                 int64_t optimizer_steps) {
  std::vector<NamedTensor> tensors = {{"first_moment", to_host(moments.first)},
                                      {"second_moment", to_host(moments.second)}};
  for (const auto& [name, tensor] : parameters) {
    tensors.push_back({kParameterPrefix + name, to_host(tensor.detach().to(torch::kCPU))});
  }
  write_safetensors(folder / kTensorsFile, tensors);
  write_file(folder / kStateFile,
             dump_json({{"step", state.step},
                        {"optimizer_steps", optimizer_steps},
                        {"next_row", state.next_row},
                        {"recent_loss", state.recent_loss},
                        {"recipe", state.recipe}},
                       2) +
                 "\n");
}

}  // namespace

std::unique_ptr<Checkpoint> trained_checkpoint(const Checkpoint& source,
                                               const CausalLM& model,
                                               torch::ScalarType dtype) {
  return std::make_unique<TrainedCheckpoint>(source, model, dtype);
}

std::unique_ptr<Checkpoint> open_untrained(const std::filesystem::path& folder) {
  return std::make_unique<UntrainedCheckpoint>(folder);
}

void save_training_checkpoint(const std::filesystem::path& output,
                              const Checkpoint& source,
                              const CausalLM& model,
                              AdamW& optimizer,
                              const TrainingState& state,
                              int64_t keep,
                              ProcessGroup& group,
                              const Adapter* adapter,
                              const Json& gist_config) {
  const auto moments = optimizer.moments();
  if (!group.is_main()) {
    return;
  }
  const std::filesystem::path target = output / step_name(state.step);
  if (is_present(target / kStateFile)) {
    return;  // saved already: a run that ends where its interval does
  }
  std::filesystem::create_directories(output);
  // Built inside a hidden folder and renamed, so that what has the final name is whole.
  const std::filesystem::path building = output / (kBuildingPrefix + step_name(state.step));
  sweep(output);
  if (adapter != nullptr) {
    AtomicFolder folder(building);
    write_adapter(folder.path(), adapter->config(), gist_config, adapter->tensors(model.dtype()));
    folder.commit();
  } else {
    save_hf_checkpoint(*trained_checkpoint(source, model, model.dtype()), building);
  }
  write_state(building, exact_parameters(model, adapter), state, moments, optimizer.steps());
  remove_folder(target);
  std::filesystem::rename(building, target);
  std::vector<std::filesystem::path> all = list_checkpoints(output);
  for (size_t i = 0; keep > 0 && i + static_cast<size_t>(keep) < all.size(); ++i) {
    // A folder that is being removed must not look whole.
    const std::filesystem::path dying = output / (kRemovingPrefix + all[i].filename().string());
    std::filesystem::rename(all[i], dying);
    remove_folder(dying);
  }
}

std::optional<std::filesystem::path> newest_training_checkpoint(
    const std::filesystem::path& output) {
  const std::vector<std::filesystem::path> all = list_checkpoints(output);
  return all.empty() ? std::nullopt : std::optional(all.back());
}

TrainingState load_training_checkpoint(const std::filesystem::path& folder,
                                       CausalLM& model,
                                       AdamW& optimizer,
                                       const Adapter* adapter) {
  const torch::NoGradGuard no_grad;
  const Json state = read_json_file(folder / kStateFile);
  const SafetensorsFile tensors(folder / kTensorsFile);
  const auto restore = [&](const std::string& name, Tensor parameter, const HostTensor& host) {
    const Tensor saved = to_tensor(host);
    check(saved.sizes() == parameter.sizes() && saved.scalar_type() == parameter.scalar_type(),
          folder.string(),
          ": ",
          name,
          " does not fit the model: it was saved by a run with another model.dtype, model.path or "
          "[adapter]");
    parameter.copy_(saved);
  };
  std::set<std::string> restored;
  for (const auto& [name, parameter] : exact_parameters(model, adapter)) {
    restore(name, parameter, tensors.tensor(kParameterPrefix + name));
    restored.insert(name);
  }
  if (adapter == nullptr) {
    const SafetensorsSet weights(folder);
    for (const auto& parameter : model.named_parameters()) {
      if (!restored.contains(parameter.key())) {
        restore(parameter.key(), parameter.value(), weights.tensor(parameter.key()));
      }
    }
  }
  optimizer.restore(get_or<int64_t>(state, "optimizer_steps", 0),
                    to_tensor(tensors.tensor("first_moment")),
                    to_tensor(tensors.tensor("second_moment")));
  return {get_or<int64_t>(state, "step", 0),
          static_cast<uint64_t>(get_or<int64_t>(state, "next_row", 0)),
          get_or<double>(state, "recent_loss", 0),
          get_or<std::string>(state, "recipe", "")};
}

}  // namespace ssa
