#include "engine/attention_bench.h"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <numeric>

#include "attention/attention.h"
#include "base/error.h"
#include "engine/block_attention.h"
#include "engine/cpu/paged_attention.h"
#include "engine/gist_attention.h"
#include "engine/paged_block_attention.h"
#include "engine/paged_sequence.h"
#include "gist/interleave.h"

namespace ssa {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWarmUp = 3;  // steps before the clock counts

double seconds_of(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

AttentionTiming summarise(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  const auto at = [&](double share) {
    return seconds[static_cast<size_t>(share * static_cast<double>(seconds.size() - 1))];
  };
  AttentionTiming timing;
  timing.seconds = at(0.5);
  timing.spread = (at(0.75) - at(0.25)) / timing.seconds;
  return timing;
}

GistLayout plain_layout(const AttentionBenchOptions& options, int64_t n_raw) {
  GistSettings settings;
  settings.chunk = options.chunk;
  settings.token_ids = {1, 2, 3};
  settings.word_aware = false;
  GistLayout layout = lay_prefix(std::vector<int64_t>(static_cast<size_t>(n_raw), 0), settings, {});
  layout.append_raw(0);  // the query
  return layout;
}

ModelConfig config_of(const AttentionBenchOptions& options, int64_t n_layers) {
  ModelConfig config;
  config.n_layers = n_layers;
  config.n_heads = options.n_heads;
  config.n_kv_heads = options.n_kv_heads;
  config.head_dim = options.head_dim;
  return config;
}

/// Caches of as many layers as exceed four times the last-level cache. Of what a step reads of
/// each layer wherever it looks, the part 1 / `thinned` of its bytes, all layers together exceed
/// the last-level cache too.
PagedKvCache filled_cache(const AttentionBenchOptions& options,
                          int64_t n_raw,
                          std::span<const int8_t> levels,
                          int n_levels,
                          int64_t thinned = 1) {
  constexpr int64_t kMostBytes = int64_t{2} << 30;
  PagedKvCache one = make_paged_cache(config_of(options, 1), options.type, n_levels);
  const auto bytes = static_cast<int64_t>(PagedKvCache::bytes(one.shape(), n_raw));
  const int64_t wanted = last_level_cache_bytes() * std::max<int64_t>(12, 4 * thinned) / 3;
  const int64_t n_layers = std::clamp<int64_t>(std::min(wanted, kMostBytes) / bytes + 1, 1, 256);
  PagedKvCache cache = make_paged_cache(config_of(options, n_layers), options.type, n_levels);
  append_random(cache, levels);
  return cache;
}

cpu::QueryBlock block_of(const AttentionBenchOptions& options,
                         const Tensor& q,
                         Tensor& out,
                         int64_t layer) {
  return {.q = q.const_data_ptr<float>(),
          .out = out.mutable_data_ptr<float>(),
          .n_tokens = q.size(0),
          .n_heads = options.n_heads,
          .scale = 1.0F / std::sqrt(static_cast<float>(options.head_dim)),
          .layer = layer};
}

Tensor random_queries(const AttentionBenchOptions& options, int64_t n) {
  return torch::randn({n, options.n_heads, options.head_dim})
      .to(torch::kBFloat16)
      .to(torch::kFloat32);
}

/// A decode step over each layer in turn, the median of the repetitions; `step` gets queries and
/// the layer.
AttentionTiming time_steps(const AttentionBenchOptions& options,
                           int64_t n_layers,
                           const std::function<void(const cpu::QueryBlock&)>& step) {
  std::vector<double> seconds;
  Tensor out = torch::empty({1, options.n_heads, options.head_dim});
  for (int i = 0; i < kWarmUp + options.repetitions; ++i) {
    const Tensor q = random_queries(options, 1);
    const double elapsed = seconds_of([&] { step(block_of(options, q, out, i % n_layers)); });
    if (i >= kWarmUp) {
      seconds.push_back(elapsed);
    }
  }
  AttentionTiming timing = summarise(std::move(seconds));
  timing.n_layers = static_cast<int>(n_layers);
  return timing;
}

/// From sums over all steps and key/value heads.
void count_keys(const AttentionBenchOptions& options,
                double keys_scored,
                double keys_read,
                AttentionTiming& timing) {
  const double steps = static_cast<double>((options.repetitions + kWarmUp) * options.n_kv_heads);
  timing.keys_scored = keys_scored / steps;
  timing.keys_read = keys_read / steps;
  const auto vector = static_cast<double>(vector_bytes(options.type, options.head_dim));
  timing.bytes_read = static_cast<int64_t>(static_cast<double>(options.n_kv_heads) * vector *
                                           (timing.keys_scored + 2 * timing.keys_read));
}

/// Random projections of a short sequence.
struct Projections {
  Projections(const AttentionBenchOptions& options, int64_t n)
      : q(random(n, options.n_heads, options.head_dim)),
        k(random(n, options.n_kv_heads, options.head_dim)),
        v(random(n, options.n_kv_heads, options.head_dim)),
        scale(1.0 / std::sqrt(static_cast<double>(options.head_dim))) {}
  static Tensor random(int64_t n, int64_t heads, int64_t head_dim) {
    return torch::randn({n, heads, head_dim}).to(torch::kBFloat16).to(torch::kFloat32);
  }
  AttentionInput part(int64_t first, int64_t n, torch::ScalarType dtype) const {
    const auto of = [&](const Tensor& x) { return x.narrow(0, first, n).to(dtype); };
    return {of(q), of(k), of(v), scale};
  }

  Tensor q, k, v;
  double scale;
};

constexpr int64_t kCheckedTokens = 2000;

void check_similar(const Tensor& ours, const Tensor& theirs, double least) {
  const double similarity =
      torch::cosine_similarity(
          ours.flatten().to(torch::kFloat32), theirs.flatten().to(torch::kFloat32), 0)
          .item<double>();
  check(similarity > least,
        "the attention kernels' answer is wrong: cosine ",
        similarity,
        " with LibTorch's");
}

/// Throws unless the paged attention and LibTorch's agree on a short sequence of these shapes.
void check_answers(const AttentionBenchOptions& options) {
  const GistLayout layout = plain_layout(options, kCheckedTokens);
  const int64_t n = layout.n_tokens();
  GistAttentionOptions attention;
  attention.selection = options.selection;
  PagedGistAttention paged(
      make_paged_cache(config_of(options, 2), options.type, layout.n_levels()), layout, attention);
  GistAttention plain(
      KvCache(config_of(options, 2), torch::kFloat32, torch::kCPU, n), layout, attention);
  const Projections projections(options, n);
  const auto run = [&](ChunkedAttention& of) {
    Tensor out;
    for (int64_t first = 0; first < n;) {
      const int64_t size = of.pass_limit(first, n - first);
      of.begin_pass(first,
                    layout.ids().subspan(static_cast<size_t>(first), static_cast<size_t>(size)));
      for (int64_t layer = 0; layer < 2; ++layer) {
        out = of.attend(layer, projections.part(first, size, torch::kFloat32));
      }
      first += size;
    }
    return out;
  };
  check_similar(run(paged), run(plain), options.type == KvType::kInt8 ? 0.98 : 0.999);
}

/// The same of attention over blocks: a prompt and one more token. LibTorch ranks means rounded as
/// the cache's are, or not rounded where those are int8, so that some blocks differ.
void check_sparse_answers(const AttentionBenchOptions& options) {
  const auto dtype = options.type == KvType::kBF16 ? torch::kBFloat16 : torch::kFloat32;
  PagedBlockAttention paged(make_paged_cache(config_of(options, 1), options.type, 0),
                            options.blocks);
  const auto cache = [&] {
    return KvCache(config_of(options, 1), dtype, torch::kCPU, kCheckedTokens);
  };
  BlockSparseAttention plain(cache(), cache(), options.blocks);
  const Projections projections(options, kCheckedTokens);
  const auto run = [&](SequenceAttention& of) {
    const Tensor prompt = of.attend(0, projections.part(0, kCheckedTokens - 1, dtype));
    return torch::cat({prompt, of.attend(0, projections.part(kCheckedTokens - 1, 1, dtype))});
  };
  check_similar(run(paged), run(plain), options.type == KvType::kInt8 ? 0.9 : 0.999);
}

}  // namespace

AttentionTiming time_dense_decode(const AttentionBenchOptions& options) {
  check_answers(options);
  const std::vector<int8_t> levels(static_cast<size_t>(options.n_raw), kRawLevel);
  const PagedKvCache cache = filled_cache(options, options.n_raw, levels, 0);
  cpu::PagedAttention attention(torch::get_num_threads());
  AttentionTiming timing =
      time_steps(options, cache.shape().n_layers, [&](const cpu::QueryBlock& block) {
        attention.dense(cache, block, options.n_raw - 1);
      });
  timing.keys_read = static_cast<double>(options.n_raw);
  timing.bytes_read =
      options.n_raw * options.n_kv_heads * row_bytes(options.type, options.head_dim);
  return timing;
}

AttentionTiming time_ssa_decode(const AttentionBenchOptions& options) {
  check_answers(options);
  const GistLayout layout = plain_layout(options, options.n_raw);
  const PagedKvCache cache =
      filled_cache(options, options.n_raw, layout.levels(), layout.n_levels());
  cpu::PagedAttention attention(torch::get_num_threads());
  const MaskRule rule;
  double keys_scored = 0, keys_read = 0;
  const int64_t last = layout.n_tokens() - 1;
  AttentionTiming timing =
      time_steps(options, cache.shape().n_layers, [&](const cpu::QueryBlock& block) {
        const cpu::SelectionContext context{.layout = layout,
                                            .rule = rule,
                                            .options = options.selection,
                                            .cache = cache,
                                            .pivots = nullptr,
                                            .order = nullptr,
                                            .has_gists = true,
                                            .layer = block.layer};
        const auto& choices = attention.unfold(
            context, block, {.first = last, .n_prompt = last, .first_in_sequence = last});
        for (const cpu::Choice& choice : choices) {
          keys_scored += static_cast<double>(choice.n_scored);
          keys_read += static_cast<double>(choice.n_keys);
        }
      });
  count_keys(options, keys_scored, keys_read, timing);
  return timing;
}

AttentionTiming time_sparse_decode(const AttentionBenchOptions& options) {
  check_sparse_answers(options);
  const std::vector<int8_t> levels(static_cast<size_t>(options.n_raw), kRawLevel);
  const PagedKvCache cache =
      filled_cache(options, options.n_raw, levels, 0, 2 * options.blocks.block_size);
  std::vector<BlockMeans> means;
  for (int64_t layer = 0; layer < cache.shape().n_layers; ++layer) {
    means.emplace_back(cache.shape(), options.blocks.block_size);
    means.back().update(cache, layer);
  }
  cpu::PagedAttention attention(torch::get_num_threads());
  double keys_scored = 0, keys_read = 0;
  AttentionTiming timing =
      time_steps(options, cache.shape().n_layers, [&](const cpu::QueryBlock& block) {
        const cpu::BlockContext context{
            cache, means[static_cast<size_t>(block.layer)], options.blocks, block.layer};
        const auto& choices = attention.sparse(context, block, options.n_raw - 1, false);
        for (const cpu::BlockChoice& choice : choices) {
          keys_scored += static_cast<double>(choice.n_scored);
          keys_read += static_cast<double>(choice.n_keys);
        }
      });
  count_keys(options, keys_scored, keys_read, timing);
  return timing;
}

AttentionTiming time_gist_prefill(const AttentionBenchOptions& options) {
  check_answers(options);
  const GistLayout layout = plain_layout(options, options.n_raw);
  PagedKvCache cache = make_paged_cache(config_of(options, 1), options.type, layout.n_levels());
  append_random(cache, layout.levels());
  cpu::PagedAttention attention(torch::get_num_threads());
  const Tensor q = random_queries(options, layout.n_tokens());
  Tensor out = torch::empty_like(q);
  std::vector<double> seconds;
  for (int i = 0; i < std::max(1, options.repetitions / 5); ++i) {
    seconds.push_back(
        seconds_of([&] { attention.masked(cache, layout, {}, block_of(options, q, out, 0), 0); }));
  }
  AttentionTiming timing = summarise(std::move(seconds));
  timing.bytes_read = static_cast<int64_t>(PagedKvCache::bytes(cache.shape(), layout.n_tokens()));
  return timing;
}

AttentionTiming time_sparse_prefill(const AttentionBenchOptions& options) {
  check_sparse_answers(options);
  PagedKvCache cache = make_paged_cache(config_of(options, 1), options.type, 0);
  append_random(cache, std::vector<int8_t>(static_cast<size_t>(options.n_raw), kRawLevel));
  cpu::PagedAttention attention(torch::get_num_threads());
  const Tensor q = random_queries(options, options.n_raw);
  Tensor out = torch::empty_like(q);
  std::vector<double> seconds;
  for (int i = 0; i < std::max(1, options.repetitions / 5); ++i) {
    seconds.push_back(seconds_of([&] {
      BlockMeans means(cache.shape(), options.blocks.block_size);
      means.update(cache, 0);
      attention.sparse({cache, means, options.blocks, 0}, block_of(options, q, out, 0), 0, false);
    }));
  }
  AttentionTiming timing = summarise(std::move(seconds));
  timing.bytes_read = static_cast<int64_t>(PagedKvCache::bytes(cache.shape(), options.n_raw));
  return timing;
}

AttentionTiming time_dense_prefill(const AttentionBenchOptions& options) {
  const auto dtype = options.type == KvType::kF32 ? torch::kFloat32 : torch::kBFloat16;
  const auto random = [&](int64_t heads) {
    return torch::randn({heads, options.n_raw, options.head_dim}).to(dtype);
  };
  const Tensor q = random(options.n_heads).transpose(0, 1).contiguous();
  const Tensor k = random(options.n_kv_heads), v = random(options.n_kv_heads);
  std::vector<double> seconds;
  for (int i = 0; i < std::max(1, options.repetitions / 10); ++i) {
    seconds.push_back(seconds_of(
        [&] { dense_attention(q, k, v, 1.0 / std::sqrt(static_cast<double>(options.head_dim))); }));
  }
  AttentionTiming timing = summarise(std::move(seconds));
  timing.bytes_read = k.nbytes() + v.nbytes();
  return timing;
}

double measure_read_bandwidth() {
  constexpr int64_t kWords = int64_t{1} << 26;  // 512 MiB
  const std::vector<uint64_t> memory(static_cast<size_t>(kWords), 1);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    std::atomic<uint64_t> sum = 0;
    const double seconds = seconds_of([&] {
      cpu::run_team(torch::get_num_threads(), [&](const cpu::Team& team) {
        const uint64_t* begin = memory.data() + kWords * team.rank / team.size;
        const uint64_t* end = memory.data() + kWords * (team.rank + 1) / team.size;
        sum += std::accumulate(begin, end, uint64_t{0});
      });
    });
    check(sum == static_cast<uint64_t>(kWords), "memory was misread");
    best = std::max(best, static_cast<double>(kWords) * sizeof(uint64_t) / seconds);
  }
  return best;
}

int64_t last_level_cache_bytes() {
  for (const char* level : {"3", "2"}) {
    std::ifstream file(std::string("/sys/devices/system/cpu/cpu0/cache/index") + level + "/size");
    int64_t size = 0;
    char unit = 0;
    if (file >> size >> unit && (unit == 'K' || unit == 'M')) {
      return size * (unit == 'K' ? 1 << 10 : 1 << 20);
    }
  }
  return int64_t{32} << 20;
}

}  // namespace ssa
