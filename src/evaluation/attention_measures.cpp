#include "evaluation/attention_measures.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>

namespace ssa {
namespace {

constexpr int64_t kNumbersAtOnce = int64_t{1} << 22;  // scores of a piece
constexpr std::array kMeasureNames = {
    "sparsity", "dropped", "entropy", "distance", "bound", "ratio"};

/// [heads, n, d] float64, each key/value head for its group.
Tensor wide_heads(const Tensor& x, int64_t group) {
  return x.to(torch::kFloat64).transpose(0, 1).repeat_interleave(group, 0);
}

Tensor measure_piece(const MeasuredQueries& in,
                     const Tensor& k,  // [n_heads, n_keys, d]
                     const Tensor& v,
                     int64_t first,
                     int64_t n) {
  const int64_t group = in.q.size(1) / in.k.size(1);
  const Tensor q = wide_heads(in.q.narrow(0, first, n), 1);
  const Tensor later = torch::arange(k.size(1), in.tokens.options()) >
                       in.tokens.narrow(0, first, n).unsqueeze(1);  // [n, n_keys]
  const Tensor scores =
      (torch::matmul(q, k.transpose(1, 2)) * in.scale).masked_fill(later, -INFINITY);
  const Tensor chosen = in.chosen.narrow(1, first, n).repeat_interleave(group, 0);
  const Tensor others = torch::logical_or(chosen, later).logical_not();
  const Tensor p = scores.softmax(-1);
  const Tensor kept = scores.masked_fill(chosen.logical_not(), -INFINITY).softmax(-1);
  const Tensor dropped = (p * others).sum(-1);
  const Tensor sparse = torch::matmul(kept, v);
  const Tensor largest = v.norm(2, -1).unsqueeze(1).masked_fill(others.logical_not(), 0).amax(-1);
  return torch::stack({(p * chosen).sum(-1),
                       dropped,
                       -torch::xlogy(p, p).sum(-1),
                       (torch::matmul(p, v) - sparse).norm(2, -1),
                       dropped * (largest + sparse.norm(2, -1))},
                      -1);
}

}  // namespace

Tensor measure_queries(const MeasuredQueries& in) {
  const torch::NoGradGuard no_grad;
  const int64_t n_rows = in.q.size(0), n_heads = in.q.size(1), group = n_heads / in.k.size(1);
  const Tensor k = wide_heads(in.k, group), v = wide_heads(in.v, group);
  const int64_t piece = std::max<int64_t>(1, kNumbersAtOnce / (n_heads * k.size(1)));
  std::vector<Tensor> pieces;
  for (int64_t first = 0; first < n_rows; first += piece) {
    pieces.push_back(measure_piece(in, k, v, first, std::min(piece, n_rows - first)));
  }
  return torch::cat(pieces, 1);
}

void LayerMeasures::add(const Tensor& measures, const Tensor& lonely) {
  const Tensor found = measures.to(torch::kCPU);
  const Tensor distance = found.select(-1, 3), bound = found.select(-1, 4);
  // Where nothing is dropped both are 0, but for rounding.
  const Tensor ratio =
      torch::where(bound > 1e-12, distance / bound.clamp_min(1e-12), torch::zeros_like(bound));
  const Tensor sums = torch::cat({found, ratio.unsqueeze(-1)}, -1).sum(1);
  sums_ = sums_.defined() ? sums_ + sums : sums;
  const Tensor largest = ratio.amax(1);
  ratio_max_ = ratio_max_.defined() ? torch::maximum(ratio_max_, largest) : largest;
  n_queries_ += found.size(1);
  n_beyond_ += (distance > bound * (1 + 1e-9) + 1e-12).sum().item<int64_t>();
  if (lonely.defined()) {
    const Tensor share = lonely.to(torch::kCPU);
    lonely_ = lonely_.defined() ? lonely_ + share : share;
    ++n_sequences_;
  }
}

int64_t LayerMeasures::n_measured() const {
  return empty() ? 0 : n_queries_ * sums_.size(0);
}

Json LayerMeasures::to_json() const {
  Json heads = Json::array();
  for (int64_t head = 0; head < sums_.size(0); ++head) {
    Json measures;
    for (size_t i = 0; i < kMeasureNames.size(); ++i) {
      measures[kMeasureNames[i]] =
          sums_[head][static_cast<int64_t>(i)].item<double>() / static_cast<double>(n_queries_);
    }
    measures["ratio_max"] = ratio_max_[head].item<double>();
    heads.push_back(std::move(measures));
  }
  Json layer = {{"heads", std::move(heads)}};
  if (lonely_.defined()) {
    const Tensor mean = (lonely_ / static_cast<double>(n_sequences_)).contiguous();
    layer["keys_without_gradient"] = std::vector<double>(
        mean.const_data_ptr<double>(), mean.const_data_ptr<double>() + mean.numel());
  }
  return layer;
}

Json mean_of_layers(const std::vector<Json>& layers) {
  std::map<std::string, std::pair<double, double>> sums;  // name: sum, count
  const auto count = [&](const std::string& name, double value) {
    sums[name].first += value;
    sums[name].second += 1;
  };
  double ratio_max = 0;
  for (const Json& layer : layers) {
    for (const Json& head : layer["heads"]) {
      for (const char* name : kMeasureNames) {
        count(name, head[name].get<double>());
      }
      ratio_max = std::max(ratio_max, head["ratio_max"].get<double>());
    }
    for (const Json& share : layer.value("keys_without_gradient", Json::array())) {
      count("keys_without_gradient", share.get<double>());
    }
  }
  Json mean;
  for (const auto& [name, sum] : sums) {
    mean[name] = sum.first / sum.second;
  }
  mean["ratio_max"] = ratio_max;
  return mean;
}

}  // namespace ssa
