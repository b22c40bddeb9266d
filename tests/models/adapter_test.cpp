// Adapters on models: what they compute, switched on and off, and which are refused.
#include "models/adapter.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "base/remove_folder.h"
#include "models/factory.h"
#include "models/growing_attention.h"
#include "support/compare.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace ssa {
namespace {

/// A golden model, and an adapter for it in a folder of its own.
class AdapterTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("ssa_adapter_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    // In float64, which merged weights are not rounded to.
    auto base = std::make_shared<MemoryCheckpoint>(*open_golden_model(GetParam()).checkpoint);
    for (auto& [name, tensor] : base->tensors()) {
      tensor = tensor.to(torch::kFloat64);
    }
    base_ = base;
    const ModelConfig& shape = base_->config();
    config_.rank = 4;
    config_.alpha = 6;
    config_.gist_ids = {shape.vocab_size, shape.vocab_size + 1, shape.vocab_size + 2};
    config_.has_head_rows = !shape.tie_word_embeddings;
    const auto model = load_model(*base_);
    const auto adapter = Adapter::make(*model, config_, shape.vocab_size, 3, torch::kFloat32);
    torch::manual_seed(4);
    for (auto [name, tensor] : adapter->parameters()) {
      tensor.add_(torch::randn_like(tensor) * 0.1);
    }
    tensors_ = adapter->tensors(torch::kFloat32);
    const GistSettings gists{.chunk = {4}, .sink = 2};
    gist_config_ = adapter_gist_config(*base_, &gists);
    write();
  }
  void TearDown() override { remove_folder(folder_); }

  void write() const { write_adapter(folder_, config_, gist_config_, tensors_); }
  std::shared_ptr<const AdapterFiles> files() const {
    return std::make_shared<AdapterFiles>(folder_);
  }
  /// Text, and all three gists behind it.
  Tensor ids() const {
    const int64_t n = base_->config().vocab_size;
    return torch::cat({torch::arange(n - 20, n), torch::arange(n, n + 3), torch::arange(5)});
  }
  static Tensor logits(CausalLM& model, const Tensor& ids) {
    const torch::InferenceMode inference;
    GrowingAttention attention(model.config().n_layers);
    return model.logits(model.forward(ids, torch::arange(ids.numel()), attention)).clone();
  }

  std::filesystem::path folder_;
  std::shared_ptr<const Checkpoint> base_;
  AdapterConfig config_;
  std::vector<NamedTensor> tensors_;
  Json gist_config_;
};

TEST_P(AdapterTest, ComputesWhatTheMergedModelComputes) {
  const auto merged = merged_checkpoint(base_, files(), base_->config().vocab_size);
  for (const auto dtype : {torch::kFloat64, torch::kFloat32}) {
    const auto model = load_model(*base_, {.dtype = dtype}),
               whole = load_model(*merged, {.dtype = dtype});
    const auto adapter = Adapter::load(*model, *files(), dtype);
    const double tolerance = dtype == torch::kFloat64 ? 1e-6 : 1e-4;
    EXPECT_TRUE(all_close(logits(*model, ids()), logits(*whole, ids()), tolerance));
    EXPECT_EQ(model->config().vocab_size, base_->config().vocab_size + 3);
  }
  EXPECT_EQ(parse_gist_settings(merged->config().gist).token_ids, config_.gist_ids);
}

TEST_P(AdapterTest, IsTheBaseBitByBitWhenSwitchedOff) {
  const Tensor text = torch::arange(30);
  for (const WeightKind weights : {WeightKind::kAsDtype, WeightKind::kInt8}) {
    const LoadOptions options{.weights = weights};
    const auto plain = load_model(*base_, options), model = load_model(*base_, options);
    const auto adapter = Adapter::load(*model, *files(), torch::kFloat32);
    EXPECT_FALSE(torch::equal(logits(*plain, text),
                              logits(*model, text).slice(1, 0, base_->config().vocab_size)));
    const SwitchedOff off(adapter->power());
    EXPECT_TRUE(torch::equal(logits(*plain, text), logits(*model, text)));
    EXPECT_EQ(model->config().vocab_size, base_->config().vocab_size);
  }
}

TEST_P(AdapterTest, AddsTheSameTo8BitWeights) {
  const LoadOptions options{.weights = WeightKind::kInt8};
  const auto exact = load_model(*base_), packed = load_model(*base_, options);
  const Tensor text = torch::arange(6);
  const double of_weights = largest_difference(logits(*exact, text), logits(*packed, text));
  const auto first = Adapter::load(*exact, *files(), torch::kFloat32),
             second = Adapter::load(*packed, *files(), torch::kFloat32);
  EXPECT_LE(largest_difference(logits(*exact, text), logits(*packed, text)), 4 * of_weights + 1e-3);
}

TEST_P(AdapterTest, RefusesWhatDoesNotFit) {
  const auto refused = [&](const std::string& part) {
    write();
    expect_error([&] { merged_checkpoint(base_, files(), base_->config().vocab_size); }, part);
  };
  const Json right = gist_config_;
  gist_config_["base"]["layers"] = 99;
  config_.base_name = "another-model";
  refused("the adapter is for another base (another-model): layers 99, and this model has ");
  gist_config_ = right;

  const auto all = tensors_;
  tensors_.erase(tensors_.begin());
  refused("the adapter lacks " + all.front().name + ", expected [4, ");
  tensors_ = all;

  tensors_[1].tensor = to_host(torch::zeros({7, 4}));
  refused(all[1].name + ": expected [");
  tensors_ = all;

  config_.rank = 5;
  refused("adapter_config.json says rank 5, and " + all[0].name + " is [4, ");
  config_.rank = 4;

  config_.gist_ids.clear();
  refused("it has lost its gist rows");
}

INSTANTIATE_TEST_SUITE_P(Models,
                         AdapterTest,
                         testing::Values("llama-gqa3-tied-llama3",
                                         "llama-mqa-yarn",
                                         "qwen2-linear"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace ssa
