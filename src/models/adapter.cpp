#include "models/adapter.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "nn/number_type.h"
#include "tensor/convert.h"

namespace ssa {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens";
constexpr const char* kHead = "lm_head";

bool is_target(const std::string& layer, const std::vector<std::string>& targets) {
  const std::string last = layer.substr(layer.rfind('.') + 1);
  return std::find(targets.begin(), targets.end(), last) != targets.end();
}

}  // namespace

Adapter::Adapter(CausalLM& model, const AdapterConfig& config, torch::ScalarType held)
    : config_(config) {
  const auto options = torch::dtype(held).device(model.device());
  for (const LowRankSite& site : model.low_rank_sites()) {
    Update update;
    update.form = site.int8 ? PackedUpdate::Form::kInt8 : PackedUpdate::Form::kPlain;
    std::vector<LowRank::Part> parts;
    for (size_t i = 0; i < site.names.size(); ++i) {
      const bool adapted = is_target(site.names[i], config.targets);
      update.layers.push_back(adapted ? site.names[i] : "");
      parts.push_back({site.n_out[i], adapted});
    }
    if (std::any_of(parts.begin(), parts.end(), [](const auto& part) { return part.adapted; })) {
      update.low_rank = std::make_shared<LowRank>(
          parts, site.n_in, config.rank, config.scale(), options, switch_);
      *site.slot = update.low_rank;
      updates_.push_back(std::move(update));
    }
  }
}

template <class F>
void Adapter::for_each_layer(const F& f) const {
  for (const Update& update : updates_) {
    for (size_t i = 0; i < update.layers.size(); ++i) {
      if (!update.layers[i].empty()) {
        f(update.layers[i], update.low_rank->a_of(i), update.low_rank->b_of(i));
      }
    }
  }
}

std::shared_ptr<Adapter> Adapter::make(CausalLM& model,
                                       const AdapterConfig& config,
                                       int64_t n_text_rows,
                                       uint64_t seed,
                                       torch::ScalarType held) {
  const torch::NoGradGuard no_grad;
  const std::shared_ptr<Adapter> adapter(new Adapter(model, config, held));
  at::Generator random = at::make_generator<at::CPUGeneratorImpl>(seed);
  adapter->for_each_layer([&](const std::string&, const Tensor& a, const Tensor&) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(a.size(1)));
    a.copy_(torch::empty(a.sizes(), torch::kFloat64).uniform_(-bound, bound, random));
  });
  if (!config.gist_ids.empty()) {
    const GistRows mean =
        model.mean_rows(n_text_rows, static_cast<int64_t>(config.gist_ids.size()));
    GistRows& rows = adapter->rows_;
    rows.embedding = mean.embedding.to(held);
    rows.output = mean.output.is_same(mean.embedding) ? rows.embedding : mean.output.to(held);
    model.attach_gist_rows(rows, adapter->switch_);
  }
  return adapter;
}

std::shared_ptr<Adapter> Adapter::load(CausalLM& model,
                                       const AdapterFiles& files,
                                       torch::ScalarType held) {
  const torch::NoGradGuard no_grad;
  const ModelConfig base = model.config();
  files.check_fits(base);
  AdapterConfig config = files.config();
  config.has_head_rows = !base.tie_word_embeddings && !config.gist_ids.empty();
  const std::shared_ptr<Adapter> adapter(new Adapter(model, config, held));
  adapter->for_each_layer([&](const std::string& layer, const Tensor& a, const Tensor& b) {
    a.copy_(to_tensor(files.tensor(adapter_a_name(layer))));
    b.copy_(to_tensor(files.tensor(adapter_b_name(layer))));
  });
  if (!config.gist_ids.empty()) {
    const auto read = [&](const char* table) {
      return to_tensor(files.tensor(adapter_rows_name(table)))
          .to(model.device(), held, /*non_blocking=*/false, /*copy=*/true);
    };
    GistRows& rows = adapter->rows_;
    rows.embedding = read(kEmbedding);
    if (base.tie_word_embeddings) {
      rows.output = rows.embedding;
    } else if (files.config().has_head_rows) {
      rows.output = read(kHead);
    } else {
      rows.output = model.mean_rows(base.vocab_size, rows.embedding.size(0)).output.to(held);
    }
    model.attach_gist_rows(rows, adapter->switch_);
  }
  return adapter;
}

void Adapter::pack(const CausalLM& model) {
  if (model.device().is_cpu() && has_number_type(model.dtype())) {
    for (const Update& update : updates_) {
      update.low_rank->pack(model.dtype(), update.form);
    }
  }
}

std::vector<std::pair<std::string, Tensor>> Adapter::parameters() const {
  std::vector<std::pair<std::string, Tensor>> all;
  if (rows_.embedding.defined()) {
    all.emplace_back(concat(kEmbedding, ".gists"), rows_.embedding);
  }
  for (const Update& update : updates_) {
    // Named by the first of the layers that share them.
    const std::string& first = *std::find_if(
        update.layers.begin(), update.layers.end(), [](const auto& name) { return !name.empty(); });
    all.emplace_back(first + ".lora_A", update.low_rank->a);
    all.emplace_back(first + ".lora_B", update.low_rank->b);
  }
  if (rows_.output.defined() && !rows_.output.is_same(rows_.embedding)) {
    all.emplace_back(concat(kHead, ".gists"), rows_.output);
  }
  return all;
}

int64_t Adapter::n_weights() const {
  int64_t n = rows_.output.defined() ? rows_.output.numel() : 0;
  for (const Update& update : updates_) {
    n += update.low_rank->a.numel() + update.low_rank->b.numel();
  }
  return n;
}

std::vector<NamedTensor> Adapter::tensors(torch::ScalarType dtype) const {
  std::vector<NamedTensor> all;
  const auto add = [&](const std::string& name, const Tensor& tensor) {
    all.push_back({name, to_host(tensor.detach().to(torch::kCPU, dtype))});
  };
  for_each_layer([&](const std::string& layer, const Tensor& a, const Tensor& b) {
    add(adapter_a_name(layer), a);
    add(adapter_b_name(layer), b);
  });
  if (rows_.embedding.defined()) {
    add(adapter_rows_name(kEmbedding), rows_.embedding);
    if (config_.has_head_rows) {
      add(adapter_rows_name(kHead), rows_.output);
    }
  }
  return all;
}

}  // namespace ssa
