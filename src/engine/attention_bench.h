// One layer's attention timed alone, over caches too large for the processor to remember.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gist/gist_settings.h"
#include "kv/paged_kv_cache.h"
#include "selection/block_options.h"
#include "selection/selection_options.h"

namespace ssa {

struct AttentionBenchOptions {
  int64_t n_heads = 28;
  int64_t n_kv_heads = 4;
  int64_t head_dim = 128;
  KvType type = KvType::kBF16;
  int64_t n_raw = 32768;  // raw tokens in the cache
  ChunkSizes chunk = {8};
  SelectionOptions selection = {};
  BlockOptions blocks = {};
  int repetitions = 20;
};

struct AttentionTiming {
  double seconds = 0;  // median over the repetitions
  double spread = 0;   // (third quartile - first) / median
  int64_t bytes_read =
      0;  // keys scored, keys and values attended, counted; of prefill: of its inputs
  double keys_scored = 0;  // a step and key/value head
  double keys_read = 0;    // attended, a step and key/value head
  int n_layers = 1;        // caches taken in turn
};

/// These fill caches with random numbers, check the first answer against LibTorch's (Error if it is
/// wrong), and time decode steps with fresh queries, the next layer's cache each time.
AttentionTiming time_dense_decode(const AttentionBenchOptions& options);
AttentionTiming time_ssa_decode(const AttentionBenchOptions& options);
AttentionTiming time_sparse_decode(const AttentionBenchOptions& options);

/// All tokens of one layer at once: under the gist mask, over chosen blocks (their means made
/// anew), and LibTorch's dense causal attention over the raw tokens.
AttentionTiming time_gist_prefill(const AttentionBenchOptions& options);
AttentionTiming time_sparse_prefill(const AttentionBenchOptions& options);
AttentionTiming time_dense_prefill(const AttentionBenchOptions& options);

/// Bytes a second that all threads read from memory together.
double measure_read_bandwidth();
/// Bytes of the last-level cache; 32 MiB where the system does not say.
int64_t last_level_cache_bytes();

}  // namespace ssa
