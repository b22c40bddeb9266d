#include "checkpoint/hf_save.h"

#include <algorithm>
#include <map>

#include "base/atomic_folder.h"
#include "base/error.h"
#include "base/file.h"
#include "checkpoint/float_convert.h"
#include "checkpoint/safetensors_writer.h"

namespace ssa {
namespace fs = std::filesystem;
namespace {

/// True if the output head is the embedding's copy, which loaders make again.
bool is_tied_copy(const Checkpoint& source, const std::string& name) {
  const std::string embedding = "model.embed_tokens.weight";
  if (name != "lm_head.weight" || !source.config().tie_word_embeddings ||
      !source.has_tensor(embedding)) {
    return false;
  }
  const HostTensor head = source.tensor(name);
  const HostTensor table = source.tensor(embedding);
  return head.dtype == table.dtype && head.shape == table.shape &&
         std::equal(head.bytes.begin(), head.bytes.end(), table.bytes.begin(), table.bytes.end());
}

std::vector<TensorSpec> plan_tensors(const Checkpoint& source, std::optional<DType> dtype) {
  std::vector<TensorSpec> specs;
  for (const std::string& name : source.tensor_names()) {
    if (is_tied_copy(source, name)) {
      continue;
    }
    const DType stored = source.tensor_dtype(name);
    specs.push_back(
        {name, dtype && is_floating(stored) ? *dtype : stored, source.tensor_shape(name)});
  }
  return specs;
}

/// The floating type that holds the most bytes; absent if there is none.
std::optional<DType> main_dtype(const std::vector<TensorSpec>& specs) {
  std::map<DType, uint64_t> bytes;
  for (const TensorSpec& spec : specs) {
    if (is_floating(spec.dtype)) {
      bytes[spec.dtype] += spec_bytes(spec);
    }
  }
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? std::nullopt : std::optional(most->first);
}

void write_json(const fs::path& path, const Json& value) {
  if (!value.is_null()) {
    write_file(path, dump_json(value, 2) + "\n");
  }
}

void write_configs(const Checkpoint& source,
                   const fs::path& folder,
                   const std::vector<TensorSpec>& specs,
                   const HfSaveOptions& options) {
  ModelConfig config = source.config();
  if (options.dtype || !config.dtype) {
    config.dtype = main_dtype(specs);
  }
  write_json(folder / "config.json", to_hf_config(config));
  write_json(folder / "generation_config.json", source.generation_config());
}

void write_tokenizer(const Checkpoint& source, const fs::path& folder) {
  const Json config = source.tokenizer_config();
  write_json(folder / "tokenizer.json", source.tokenizer_json());
  write_json(folder / "tokenizer_config.json", config);
  // Where tokenizer_config.json carries the template, one text or several by name, it stays there
  // alone.
  const std::optional<std::string> text = source.chat_template();
  const Json* carried = find_key(config, "chat_template");
  if (text && (carried == nullptr || (carried->is_string() && *carried != *text))) {
    write_file(folder / "chat_template.jinja", *text);
  }
}

void write_tensors(const Checkpoint& source,
                   const fs::path& folder,
                   const std::vector<TensorSpec>& specs,
                   const HfSaveOptions& options) {
  uint64_t total = 0;
  for (const TensorSpec& spec : specs) {
    total += spec_bytes(spec);
  }
  uint64_t done = 0;
  const auto fetch = [&](const TensorSpec& spec) {
    const HostTensor stored = source.tensor(spec.name);
    HostTensor tensor =
        is_floating(stored.dtype) ? convert_floats(stored, spec.dtype, spec.name.c_str()) : stored;
    done += tensor.bytes.size();
    if (options.progress) {
      options.progress(static_cast<int64_t>(done), static_cast<int64_t>(total));
    }
    return tensor;
  };
  write_safetensors_shards(folder, specs, fetch, options.shard_bytes);
}

}  // namespace

void save_hf_checkpoint(const Checkpoint& source,
                        const fs::path& folder,
                        const HfSaveOptions& options) {
  AtomicFolder output(folder);
  const std::vector<TensorSpec> specs = plan_tensors(source, options.dtype);
  write_configs(source, output.path(), specs, options);
  write_tokenizer(source, output.path());
  write_tensors(source, output.path(), specs, options);
  output.commit();
}

}  // namespace ssa
