#include "evaluation/evaluation_attention.h"

#include <algorithm>
#include <limits>

#include "attention/gist_mask_attention.h"

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

EvaluationAttention::EvaluationAttention(KvCache cache,
                                         SuffixFrame frame,
                                         GistMaskPlanPtr prefix_plan,
                                         bool sums_attention)
    : cache_(std::move(cache)),
      frame_(std::move(frame)),
      prefix_plan_(std::move(prefix_plan)),
      sums_attention_(sums_attention),
      received_(static_cast<size_t>(frame_.n_layers)) {
  if (frame_.has_gists) {
    shown_ = gist_rows({frame_.prefix_end, frame_.sequence_end});
  }
}

/// What the gist mask shows of the prefix up to the queries: [n_queries, n_keys].
Tensor EvaluationAttention::gist_rows(Range queries) const {
  const int64_t n_keys = std::min(queries.end, frame_.prefix_end);
  Tensor mask = torch::zeros({queries.size(), n_keys}, torch::kBool);
  auto* row = mask.mutable_data_ptr<bool>();
  for (int64_t q = queries.begin; q < queries.end; ++q, row += n_keys) {
    for (const Range& range : visible_ranges(*frame_.layout, frame_.rule, q)) {
      std::fill(row + std::min(range.begin, n_keys), row + std::min(range.end, n_keys), true);
    }
  }
  return mask.to(frame_.device);
}

void EvaluationAttention::set_tally(PassTally* tally, Tensor evidence) {
  tally_ = tally;
  evidence_ = std::move(evidence);
}

void EvaluationAttention::set_rows(SuffixRows rows) {
  rows_ = std::move(rows);
  for (int64_t i = 0; i < rows_.size(); ++i) {
    const auto row = static_cast<size_t>(i);
    if (i > 0 && rows_.streams[row] == rows_.streams[row - 1]) {
      continue;  // only where a stream begins
    }
    for (size_t column = 0; column < columns_.streams.size(); ++column) {
      if (columns_.streams[column] == rows_.streams[row] &&
          columns_.indices[column] >= rows_.indices[row]) {
        columns_.streams[column] = -1;
      }
    }
  }
  columns_.streams.insert(columns_.streams.end(), rows_.streams.begin(), rows_.streams.end());
  columns_.indices.insert(columns_.indices.end(), rows_.indices.begin(), rows_.indices.end());
}

void EvaluationAttention::rewind(int64_t length) {
  cache_.truncate(length);
  const auto kept = static_cast<size_t>(std::max<int64_t>(0, length - frame_.prefix_end));
  columns_.streams.resize(std::min(columns_.streams.size(), kept));
  columns_.indices.resize(columns_.streams.size());
}

int64_t EvaluationAttention::pass_limit(int64_t first, int64_t wanted) const {
  return first < frame_.prefix_end ? std::min(wanted, frame_.prefix_end - first) : wanted;
}

void EvaluationAttention::begin_pass(int64_t first, std::span<const int64_t> ids) {
  queries_ = {first, first + static_cast<int64_t>(ids.size())};
  mask_ = Tensor();
  if (!in_prefix()) {
    begin_suffix_pass();
  } else if (frame_.has_gists && queries_ != Range{0, frame_.prefix_end}) {
    mask_ = gist_rows(queries_).unsqueeze(0);
  }
}

/// Which rows behind the prefix each row of the pass sees: [n_rows, n_columns].
Tensor EvaluationAttention::own_suffixes() const {
  const int64_t n_columns = columns_.size();
  Tensor mask = torch::zeros({rows_.size(), n_columns}, torch::kBool);
  auto* row = mask.mutable_data_ptr<bool>();
  for (size_t i = 0; i < rows_.streams.size(); ++i, row += n_columns) {
    for (size_t column = 0; column < columns_.streams.size(); ++column) {
      row[column] = columns_.streams[column] == rows_.streams[i] &&
                    columns_.indices[column] <= rows_.indices[i];
    }
  }
  return mask.to(frame_.device);
}

void EvaluationAttention::begin_suffix_pass() {
  TORCH_CHECK(
      rows_.size() == queries_.size() && queries_.end == frame_.prefix_end + columns_.size(),
      "evaluation attention: rows of a pass");
  const Tensor suffixes = own_suffixes();
  Tensor prefix = torch::ones({1, 1}, suffixes.options()).expand({rows_.size(), frame_.prefix_end});
  if (shown_.defined()) {
    const Tensor places = torch::tensor(rows_.indices, torch::kInt64) - frame_.prefix_end;
    prefix = shown_.index_select(0, places.to(frame_.device));
  }
  mask_ = torch::cat({prefix, suffixes}, 1).unsqueeze(0);
  choosing_.clear();
  for (const auto& chooser : choosers_) {
    const Range streams = chooser->streams();
    const auto at = [&](int64_t stream) {
      return std::lower_bound(rows_.streams.begin(), rows_.streams.end(), stream) -
             rows_.streams.begin();
    };
    const Range rows{at(streams.begin), at(streams.end)};
    if (!rows.empty()) {
      chooser->begin_pass(rows_.part(rows));
      choosing_.push_back({chooser.get(), rows});
    }
  }
}

/// [n_kv_heads or 1, n_rows, n_keys]
Tensor EvaluationAttention::suffix_mask(int64_t layer, const AttentionInput& in) {
  if (layer == 0 || choosing_.empty()) {
    return mask_;
  }
  const Tensor keys = cache_.keys(layer).narrow(1, 0, frame_.prefix_end);
  Tensor mask = mask_.repeat({in.k.size(1), 1, 1});
  for (const Choosing& part : choosing_) {
    const Tensor q = in.q.slice(0, part.rows.begin, part.rows.end);
    mask.slice(1, part.rows.begin, part.rows.end)
        .narrow(2, 0, frame_.prefix_end)
        .copy_(part.chooser->attended(layer, q, keys));
  }
  return mask;
}

void EvaluationAttention::count(const Tensor& mask) {
  const auto mean_keys = [](const Tensor& keys, int64_t n) {
    return keys.sum(torch::IntArrayRef{0, 2}).to(torch::kFloat64).div_(static_cast<double>(keys.size(0) * n));
  };
  tally_->attended.push_back(mean_keys(mask, 1));
  if (evidence_.defined()) {
    tally_->evidence.push_back(mean_keys(mask.index_select(2, evidence_), evidence_.size(0)));
  }
}

void EvaluationAttention::sum_received(int64_t layer, const AttentionInput& in) {
  const Tensor keys = cache_.keys(layer).to(torch::kFloat32);
  const int64_t n_kv_heads = keys.size(0), n_keys = keys.size(1);
  // Queries at once: weights of all heads are held.
  const int64_t most_weights = int64_t{1} << (keys.is_cuda() ? 26 : 21);
  const int64_t block = std::max<int64_t>(16, most_weights / (in.q.size(1) * n_keys));
  Tensor& sums = received_[static_cast<size_t>(layer)];
  const Tensor before = sums;
  sums = torch::zeros({n_kv_heads, n_keys}, keys.options());
  if (before.defined()) {
    sums.slice(1, 0, before.size(1)).copy_(before);
  }
  const auto whole = torch::TensorOptions().dtype(torch::kInt64).device(keys.device());
  for (int64_t begin = 0; begin < in.q.size(0); begin += block) {
    const int64_t end = std::min(begin + block, in.q.size(0));
    const Tensor q = in.q.slice(0, begin, end)
                         .to(torch::kFloat32)
                         .unflatten(1, {n_kv_heads, -1})
                         .permute({1, 2, 0, 3});  // [n_kv_heads, group, n, head_dim]
    const Tensor index =
        torch::arange(queries_.begin + begin, queries_.begin + end, whole).unsqueeze(1);
    const int64_t n_seen = queries_.begin + end;
    const Tensor later = torch::arange(n_seen, whole).unsqueeze(0) > index;
    const Tensor seen = keys.narrow(1, 0, n_seen).unsqueeze(1).transpose(2, 3);
    const Tensor scores = torch::matmul(q, seen).mul_(in.scale);
    sums.narrow(1, 0, n_seen)
        .add_(scores.masked_fill_(later, -std::numeric_limits<float>::infinity())
                  .softmax(-1)
                  .sum({1, 2}));
  }
}

Tensor EvaluationAttention::attend_prefix(int64_t layer, const AttentionInput& in) {
  if (sums_attention_) {
    sum_received(layer, in);
  }
  if (frame_.has_gists && !mask_.defined()) {  // the whole of it
    return gist_mask_attention(in.q, in.k, in.v, prefix_plan_, in.scale);
  }
  const Tensor k = cache_.keys(layer), v = cache_.values(layer);
  return mask_.defined() ? attend_under(in, k, v, mask_) : dense_attention(in.q, k, v, in.scale);
}

Tensor EvaluationAttention::attend(int64_t layer, const AttentionInput& in) {
  cache_.append(layer, in.k, in.v);
  if (in_prefix()) {
    return attend_prefix(layer, in);
  }
  const Tensor mask = suffix_mask(layer, in);
  if (tally_ != nullptr) {
    count(mask);
  }
  return attend_under(in, cache_.keys(layer), cache_.values(layer), mask);
}

}  // namespace ssa
