#include "models/gistified_checkpoint.h"

#include <array>

#include "base/error.h"
#include "tensor/convert.h"
#include "tokenizer/tokenizer.h"

namespace ssa {
namespace {

constexpr std::array<const char*, kGistTokenCount> kGistTokens = {"<gist>", "<Gist>", "<MGist>"};

}  // namespace

bool is_vocabulary(const std::string& tensor) {
  return tensor == "model.embed_tokens.weight" || tensor == "lm_head.weight";
}

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

GistifiedCheckpoint::GistifiedCheckpoint(std::shared_ptr<const Checkpoint> source,
                                         GistSettings settings,
                                         int64_t n_kept)
    : source_(std::move(source)), n_kept_(n_kept), config_(source_->config()) {
  settings.token_ids.clear();
  for (int64_t i = 0; i < kGistTokenCount; ++i) {
    settings.token_ids.push_back(n_kept + i);
  }
  config_.vocab_size = n_kept + kGistTokenCount;
  config_.gist = to_json(settings);
}

std::vector<int64_t> GistifiedCheckpoint::tensor_shape(const std::string& name) const {
  std::vector<int64_t> shape = source_->tensor_shape(name);
  if (is_vocabulary(name)) {
    shape[0] = config_.vocab_size;
  }
  return shape;
}

HostTensor GistifiedCheckpoint::tensor(const std::string& name) const {
  if (!is_vocabulary(name)) {
    return source_->tensor(name);
  }
  const Tensor kept = to_tensor(source_->tensor(name)).narrow(0, 0, n_kept_);
  const Tensor mean = kept.to(torch::kFloat64).mean(0, /*keepdim=*/true).to(kept.scalar_type());
  return to_host(torch::cat({kept, mean.expand({kGistTokenCount, -1})}));
}

Json GistifiedCheckpoint::tokenizer_json() const {
  Json tokenizer = source_->tokenizer_json();
  if (tokenizer.is_null() || Tokenizer::from_json(tokenizer).size() != n_kept_) {
    return tokenizer;
  }
  for (int64_t i = 0; i < kGistTokenCount; ++i) {
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

}  // namespace ssa
