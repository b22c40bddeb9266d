#include "engine/sequence.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace ssa {
namespace {

Tensor to_device(std::span<const int64_t> values, torch::Device device) {
  auto* data = const_cast<int64_t*>(values.data());  // copied at once, never written
  const auto n = static_cast<int64_t>(values.size());
  return torch::from_blob(data, {n}, torch::kInt64).to(device, torch::kInt64, false, /*copy=*/true);
}

void check_ids(std::span<const int64_t> ids, int64_t vocab_size) {
  for (const int64_t id : ids) {
    check(
        id >= 0 && id < vocab_size, "token id ", id, " is outside the vocabulary of ", vocab_size);
  }
}

}  // namespace

Tensor FullAttention::attend(int64_t layer, const AttentionInput& in) {
  cache_.append(layer, in.k, in.v);
  return dense_attention(in.q, cache_.keys(layer), cache_.values(layer), in.scale);
}

Sequence::Sequence(CausalLM& model, std::unique_ptr<SequenceAttention> attention)
    : model_(model), attention_(std::move(attention)) {}

void Sequence::advance(std::span<const int64_t> ids,
                       std::span<const int64_t> positions,
                       int64_t piece,
                       const RowsFn& rows,
                       const ProgressFn& progress) {
  TORCH_CHECK(piece > 0 && ids.size() == positions.size(),
              "advance: piece ",
              piece,
              ", ",
              ids.size(),
              " ids, ",
              positions.size(),
              " positions");
  check_ids(ids, model_.config().vocab_size);
  const torch::InferenceMode inference;
  const auto total = static_cast<int64_t>(ids.size());
  for (int64_t done = 0; done < total;) {
    const int64_t n = attention_->pass_limit(length_, std::min(piece, total - done));
    const auto part = [&](std::span<const int64_t> all) {
      return all.subspan(static_cast<size_t>(done), static_cast<size_t>(n));
    };
    attention_->begin_pass(length_, part(ids));
    const torch::Device device = model_.device();
    const Tensor hidden = model_.forward(
        to_device(part(ids), device), to_device(part(positions), device), *attention_);
    if (rows) {
      rows(length_, hidden);
    }
    done += n;
    length_ += n;
    if (progress) {
      progress(done, total);
    }
  }
}

Tensor Sequence::last_logits(std::span<const int64_t> ids,
                             std::span<const int64_t> positions,
                             int64_t piece,
                             const ProgressFn& progress) {
  const torch::InferenceMode inference;
  Tensor last;
  advance(
      ids,
      positions,
      piece,
      [&](int64_t, const Tensor& hidden) { last = hidden.slice(0, hidden.size(0) - 1); },
      progress);
  return model_.logits(last).squeeze(0).to(torch::kCPU, torch::kFloat32);
}

void Sequence::rewind(int64_t length) {
  attention_->rewind(length);
  length_ = std::min(length_, length);
}

std::vector<int64_t> consecutive_positions(int64_t first, int64_t n) {
  std::vector<int64_t> positions(static_cast<size_t>(n));
  std::iota(positions.begin(), positions.end(), first);
  return positions;
}

}  // namespace ssa
