// The flags of block-sparse attention, and what they come to for a given checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "checkpoint/model_config.h"
#include "cli/command.h"
#include "selection/block_options.h"

namespace ssa {

struct BlockFlags {
  std::optional<int64_t> block_size, n_blocks;
  std::optional<std::string> rule, variant;
  const CLI::App* app = nullptr;  // whose flags these are; null: nobody gave them

  /// The first of --block-size, --blocks and --block-rule on the command line; null if there is
  /// none.
  const char* first_given() const;
};

/// Adds --block-size, --blocks, --block-rule and --variant. `app` must outlive the flags.
void add_block_flags(CLI::App& app, BlockFlags& flags);

/// What a checkpoint was trained as: all four look the same on disk.
enum class BlockVariant {
  kSparseSparse,  // full and sparse streams, aligned
  kMoba,          // the sparse stream alone
  kNsa,           // three gated branches
  kFullAttention  // the full stream alone
};
const char* variant_name(BlockVariant variant);

struct BlockPlan {
  BlockOptions options;
  BlockVariant variant = BlockVariant::kSparseSparse;
  int64_t window = 0;  // of NSA, in tokens
};

/// --variant, else what config.json says: a llama-nsa model with a window of 128 is NSA.
BlockVariant resolve_variant(const BlockFlags& flags, const ModelConfig& config);
/// Whether the checkpoint attends sparsely unless told otherwise: llama-nsa with inference_mode
/// sparse.
bool is_sparse_by_default(const BlockFlags& flags, const ModelConfig& config);

/// Block size and count: the flags', else config.json's of a llama-nsa model, else 16 and 16.
/// Throws UsageError for flags out of range, Error for a config.json out of range, NSA on a model
/// without gates, and windows that the variant does not know.
BlockPlan plan_blocks(const BlockFlags& flags, const ModelConfig& config);

/// "sparse, 16 blocks of 16, exact rule" and for NSA "..., NSA with a window of 128".
std::string describe_blocks(const BlockPlan& plan);

}  // namespace ssa
