#include "training/route_loss.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace ssa {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

/// Levels with something to choose.
int taught_levels(const GistLayout& layout) {
  int n = 0;
  while (n < layout.n_levels() && layout.n_gists(n) >= 2) {
    ++n;
  }
  return n;
}

/// One sequence's part of the plan, before padding.
struct Routes {
  const GistLayout* layout;
  int64_t first_row;
  std::vector<int64_t> asking, taught;
  int n_levels;
};

/// Rows of a batch, padded: [routes.size(), the longest list].
template <class ListOf>
std::pair<Tensor, Tensor> padded_rows(const std::vector<Routes>& routes, const ListOf& list_of) {
  int64_t width = 0;
  for (const Routes& each : routes) {
    width = std::max<int64_t>(width, std::ssize(list_of(each)));
  }
  const Tensor rows = torch::zeros({std::ssize(routes), width}, torch::kInt64),
               pads = torch::ones({std::ssize(routes), width}, torch::kBool);
  for (size_t i = 0; i < routes.size(); ++i) {
    int64_t at = static_cast<int64_t>(i) * width;
    for (const int64_t token : list_of(routes[i])) {
      rows.mutable_data_ptr<int64_t>()[at] = routes[i].first_row + token;
      pads.mutable_data_ptr<bool>()[at++] = false;
    }
  }
  return {rows, pads};
}

RoutePlan::Level plan_level(const std::vector<Routes>& routes, int level) {
  RoutePlan::Level plan;
  std::tie(plan.gist_rows, plan.gist_pads) =
      padded_rows(routes, [level](const Routes& each) -> std::span<const int64_t> {
        return level < each.n_levels ? each.layout->gists(level) : std::span<const int64_t>();
      });
  plan.ends = torch::zeros_like(plan.gist_rows);
  plan.weights = torch::zeros({std::ssize(routes)}, torch::kFloat64);
  for (size_t i = 0; i < routes.size(); ++i) {
    const Routes& each = routes[i];
    if (level >= each.n_levels) {
      plan.gist_pads[static_cast<int64_t>(i)][0] = false;  // a softmax over nothing would be NaN
      continue;
    }
    plan.weights.mutable_data_ptr<double>()[i] = 1.0 / each.n_levels;
    // Taught tokens stand in order, so that those of a chunk are a run of them.
    auto* ends =
        plan.ends.mutable_data_ptr<int64_t>() + static_cast<int64_t>(i) * plan.ends.size(1);
    for (const int64_t token : each.taught) {
      ++ends[each.layout->chunk_of(level, token)];
    }
    std::partial_sum(ends, ends + plan.ends.size(1), ends);
  }
  return plan;
}

/// Scores of grouped queries, [n_sequences, n_kv_heads, group * n_queries, n_rows], in the model's
/// dtype: over a prefix they are many, and whoever takes their softmax widens them on the way.
class RouteScores {
 public:
  RouteScores(const AttentionInput& in, const Tensor& query_rows)
      : n_sequences_(query_rows.size(0)) {
    const int64_t n_kv_heads = in.k.size(1);
    q_ = (rows(in.q.detach(), query_rows) * in.scale)
             .unflatten(2, {n_kv_heads, -1})
             .permute({0, 2, 3, 1, 4})
             .flatten(2, 3);
  }
  Tensor against(const Tensor& keys, const Tensor& key_rows, const Tensor& pads) const {
    const Tensor k = rows(keys, key_rows).transpose(1, 2);  // [n_sequences, n_kv_heads, n, d]
    return torch::matmul(q_, k.transpose(-1, -2))
        .masked_fill_(pads.unsqueeze(1).unsqueeze(1), -kInfinity);
  }

 private:
  Tensor rows(const Tensor& x, const Tensor& wanted) const {
    return x.index_select(0, wanted.flatten()).unflatten(0, {n_sequences_, -1});
  }
  int64_t n_sequences_;
  Tensor q_;  // [n_sequences, n_kv_heads, group * n_queries, head_dim]
};

/// Of running sums over keys, [n_sequences, n_kv_heads, n_rows, n_keys], what lies between the ends
/// of one chunk and the next: [.., n_gists]. ends: [n_sequences, n_gists].
Tensor sum_chunks(const Tensor& running, const Tensor& ends) {
  const Tensor last = (ends - 1).clamp_min(0).unsqueeze(1).unsqueeze(1).expand(
      {running.size(0), running.size(1), running.size(2), ends.size(1)});
  const Tensor up_to =
      running.gather(3, last).masked_fill_((ends == 0).unsqueeze(1).unsqueeze(1), 0);
  return torch::cat({up_to.narrow(3, 0, 1), up_to.diff(1, 3)}, 3);
}

}  // namespace

RoutePlan RoutePlan::to(torch::Device device) const {
  RoutePlan moved = *this;
  std::vector<Tensor*> tensors{
      &moved.query_rows, &moved.query_weights, &moved.key_rows, &moved.key_pads};
  for (Level& level : moved.levels) {
    tensors.insert(tensors.end(),
                   {&level.gist_rows, &level.gist_pads, &level.ends, &level.weights});
  }
  for (Tensor* tensor : tensors) {
    if (tensor->defined()) {
      *tensor = tensor->to(device);
    }
  }
  return moved;
}

RoutePlan plan_routes(std::span<const RoutedSequence> sequences,
                      const MaskRule& rule,
                      int64_t n_queries) {
  std::vector<Routes> routes;
  int n_levels = 0;
  for (const RoutedSequence& sequence : sequences) {
    if (sequence.layout->prefix_end() == 0) {
      continue;
    }
    Routes each{sequence.layout,
                sequence.first_row,
                asking_tokens(*sequence.layout, n_queries),
                taught_tokens(*sequence.layout, rule),
                taught_levels(*sequence.layout)};
    if (each.n_levels > 0 && !each.asking.empty() && !each.taught.empty()) {
      n_levels = std::max(n_levels, each.n_levels);
      routes.push_back(std::move(each));
    }
  }
  RoutePlan plan;
  if (routes.empty()) {
    return plan;
  }
  Tensor query_pads;
  std::tie(plan.query_rows, query_pads) = padded_rows(
      routes, [](const Routes& each) -> const auto& { return each.asking; });
  std::tie(plan.key_rows, plan.key_pads) = padded_rows(
      routes, [](const Routes& each) -> const auto& { return each.taught; });
  const Tensor asks = query_pads.logical_not().to(torch::kFloat64);
  plan.query_weights = asks / asks.sum(1, /*keepdim=*/true);
  for (int level = 0; level < n_levels; ++level) {
    plan.levels.push_back(plan_level(routes, level));
  }
  return plan;
}

Tensor route_loss(const AttentionInput& in, const RoutePlan& plan) {
  const RouteScores scores(in, plan.query_rows);
  const auto wide = torch::promote_types(in.q.scalar_type(), torch::kFloat32);
  Tensor running;  // sums of the queries' attention to the keys up to each
  {
    const torch::NoGradGuard no_grad;
    running = scores.against(in.k, plan.key_rows, plan.key_pads).softmax(-1, wide).cumsum(-1);
  }
  const int64_t n_queries = plan.query_rows.size(1), n_heads = in.q.size(1);
  const Tensor weights = plan.query_weights.to(wide) / static_cast<double>(n_heads);
  Tensor loss;
  for (const RoutePlan::Level& level : plan.levels) {
    const Tensor teacher = sum_chunks(running, level.ends).clamp_min_(0);
    const Tensor student = scores.against(in.k, level.gist_rows, level.gist_pads)
                               .log_softmax(-1, wide)
                               .masked_fill(level.gist_pads.unsqueeze(1).unsqueeze(1), 0);
    const Tensor divergence = torch::kl_div(student, teacher, at::Reduction::None)
                                  .sum(-1)
                                  .view({running.size(0), -1, n_queries})
                                  .sum(1);  // over heads: [n_sequences, n_queries]
    const Tensor sum = (divergence * weights * level.weights.to(wide).unsqueeze(1)).sum();
    loss = loss.defined() ? loss + sum : sum;
  }
  return loss;
}

}  // namespace ssa
