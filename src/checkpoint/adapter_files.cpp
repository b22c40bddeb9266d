#include "checkpoint/adapter_files.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "checkpoint/expected_tensors.h"

namespace ssa {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kTensorsFile = "adapter_model.safetensors";
constexpr const char* kGistFile = "gist_config.json";
constexpr const char* kPrefix = "base_model.model.";
constexpr const char* kEmbedding = "model.embed_tokens";
constexpr const char* kHead = "lm_head";

/// Keys of adapter_config.json that are read, or that change no logits whatever they say.
constexpr std::array kHarmlessKeys = {"peft_type",
                                      "peft_version",
                                      "task_type",
                                      "base_model_name_or_path",
                                      "revision",
                                      "auto_mapping",
                                      "inference_mode",
                                      "runtime_config",
                                      "r",
                                      "lora_alpha",
                                      "lora_dropout",
                                      "bias",
                                      "target_modules",
                                      "trainable_token_indices",
                                      "init_lora_weights",
                                      "ensure_weight_tying",
                                      "megatron_core",
                                      "qalora_group_size"};

bool asks_for_nothing(const Json& value) {
  return value.is_null() || value == false || value == 0 ||
         ((value.is_string() || value.is_structured()) && value.empty());
}

template <class... Parts>
[[noreturn]] void fail_config(const fs::path& folder, const Parts&... parts) {
  fail((folder / kConfigFile).string(), ": ", parts...);
}

void refuse_features(const Json& json, const fs::path& folder) {
  const std::string type = get_or<std::string>(json, "peft_type", "");
  if (type != "LORA") {
    fail_config(folder, "peft_type is '", type, "'; supported is LORA");
  }
  const std::string bias = get_or<std::string>(json, "bias", "none");
  if (bias != "none") {
    fail_config(folder, "bias is '", bias, "', which is not supported; only none is");
  }
  const Json* init = find_key(json, "init_lora_weights");
  if (init != nullptr && !init->is_boolean() && *init != "gaussian") {
    fail_config(folder,
                "init_lora_weights ",
                dump_json(*init),
                " changes the base's weights, which is not supported");
  }
  for (const auto& [key, value] : json.items()) {
    const bool harmless =
        std::find(kHarmlessKeys.begin(), kHarmlessKeys.end(), key) != kHarmlessKeys.end();
    if (!harmless && !asks_for_nothing(value)) {
      fail_config(folder, key, " (", dump_json(value).substr(0, 80), ") is not supported");
    }
  }
}

std::vector<std::string> read_targets(const Json& json, const fs::path& folder) {
  const Json* value = find_key(json, "target_modules");
  if (value != nullptr && *value == "all-linear") {
    return kAdaptableLayers;
  }
  if (value == nullptr || !value->is_array()) {
    fail_config(folder,
                "target_modules must be a list of layers' names, not ",
                value == nullptr ? "nothing" : dump_json(*value).substr(0, 80));
  }
  std::set<std::string> named;
  for (const Json& name : *value) {
    named.insert(name.is_string() ? name.get<std::string>() : dump_json(name));
  }
  std::vector<std::string> targets;  // in our order
  for (const std::string& layer : kAdaptableLayers) {
    if (named.erase(layer) > 0) {
      targets.push_back(layer);
    }
  }
  if (!named.empty()) {
    fail_config(folder,
                "target_modules names '",
                *named.begin(),
                "'; supported are ",
                join(kAdaptableLayers, ", "));
  }
  return targets;
}

std::vector<int64_t> read_ids(const Json& value, const fs::path& folder) {
  std::vector<int64_t> ids;
  for (const Json& id : value) {
    if (!id.is_number_integer()) {
      fail_config(folder, "trainable_token_indices holds ", dump_json(id).substr(0, 80));
    }
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

/// A list of ids, or lists by the name of the table.
void read_gist_ids(const Json& json, const fs::path& folder, AdapterConfig& config) {
  const Json* value = find_key(json, "trainable_token_indices");
  if (value == nullptr) {
    return;
  }
  if (value->is_array()) {
    config.gist_ids = read_ids(*value, folder);
    return;
  }
  for (const auto& [table, ids] : value->items()) {
    if (table != "embed_tokens" && table != kHead) {
      fail_config(folder,
                  "trainable_token_indices names '",
                  table,
                  "'; supported are embed_tokens and lm_head");
    }
    config.has_head_rows = config.has_head_rows || table == kHead;
  }
  const Json *embedding = find_key(*value, "embed_tokens"), *head = find_key(*value, kHead);
  if (embedding == nullptr || (head != nullptr && *head != *embedding)) {
    fail_config(folder,
                "trainable_token_indices must name the same rows of embed_tokens and lm_head");
  }
  config.gist_ids = read_ids(*embedding, folder);
}

AdapterConfig read_config(const fs::path& folder) {
  check(AdapterFiles::exist_in(folder),
        folder.string(),
        " holds no adapter: there is no ",
        kConfigFile);
  const Json json = read_json_file(folder / kConfigFile);
  check(json.is_object(), (folder / kConfigFile).string(), ": expected an object");
  refuse_features(json, folder);
  AdapterConfig config;
  config.rank = get_or<int64_t>(json, "r", 0);
  config.alpha = get_or<double>(json, "lora_alpha", 0);
  config.targets = read_targets(json, folder);
  config.base_name = get_or<std::string>(json, "base_model_name_or_path", "");
  read_gist_ids(json, folder, config);
  check_adapter(config, (folder / kConfigFile).string());
  return config;
}

/// Layers of the base that an adapter has matrices for, with the shape of their weight.
std::vector<ExpectedTensor> adapted_layers(const ModelConfig& base,
                                           const std::vector<std::string>& targets) {
  std::vector<ExpectedTensor> layers;
  for (ExpectedTensor& tensor : expected_tensors(base)) {
    const size_t end = tensor.name.rfind(".weight");
    if (tensor.shape.size() != 2 || end == std::string::npos) {
      continue;
    }
    tensor.name.resize(end);
    const std::string last = tensor.name.substr(tensor.name.rfind('.') + 1);
    if (std::find(targets.begin(), targets.end(), last) != targets.end()) {
      layers.push_back(std::move(tensor));
    }
  }
  return layers;
}

Json gist_indices(const AdapterConfig& config) {
  if (config.gist_ids.empty()) {
    return nullptr;
  }
  Json indices = {{"embed_tokens", config.gist_ids}};
  if (config.has_head_rows) {
    indices[kHead] = config.gist_ids;
  }
  return indices;
}

Json to_json(const AdapterConfig& config) {
  return {{"peft_type", "LORA"},
          {"task_type", "CAUSAL_LM"},
          {"base_model_name_or_path", config.base_name.empty() ? Json() : Json(config.base_name)},
          {"inference_mode", true},
          {"r", config.rank},
          {"lora_alpha", config.alpha},
          {"lora_dropout", 0.0},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"target_modules", config.targets},
          {"trainable_token_indices", gist_indices(config)}};
}

}  // namespace

void check_adapter(const AdapterConfig& config, const std::string& what) {
  check(config.rank > 0, what, ": the rank must be above 0, not ", config.rank);
  check(config.alpha > 0, what, ": alpha must be above 0, not ", config.alpha);
  check(!config.targets.empty(), what, ": it names no layers to adapt");
  std::set<std::string> seen;
  for (const std::string& target : config.targets) {
    check(std::find(kAdaptableLayers.begin(), kAdaptableLayers.end(), target) !=
              kAdaptableLayers.end(),
          what,
          ": layer '",
          target,
          "' is not known; known are ",
          join(kAdaptableLayers, ", "));
    check(seen.insert(target).second, what, ": layer '", target, "' is named twice");
  }
}

std::string adapter_a_name(const std::string& layer) {
  return kPrefix + layer + ".lora_A.weight";
}
std::string adapter_b_name(const std::string& layer) {
  return kPrefix + layer + ".lora_B.weight";
}
std::string adapter_rows_name(const std::string& table) {
  return kPrefix + table + ".token_adapter.trainable_tokens_delta";
}

AdapterFiles::AdapterFiles(fs::path folder)
    : folder_(std::move(folder)),
      config_(read_config(folder_)),
      gist_config_(is_present(folder_ / kGistFile) ? read_json_file(folder_ / kGistFile) : Json()),
      tensors_(folder_ / kTensorsFile) {
  const bool wants_rows = find_key(gist_config_, "gist") != nullptr;
  check(!wants_rows || !config_.gist_ids.empty(),
        folder_.string(),
        ": ",
        kGistFile,
        " says that the adapter has gists, and adapter_config.json's trainable_token_indices does "
        "not: it has lost its gist rows");
}

bool AdapterFiles::exist_in(const fs::path& folder) {
  return is_present(folder / kConfigFile);
}

void AdapterFiles::check_shape(const std::string& name,
                               const std::vector<int64_t>& expected) const {
  const auto& entries = tensors_.header().tensors;
  const auto found = entries.find(name);
  check(found != entries.end(),
        folder_.string(),
        ": the adapter lacks ",
        name,
        ", expected ",
        format_shape(expected));
  const std::vector<int64_t>& shape = found->second.shape;
  if (shape != expected && name.find(".lora_") != std::string::npos && shape.size() == 2) {
    const size_t of_rank = name.find(".lora_A.") != std::string::npos ? 0 : 1;
    check(shape[of_rank] == config_.rank || shape[1 - of_rank] != expected[1 - of_rank],
          folder_.string(),
          ": adapter_config.json says rank ",
          config_.rank,
          ", and ",
          name,
          " is ",
          format_shape(shape),
          ", of rank ",
          shape[of_rank]);
  }
  check(shape == expected,
        folder_.string(),
        ": ",
        name,
        ": expected ",
        format_shape(expected),
        " for this base, found ",
        format_shape(shape));
}

void AdapterFiles::check_fits(const ModelConfig& base) const {
  std::set<std::string> known;
  const auto expect = [&](const std::string& name, const std::vector<int64_t>& shape) {
    check_shape(name, shape);
    known.insert(name);
  };
  for (const ExpectedTensor& layer : adapted_layers(base, config_.targets)) {
    expect(adapter_a_name(layer.name), {config_.rank, layer.shape[1]});
    expect(adapter_b_name(layer.name), {layer.shape[0], config_.rank});
  }
  for (size_t i = 0; i < config_.gist_ids.size(); ++i) {
    const int64_t row = base.vocab_size + static_cast<int64_t>(i);
    check(config_.gist_ids[i] == row,
          folder_.string(),
          ": trainable_token_indices names row ",
          config_.gist_ids[i],
          "; gists are the rows behind the base's ",
          base.vocab_size,
          ", the next one ",
          row);
  }
  const auto n_gists = static_cast<int64_t>(config_.gist_ids.size());
  if (n_gists > 0) {
    expect(adapter_rows_name(kEmbedding), {n_gists, base.hidden_size});
  }
  if (config_.has_head_rows && !base.tie_word_embeddings) {
    expect(adapter_rows_name(kHead), {n_gists, base.hidden_size});
  }
  for (const auto& [name, entry] : tensors_.header().tensors) {
    // A copy of the base's whole table, which peft adds on request, changes nothing.
    const bool is_table =
        name.find(kEmbedding) != std::string::npos || name.find(kHead) != std::string::npos;
    check(known.contains(name) || is_table,
          folder_.string(),
          ": ",
          name,
          " belongs to no layer that adapter_config.json names in this base");
  }
}

void write_adapter(const fs::path& folder,
                   const AdapterConfig& config,
                   const Json& gist_config,
                   const std::vector<NamedTensor>& tensors) {
  write_file(folder / kConfigFile, dump_json(to_json(config), 2) + "\n");
  if (!gist_config.is_null()) {
    write_file(folder / kGistFile, dump_json(gist_config, 2) + "\n");
  }
  write_safetensors(folder / kTensorsFile, tensors);
}

}  // namespace ssa
