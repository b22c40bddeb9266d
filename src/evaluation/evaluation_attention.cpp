#include "evaluation/evaluation_attention.h"

#include <algorithm>
#include <limits>

namespace ssa {
namespace {

/// Softmax attention under a mask of each key/value head: [n_kv_heads or 1, n_queries, n_keys].
/// Every query sees at least itself.
Tensor attend_under(const AttentionInput& in,
                    const Tensor& k,
                    const Tensor& v,
                    const Tensor& mask) {
  const int64_t n_kv_heads = k.size(0), group = in.q.size(1) / n_kv_heads;
  const Tensor grouped = in.q.unflatten(1, {n_kv_heads, group}).permute({1, 2, 0, 3});
  const auto shared = [&](const Tensor& x) {
    return x.unsqueeze(1).expand({n_kv_heads, group, x.size(1), x.size(2)});
  };
  const Tensor out = torch::scaled_dot_product_attention(grouped,
                                                         shared(k),
                                                         shared(v),
                                                         mask.unsqueeze(1),
                                                         /*dropout_p=*/0.0,
                                                         /*is_causal=*/false,
                                                         in.scale);
  return out.permute({2, 0, 1, 3}).flatten(1, 2);
}

}  // namespace

EvaluationAttention::EvaluationAttention(KvCache cache, SuffixFrame frame, bool sums_attention)
    : cache_(std::move(cache)),
      frame_(std::move(frame)),
      sums_attention_(sums_attention),
      received_(static_cast<size_t>(frame_.n_layers)) {}

void EvaluationAttention::set_tally(PassTally* tally, Range rows, Tensor evidence) {
  tally_ = tally;
  tally_rows_ = rows;
  evidence_ = std::move(evidence);
}

int64_t EvaluationAttention::pass_limit(int64_t first, int64_t wanted) const {
  return first < frame_.prefix_end ? std::min(wanted, frame_.prefix_end - first) : wanted;
}

void EvaluationAttention::begin_pass(int64_t first, std::span<const int64_t> ids) {
  queries_ = {first, first + static_cast<int64_t>(ids.size())};
  mask_ = Tensor();
  if (chooser_ != nullptr && !in_prefix()) {
    chooser_->begin_pass(queries_);
  }
}

const Tensor& EvaluationAttention::gist_mask() {
  if (!mask_.defined()) {
    Tensor mask = torch::zeros({1, queries_.size(), queries_.end}, torch::kBool);
    auto* row = mask.mutable_data_ptr<bool>();
    for (int64_t q = queries_.begin; q < queries_.end; ++q, row += queries_.end) {
      for (const Range& range : visible_ranges(*frame_.layout, frame_.rule, q)) {
        std::fill(row + range.begin, row + range.end, true);
      }
    }
    mask_ = mask.to(frame_.device);
  }
  return mask_;
}

Tensor EvaluationAttention::attended_keys(int64_t layer, const AttentionInput& in) {
  if (chooser_ != nullptr && layer > 0 && !in_prefix()) {
    return chooser_->attended(layer, in.q, cache_.keys(layer));
  }
  return frame_.has_gists ? gist_mask() : Tensor();
}

void EvaluationAttention::count(const Tensor& mask) {
  const auto real = torch::TensorOptions().dtype(torch::kFloat64).device(frame_.device);
  if (!mask.defined()) {  // everything up to itself
    const double mean = static_cast<double>(queries_.begin + queries_.end + 1) / 2.0;
    tally_->attended.push_back(torch::full({}, mean, real));
  } else {
    tally_->attended.push_back(mask.sum().to(torch::kFloat64) /
                               static_cast<double>(mask.size(0) * mask.size(1)));
  }
  if (evidence_.defined()) {
    tally_->evidence.push_back(mask.defined() ? mask.slice(1, tally_rows_.begin, tally_rows_.end)
                                                    .index_select(2, evidence_)
                                                    .to(torch::kFloat64)
                                                    .mean()
                                              : torch::ones({}, real));
  }
}

void EvaluationAttention::sum_received(int64_t layer, const AttentionInput& in) {
  constexpr int64_t kBlock = 256;  // queries at once: weights of all heads are held
  const Tensor keys = cache_.keys(layer).to(torch::kFloat32);
  const int64_t n_kv_heads = keys.size(0), n_keys = keys.size(1);
  Tensor& sums = received_[static_cast<size_t>(layer)];
  const Tensor before = sums;
  sums = torch::zeros({n_kv_heads, n_keys}, keys.options());
  if (before.defined()) {
    sums.slice(1, 0, before.size(1)).copy_(before);
  }
  const auto whole = torch::TensorOptions().dtype(torch::kInt64).device(keys.device());
  for (int64_t begin = 0; begin < in.q.size(0); begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, in.q.size(0));
    const Tensor q = in.q.slice(0, begin, end)
                         .to(torch::kFloat32)
                         .unflatten(1, {n_kv_heads, -1})
                         .permute({1, 2, 0, 3});  // [n_kv_heads, group, n, head_dim]
    const Tensor index =
        torch::arange(queries_.begin + begin, queries_.begin + end, whole).unsqueeze(1);
    const Tensor later = torch::arange(n_keys, whole).unsqueeze(0) > index;
    const Tensor scores = torch::matmul(q, keys.unsqueeze(1).transpose(2, 3)).mul_(in.scale);
    sums +=
        scores.masked_fill_(later, -std::numeric_limits<float>::infinity()).softmax(-1).sum({1, 2});
  }
}

Tensor EvaluationAttention::attend(int64_t layer, const AttentionInput& in) {
  cache_.append(layer, in.k, in.v);
  if (sums_attention_ && in_prefix()) {
    sum_received(layer, in);
  }
  const Tensor mask = attended_keys(layer, in);
  if (tally_ != nullptr) {
    count(mask);
  }
  const Tensor k = cache_.keys(layer), v = cache_.values(layer);
  return mask.defined() ? attend_under(in, k, v, mask) : dense_attention(in.q, k, v, in.scale);
}

}  // namespace ssa
