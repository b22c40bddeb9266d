#include "evaluation/evaluation_attention.h"

#include <algorithm>
#include <limits>

#include "attention/gist_mask_attention.h"

namespace ssa {
namespace {

constexpr int64_t kForgotten = std::numeric_limits<int64_t>::max();  // behind every row's place

/// Softmax attention under a mask of each key/value head: [n_kv_heads, n_queries, n_keys]. Every
/// query sees at least itself.
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

Tensor on_device(const std::vector<int64_t>& values, torch::Device device) {
  return torch::tensor(values, torch::kInt64).to(device);
}

/// [n_prompts, n] int64.
Tensor on_device(const std::vector<std::vector<int64_t>>& rows, torch::Device device) {
  std::vector<int64_t> all;
  for (const auto& row : rows) {
    all.insert(all.end(), row.begin(), row.end());
  }
  return on_device(all, device).view({std::ssize(rows), -1});
}

}  // namespace

EvaluationAttention::EvaluationAttention(KvCache cache,
                                         SuffixFrame frame,
                                         std::vector<GistMaskPlanPtr> prefix_plans,
                                         bool sums_attention)
    : cache_(std::move(cache)),
      frame_(std::move(frame)),
      prefix_plans_(std::move(prefix_plans)),
      sums_attention_(sums_attention),
      received_(static_cast<size_t>(frame_.n_layers)) {
  if (frame_.has_gists) {
    shown_ = stack_places(frame_, [&](const PromptFrame& prompt) {
      return shown_prefix(frame_, prompt, {prompt.prefix_end, prompt.sequence_end});
    });
    return;
  }
  std::vector<int64_t> ends;
  for (const PromptFrame& prompt : frame_.prompts) {
    ends.push_back(prompt.prefix_end);
  }
  const Tensor end = on_device(ends, frame_.device).view({-1, 1, 1});
  shown_ = torch::arange(frame_.width(), end.options()) < end;
}

void EvaluationAttention::set_tally(PassTally* tally, Tensor evidence) {
  tally_ = tally;
  evidence_ = std::move(evidence);
  if (evidence_.defined()) {
    n_evidence_ = evidence_.sum(1, /*keepdim=*/true).to(torch::kFloat64);
  }
}

void EvaluationAttention::begin_prefix(Range tokens) {
  in_prefix_ = true;
  prefix_tokens_ = tokens;
  mask_ = Tensor();
  if (frame_.has_gists && tokens != Range{0, frame_.width()}) {
    mask_ = frame_.for_heads(
        shown_prefix(frame_, frame_.prompts.front(), tokens).to(frame_.device).unsqueeze(0));
  }
}

/// Of each stream in this pass what stands at its first row's place or behind.
void EvaluationAttention::forget_from_rows() {
  for (size_t prompt = 0; prompt < columns_.places.size(); ++prompt) {
    for (size_t row = 0; row < rows_.streams.size(); ++row) {
      if (row > 0 && rows_.streams[row] == rows_.streams[row - 1]) {
        continue;  // only where a stream begins
      }
      for (size_t column = 0; column < columns_.streams.size(); ++column) {
        int64_t& place = columns_.places[prompt][column];
        if (columns_.streams[column] == rows_.streams[row] && place >= rows_.places[prompt][row]) {
          place = kForgotten;
        }
      }
    }
  }
}

void EvaluationAttention::begin_suffixes(SuffixRows rows) {
  in_prefix_ = false;
  rows_ = std::move(rows);
  columns_.places.resize(frame_.prompts.size());
  forget_from_rows();
  columns_.streams.insert(columns_.streams.end(), rows_.streams.begin(), rows_.streams.end());
  for (size_t prompt = 0; prompt < columns_.places.size(); ++prompt) {
    const std::vector<int64_t>& added = rows_.places[prompt];
    columns_.places[prompt].insert(columns_.places[prompt].end(), added.begin(), added.end());
  }
  mask_ = frame_.for_heads(torch::cat({shown_to_rows(), own_suffixes()}, 2));
  choosing_.clear();
  for (const auto& chooser : choosers_) {
    const Range streams = chooser->streams();
    const auto at = [&](int64_t stream) {
      return std::lower_bound(rows_.streams.begin(), rows_.streams.end(), stream) -
             rows_.streams.begin();
    };
    const Range own{at(streams.begin), at(streams.end)};
    if (!own.empty()) {
      chooser->begin_pass(rows_.part(own));
      choosing_.push_back({chooser.get(), own});
    }
  }
}

void EvaluationAttention::rewind() {
  cache_.truncate(frame_.width());
  columns_ = SuffixRows();
}

/// [n_prompts, n_rows, width]
Tensor EvaluationAttention::shown_to_rows() const {
  const std::vector<int64_t> sizes = {frame_.n_prompts(), rows_.size(), frame_.width()};
  if (shown_.size(1) == 1 && !frame_.has_gists) {
    return shown_.expand(sizes);
  }
  return shown_.gather(1, on_device(rows_.places, frame_.device).unsqueeze(2).expand(sizes));
}

/// Which rows behind the prefixes each row of the pass sees: [n_prompts, n_rows, n_columns].
Tensor EvaluationAttention::own_suffixes() const {
  const Tensor of_column = on_device(columns_.streams, frame_.device);
  const Tensor place_of_column = on_device(columns_.places, frame_.device).unsqueeze(1);
  const int64_t first = columns_.size() - rows_.size();  // the pass's rows are the last columns
  const Tensor same = of_column == of_column.slice(0, first).unsqueeze(1);
  return same.logical_and(place_of_column <= place_of_column.slice(2, first).transpose(1, 2));
}

/// Tokens of all prompts, prompt by prompt, as tokens that have all prompts' heads.
AttentionInput EvaluationAttention::side_by_side(const AttentionInput& in) const {
  const auto turned = [&](const Tensor& x) {
    return x.unflatten(0, {frame_.n_prompts(), -1}).transpose(0, 1).flatten(1, 2);
  };
  return frame_.n_prompts() == 1
             ? in
             : AttentionInput{turned(in.q), turned(in.k), turned(in.v), in.scale};
}

/// [n_heads, n_rows, n_keys]
Tensor EvaluationAttention::suffix_mask(int64_t layer, const AttentionInput& in) {
  if (layer == 0 || choosing_.empty()) {
    return mask_;
  }
  const Tensor keys = cache_.keys(layer).narrow(1, 0, frame_.width());
  Tensor mask = mask_.clone();
  for (const Choosing& part : choosing_) {
    const Tensor q = in.q.slice(0, part.rows.begin, part.rows.end);
    mask.slice(1, part.rows.begin, part.rows.end)
        .narrow(2, 0, frame_.width())
        .copy_(part.chooser->attended(layer, q, keys));
  }
  return mask;
}

void EvaluationAttention::count(const Tensor& mask) {
  const auto n_heads = static_cast<double>(frame_.n_kv_heads);
  const auto by_prompt = [&](const Tensor& keys) {  // sums over keys and a prompt's heads
    return keys.sum(2).unflatten(0, {frame_.n_prompts(), -1}).sum(1).to(torch::kFloat64);
  };
  tally_->attended.push_back(by_prompt(mask).div_(n_heads));
  if (evidence_.defined()) {
    const Tensor seen =
        mask.narrow(2, 0, frame_.width()).logical_and(frame_.for_heads(evidence_.unsqueeze(1)));
    tally_->evidence.push_back(by_prompt(seen).div_(n_evidence_ * n_heads));
  }
}

void EvaluationAttention::sum_received(int64_t layer, const AttentionInput& in) {
  const Tensor keys = cache_.keys(layer).to(torch::kFloat32);
  const int64_t n_kv_heads = keys.size(0), n_keys = keys.size(1);
  // Queries at once: weights of all heads are held.
  const int64_t most_weights = int64_t{1} << (keys.is_cuda() ? 28 : 21);
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
    const int64_t first = prefix_tokens_.begin + begin, n_seen = prefix_tokens_.begin + end;
    const Tensor index = torch::arange(first, n_seen, whole).unsqueeze(1);
    const Tensor later = torch::arange(n_seen, whole).unsqueeze(0) > index;
    const Tensor seen = keys.narrow(1, 0, n_seen).unsqueeze(1).transpose(2, 3);
    Tensor weights = torch::matmul(q, seen)
                         .mul_(in.scale)
                         .masked_fill_(later, -std::numeric_limits<float>::infinity())
                         .softmax(-1);
    if (frame_.n_prompts() > 1) {  // what stands behind a shorter prefix does not look at it
      const Tensor there = shown_.slice(2, first, n_seen).transpose(1, 2);  // [n_prompts, n, 1]
      weights.mul_(frame_.for_heads(there).unsqueeze(1));
    }
    sums.narrow(1, 0, n_seen).add_(weights.sum({1, 2}));
  }
}

/// Each prompt's prefix under its own plan; 0 in padding.
Tensor EvaluationAttention::attend_gists(const AttentionInput& in) const {
  if (frame_.n_prompts() == 1) {
    return gist_mask_attention(in.q, in.k, in.v, prefix_plans_.front(), in.scale);
  }
  const Tensor out = torch::zeros_like(in.q);
  for (int64_t i = 0; i < frame_.n_prompts(); ++i) {
    const auto prompt = static_cast<size_t>(i);
    const auto own = [&](const Tensor& x) {
      return x.narrow(0, i * frame_.width(), frame_.prompts[prompt].prefix_end);
    };
    if (prefix_plans_[prompt]) {
      own(out).copy_(
          gist_mask_attention(own(in.q), own(in.k), own(in.v), prefix_plans_[prompt], in.scale));
    }
  }
  return out;
}

/// As the pass's rows stand.
Tensor EvaluationAttention::attend_prefix(int64_t layer,
                                          const AttentionInput& in,
                                          const AttentionInput& by_head) {
  if (sums_attention_) {
    sum_received(layer, by_head);
  }
  if (frame_.has_gists && !mask_.defined()) {  // the whole of it
    return attend_gists(in);
  }
  const Tensor k = cache_.keys(layer), v = cache_.values(layer);
  const Tensor out = mask_.defined() ? attend_under(by_head, k, v, mask_)
                                     : dense_attention(by_head.q, k, v, in.scale);
  return out.unflatten(1, {frame_.n_prompts(), -1}).transpose(0, 1).flatten(0, 1);
}

Tensor EvaluationAttention::attend(int64_t layer, const AttentionInput& in) {
  const AttentionInput by_head = side_by_side(in);
  cache_.append(layer, by_head.k, by_head.v);
  if (in_prefix_) {
    return attend_prefix(layer, in, by_head);
  }
  const Tensor mask = suffix_mask(layer, by_head);
  if (tally_ != nullptr) {
    count(mask);
  }
  return attend_under(by_head, cache_.keys(layer), cache_.values(layer), mask)
      .unflatten(1, {frame_.n_prompts(), -1})
      .transpose(0, 1)
      .flatten(0, 1);
}

}  // namespace ssa
