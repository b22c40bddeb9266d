#include "models/gistify.h"

#include <array>

#include "base/error.h"
#include "checkpoint/hf_save.h"
#include "tensor/convert.h"
#include "tokenizer/tokenizer.h"

namespace ssa {
namespace {

constexpr std::array kGistTokens = {"<gist>", "<Gist>", "<MGist>"};
constexpr auto kNewRows = static_cast<int64_t>(kGistTokens.size());

/// The source as it will be saved. Refers to it.
class GistifiedCheckpoint : public Checkpoint {
 public:
  GistifiedCheckpoint(const Checkpoint& source, GistSettings settings, int64_t n_kept)
      : source_(source), n_kept_(n_kept), config_(source.config()) {
    for (int64_t i = 0; i < kNewRows; ++i) {
      settings.token_ids.push_back(n_kept + i);
    }
    config_.vocab_size = n_kept + kNewRows;
    config_.gist = to_json(settings);
  }

  std::string format() const override { return source_.format(); }
  const ModelConfig& config() const override { return config_; }
  std::vector<std::string> tensor_names() const override { return source_.tensor_names(); }
  bool has_tensor(const std::string& name) const override { return source_.has_tensor(name); }
  DType tensor_dtype(const std::string& name) const override { return source_.tensor_dtype(name); }
  uint64_t tensor_bytes() const override { return source_.tensor_bytes(); }
  Json tokenizer_config() const override { return source_.tokenizer_config(); }
  std::optional<std::string> chat_template() const override { return source_.chat_template(); }
  Json generation_config() const override { return source_.generation_config(); }

  std::vector<int64_t> tensor_shape(const std::string& name) const override {
    std::vector<int64_t> shape = source_.tensor_shape(name);
    if (is_vocabulary(name)) {
      shape[0] = config_.vocab_size;
    }
    return shape;
  }

  HostTensor tensor(const std::string& name) const override {
    if (!is_vocabulary(name)) {
      return source_.tensor(name);
    }
    const Tensor kept = to_tensor(source_.tensor(name)).narrow(0, 0, n_kept_);
    const Tensor mean = kept.to(torch::kFloat64).mean(0, /*keepdim=*/true).to(kept.scalar_type());
    return to_host(torch::cat({kept, mean.expand({kNewRows, -1})}));
  }

  Json tokenizer_json() const override {
    Json tokenizer = source_.tokenizer_json();
    if (tokenizer.is_null()) {
      return tokenizer;
    }
    for (int64_t i = 0; i < kNewRows; ++i) {
      tokenizer["added_tokens"].push_back({{"id", n_kept_ + i},
                                           {"content", kGistTokens[static_cast<size_t>(i)]},
                                           {"single_word", false},
                                           {"lstrip", false},
                                           {"rstrip", false},
                                           {"normalized", false},
                                           {"special", true}});
    }
    return tokenizer;
  }

 private:
  static bool is_vocabulary(const std::string& name) {
    return name == "model.embed_tokens.weight" || name == "lm_head.weight";
  }

  const Checkpoint& source_;
  int64_t n_kept_;
  ModelConfig config_;
};

/// Rows of the vocabulary that tokens use: the tokenizer's length, or all where there is no
/// tokenizer.
int64_t rows_in_use(const Checkpoint& source) {
  const Json json = source.tokenizer_json();
  const int64_t n_rows = source.config().vocab_size;
  if (json.is_null()) {
    return n_rows;
  }
  const Tokenizer tokenizer = Tokenizer::from_json(json);
  for (const char* token : kGistTokens) {
    check(!tokenizer.token_to_id(token), "this checkpoint has gist tokens already (", token, ")");
  }
  check(tokenizer.size() <= n_rows,
        "the tokenizer has ",
        tokenizer.size(),
        " tokens and the embedding only ",
        n_rows,
        " rows");
  return tokenizer.size();
}

}  // namespace

void gistify(const Checkpoint& source,
             GistSettings settings,
             const std::filesystem::path& folder,
             const ProgressFn& progress) {
  check(source.config().gist.is_null(), "this checkpoint has gist settings already");
  settings.token_ids.clear();
  const torch::InferenceMode inference;
  const GistifiedCheckpoint gistified(source, std::move(settings), rows_in_use(source));
  HfSaveOptions options;
  options.progress = progress;
  save_hf_checkpoint(gistified, folder, options);
}

}  // namespace ssa
