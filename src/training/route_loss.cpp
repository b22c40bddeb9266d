#include "training/route_loss.h"

#include <algorithm>
#include <vector>

namespace ssa {
namespace {

/// Raw tokens of the prefix behind the sinks.
std::vector<int64_t> taught_tokens(const GistLayout& layout, const MaskRule& rule) {
  std::vector<int64_t> tokens;
  for (int64_t t = sink_end(layout, rule); t < layout.prefix_end(); ++t) {
    if (layout.levels()[static_cast<size_t>(t)] == kRawLevel) {
      tokens.push_back(t);
    }
  }
  return tokens;
}

/// Evenly spaced rows of the suffix, the last among them.
std::vector<int64_t> asking_tokens(const GistLayout& layout, int64_t n_wanted) {
  const int64_t begin = layout.prefix_end(), n = layout.n_tokens() - begin,
                n_taken = std::min(n, n_wanted);
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < n_taken; ++i) {
    tokens.push_back(begin + (i + 1) * n / n_taken - 1);
  }
  return tokens;
}

}  // namespace

Tensor route_loss(const AttentionInput& in,
                  const GistLayout& layout,
                  int64_t n_sequences,
                  const MaskRule& rule,
                  int64_t n_queries) {
  const std::vector<int64_t> tokens = taught_tokens(layout, rule),
                             asking = asking_tokens(layout, n_queries);
  if (tokens.empty() || asking.empty() || layout.n_gists(0) < 2) {
    return {};
  }
  const auto device = in.q.device();
  const auto indices = [&](const std::vector<int64_t>& values) {
    return torch::tensor(values, torch::kInt64).to(device);
  };
  const int64_t n_kv_heads = in.k.size(1), group = in.q.size(1) / n_kv_heads,
                head_dim = in.q.size(2);
  // [n_sequences, n_kv_heads, group * n_queries, head_dim]
  const Tensor q = in.q.detach()
                       .unflatten(0, {n_sequences, -1})
                       .index_select(1, indices(asking))
                       .unflatten(2, {n_kv_heads, group})
                       .permute({0, 2, 3, 1, 4})
                       .reshape({n_sequences, n_kv_heads, -1, head_dim});
  const Tensor k = in.k.unflatten(0, {n_sequences, -1})
                       .transpose(1, 2);  // [n_sequences, n_kv_heads, n_tokens, head_dim]
  const auto wide = torch::promote_types(q.scalar_type(), torch::kFloat32);
  const auto scores = [&](const Tensor& keys) {
    return torch::matmul(q, keys.transpose(-1, -2)).to(wide) * in.scale;
  };

  Tensor share;
  {
    const torch::NoGradGuard no_grad;
    share = scores(k.index_select(2, indices(tokens))).softmax(-1);
  }
  Tensor loss = torch::zeros({}, torch::dtype(wide).device(device));
  int64_t n_levels = 0;
  for (int level = 0; level < layout.n_levels() && layout.n_gists(level) >= 2;
       ++level, ++n_levels) {
    const auto gists = layout.gists(level);
    std::vector<int64_t> chunk;
    for (const int64_t t : tokens) {
      chunk.push_back(layout.chunk_of(level, t));
    }
    const Tensor teacher =
        torch::zeros({share.size(0), share.size(1), share.size(2), layout.n_gists(level)},
                     share.options())
            .index_add_(-1, indices(chunk), share);
    const Tensor student =
        scores(k.index_select(2, indices({gists.begin(), gists.end()}))).log_softmax(-1);
    loss = loss + torch::kl_div(student, teacher, at::Reduction::None).sum(-1).mean() *
                      static_cast<double>(n_sequences);
  }
  return loss / static_cast<double>(n_levels);
}

}  // namespace ssa
