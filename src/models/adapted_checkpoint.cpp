#include <algorithm>

#include "base/error.h"
#include "models/adapter.h"
#include "models/gistified_checkpoint.h"
#include "tensor/convert.h"
#include "tokenizer/tokenizer_fingerprint.h"

namespace ssa {
namespace {

/// `inner` with an adapter's tensors worked in.
class MergedCheckpoint : public Checkpoint {
 public:
  MergedCheckpoint(std::shared_ptr<const Checkpoint> inner,
                   std::shared_ptr<const AdapterFiles> files)
      : inner_(std::move(inner)), files_(std::move(files)) {}

  std::string format() const override { return inner_->format() + ", adapter"; }
  const ModelConfig& config() const override { return inner_->config(); }
  std::vector<std::string> tensor_names() const override { return inner_->tensor_names(); }
  bool has_tensor(const std::string& name) const override { return inner_->has_tensor(name); }
  DType tensor_dtype(const std::string& name) const override { return inner_->tensor_dtype(name); }
  uint64_t tensor_bytes() const override { return inner_->tensor_bytes(); }
  Json tokenizer_json() const override { return inner_->tokenizer_json(); }
  Json tokenizer_config() const override { return inner_->tokenizer_config(); }
  std::optional<std::string> chat_template() const override { return inner_->chat_template(); }
  Json generation_config() const override { return inner_->generation_config(); }
  std::vector<int64_t> tensor_shape(const std::string& name) const override {
    return inner_->tensor_shape(name);
  }

  HostTensor tensor(const std::string& name) const override {
    const torch::NoGradGuard no_grad;
    const std::string layer = name.substr(0, name.rfind(".weight"));
    if (is_vocabulary(name)) {
      return with_gist_rows(name, layer);
    }
    const auto& targets = files_->config().targets;
    const std::string last = layer.substr(layer.rfind('.') + 1);
    if (!name.ends_with(".weight") ||
        std::find(targets.begin(), targets.end(), last) == targets.end()) {
      return inner_->tensor(name);
    }
    const Tensor stored = to_tensor(inner_->tensor(name));
    const auto wide = [&](const std::string& part) {
      return to_tensor(files_->tensor(part)).to(torch::kFloat64);
    };
    const Tensor update = torch::mm(wide(adapter_b_name(layer)), wide(adapter_a_name(layer)));
    return to_host(
        (stored.to(torch::kFloat64) + update * files_->config().scale()).to(stored.scalar_type()));
  }

 private:
  HostTensor with_gist_rows(const std::string& name, const std::string& table) const {
    const AdapterConfig& config = files_->config();
    const bool tied = inner_->config().tie_word_embeddings;
    const bool has_rows =
        !config.gist_ids.empty() && (tied || table != "lm_head" || config.has_head_rows);
    if (!has_rows) {
      return inner_->tensor(name);
    }
    const Tensor whole = to_tensor(inner_->tensor(name)).clone();
    const Tensor rows =
        to_tensor(files_->tensor(adapter_rows_name(tied ? "model.embed_tokens" : table)));
    whole.slice(0, whole.size(0) - rows.size(0)).copy_(rows);
    return to_host(whole);
  }

  std::shared_ptr<const Checkpoint> inner_;
  std::shared_ptr<const AdapterFiles> files_;
};

}  // namespace

Json describe_base(const Checkpoint& base) {
  const ModelConfig& config = base.config();
  const Json tokenizer = base.tokenizer_json();
  return {{"architecture", architecture_name(config.architecture)},
          {"layers", config.n_layers},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"heads", config.n_heads},
          {"kv_heads", config.n_kv_heads},
          {"head_dim", config.head_dim},
          {"vocab_size", config.vocab_size},
          {"tied", config.tie_word_embeddings},
          {"tokenizer",
           tokenizer.is_null() ? Json()
                               : Json(tokenizer_fingerprint(Tokenizer::from_json(tokenizer)))}};
}

void check_base(const AdapterFiles& files, const Checkpoint& base) {
  const Json* wanted = find_key(files.gist_config(), "base");
  if (wanted == nullptr) {
    return;  // shapes are checked by what the adapter's tensors say
  }
  const Json found = describe_base(base);
  for (const auto& [key, value] : found.items()) {
    const Json* expected = find_key(*wanted, key.c_str());
    if (expected != nullptr && !value.is_null()) {
      const std::string name = files.config().base_name;
      check(*expected == value,
            files.folder().string(),
            ": the adapter is for another base",
            name.empty() ? "" : " (" + name + ")",
            ": ",
            key,
            " ",
            dump_json(*expected),
            ", and this model has ",
            dump_json(value));
    }
  }
}

GistSettings adapter_gists(const AdapterFiles& files) {
  const Json* saved = find_key(files.gist_config(), "gist");
  GistSettings settings = saved == nullptr ? GistSettings() : parse_gist_settings(*saved);
  settings.token_ids = files.config().gist_ids;
  return settings;
}

Json adapter_gist_config(const Checkpoint& base, const GistSettings* gists) {
  Json content = {{"base", describe_base(base)}};
  if (gists != nullptr) {
    content["gist"] = to_json(*gists);
  }
  return content;
}

std::unique_ptr<Checkpoint> merged_checkpoint(std::shared_ptr<const Checkpoint> base,
                                              std::shared_ptr<const AdapterFiles> files,
                                              int64_t n_kept) {
  check_base(*files, *base);
  files->check_fits(base->config());
  const size_t n_gists = files->config().gist_ids.size();
  if (n_gists == 0) {
    return std::make_unique<MergedCheckpoint>(std::move(base), std::move(files));
  }
  check(base->config().gist.is_null(),
        files->folder().string(),
        ": the adapter brings gist tokens, and the base has some already");
  check(n_gists == kGistTokenCount,
        files->folder().string(),
        ": the adapter has rows for ",
        n_gists,
        " tokens; gists are ",
        kGistTokenCount);
  auto gistified =
      std::make_shared<GistifiedCheckpoint>(std::move(base), adapter_gists(*files), n_kept);
  return std::make_unique<MergedCheckpoint>(std::move(gistified), std::move(files));
}

}  // namespace ssa
