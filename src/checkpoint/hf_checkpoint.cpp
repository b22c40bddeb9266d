// A Hugging Face directory: config.json, safetensors, and the tokenizer's files as they are.
#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/list_folder.h"
#include "base/text.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"

namespace ssa {
namespace fs = std::filesystem;
namespace {

/// The file's content, or null if it is not there.
Json read_optional_json(const fs::path& path) {
  return is_present(path) ? read_json_file(path) : Json();
}

ModelConfig read_config(const fs::path& folder, const Json& generation) {
  const fs::path path = folder / "config.json";
  const Json config = read_json_file(path);
  try {
    return parse_hf_config(config, generation);
  } catch (const Error& error) {
    fail(path.string(), ": ", error.what());
  }
}

/// Names of the folder's files that end in one of `endings`, sorted.
std::vector<std::string> files_ending_in(const fs::path& folder,
                                         std::initializer_list<const char*> endings) {
  std::vector<std::string> names;
  for (const fs::path& entry : list_folder(folder)) {
    const std::string name = entry.filename().string();
    const bool matches = std::any_of(
        endings.begin(), endings.end(), [&](const char* ending) { return name.ends_with(ending); });
    if (matches) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Throws for a folder without weights, saying what it holds instead.
[[noreturn]] void refuse_weightless(const fs::path& folder) {
  const std::vector<std::string> found =
      files_ending_in(folder, {".bin", ".pth", ".pt", ".ckpt", ".safetensors"});
  std::string hint;
  if (!found.empty()) {
    const char* advice = found[0].ends_with(".safetensors")
                             ? " has another name"
                             : " is not read: save the model with safe_serialization";
    hint = concat("; ", found[0], advice);
  }
  fail(folder.string(), ": no model.safetensors or model.safetensors.index.json", hint);
}

/// tokenizer_config.json's chat_template: a string, or a list of {"name", "template"}, of which
/// "default" counts, or the only one.
std::optional<std::string> template_in(const Json& tokenizer_config) {
  const Json* value = find_key(tokenizer_config, "chat_template");
  if (value == nullptr) {
    return std::nullopt;
  }
  if (value->is_string()) {
    return value->get<std::string>();
  }
  check(value->is_array(), "key 'chat_template': expected a string or a list");
  for (const Json& named : *value) {
    if (value->size() == 1 || get_or(named, "name", std::string()) == "default") {
      return get_or(named, "template", std::string());
    }
  }
  return std::nullopt;
}

class HfCheckpoint : public Checkpoint {
 public:
  explicit HfCheckpoint(const fs::path& folder)
      : folder_(folder),
        generation_(read_optional_json(folder / "generation_config.json")),
        config_(read_config(folder, generation_)),
        tensors_(folder) {}

  std::string format() const override {
    return tensors_.n_files() == 1 ? "safetensors"
                                   : concat("safetensors, ", tensors_.n_files(), " files");
  }
  const ModelConfig& config() const override { return config_; }
  std::vector<std::string> tensor_names() const override { return tensors_.names(); }
  bool has_tensor(const std::string& name) const override { return tensors_.contains(name); }
  std::vector<int64_t> tensor_shape(const std::string& name) const override {
    return tensors_.entry(name).shape;
  }
  DType tensor_dtype(const std::string& name) const override { return tensors_.entry(name).dtype; }
  HostTensor tensor(const std::string& name) const override { return tensors_.tensor(name); }
  uint64_t tensor_bytes() const override { return tensors_.tensor_bytes(); }

  Json tokenizer_json() const override { return read_optional_json(folder_ / "tokenizer.json"); }
  Json tokenizer_config() const override { return read_optional_json(tokenizer_config_path()); }
  std::optional<std::string> chat_template() const override {
    const fs::path file = folder_ / "chat_template.jinja";
    if (is_present(file)) {
      return read_file(file);
    }
    try {
      return template_in(tokenizer_config());
    } catch (const Error& error) {
      fail(tokenizer_config_path().string(), ": ", error.what());
    }
  }
  Json generation_config() const override { return generation_; }

 private:
  fs::path tokenizer_config_path() const { return folder_ / "tokenizer_config.json"; }

  fs::path folder_;
  Json generation_;
  ModelConfig config_;
  SafetensorsSet tensors_;
};

std::unique_ptr<Checkpoint> open_file(const fs::path& path) {
  if (path.extension() == ".gguf") {
    return open_gguf_checkpoint(path);
  }
  if (path.extension() == ".safetensors") {
    fail(path.string(), ": name the folder that holds it together with config.json");
  }
  fail(path.string(), ": expected a folder with config.json and safetensors, or a .gguf file");
}

std::unique_ptr<Checkpoint> open_folder(const fs::path& folder) {
  const std::vector<std::string> ggufs = files_ending_in(folder, {".gguf"});
  if (SafetensorsSet::exists_in(folder) || ggufs.empty()) {
    return open_hf_checkpoint(folder);
  }
  check(ggufs.size() == 1,
        folder.string(),
        ": holds ",
        ggufs.size(),
        " GGUF files; name one: ",
        join(ggufs, ", "));
  return open_gguf_checkpoint(folder / ggufs[0]);
}

}  // namespace

std::unique_ptr<Checkpoint> open_hf_checkpoint(const fs::path& folder) {
  check(is_present(folder), folder.string(), ": no such folder");
  if (!SafetensorsSet::exists_in(folder)) {
    refuse_weightless(folder);
  }
  check(is_present(folder / "config.json"), folder.string(), ": no config.json");
  return std::make_unique<HfCheckpoint>(folder);
}

std::unique_ptr<Checkpoint> open_checkpoint(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  check(fs::exists(status), path.string(), ": no such file or folder (models are not downloaded)");
  return fs::is_directory(status) ? open_folder(path) : open_file(path);
}

}  // namespace ssa
