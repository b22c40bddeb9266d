// How a model's gists are laid and seen: what config.json's key "gist" and the flags that override
// it hold.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace ssa {

/// Most levels of gists a layout may have. Eight levels of chunk 2 already compress 256 times.
inline constexpr int kMaxGistLevels = 16;

/// Largest size of one chunk, and of the sizes' product.
inline constexpr int64_t kMaxChunkSize = int64_t{1} << 30;

/// Chunk size of each level, lowest first, in units of the level below: {8} closes every 8 raw
/// tokens; {4, 4} closes every 4 raw tokens, and every 4 of those gists. Valid: 1 to kMaxGistLevels
/// positive sizes.
using ChunkSizes = std::vector<int64_t>;

/// "8", "4,4" or "4-4". Throws Error naming the text and what is wrong with it.
ChunkSizes parse_chunk_sizes(std::string_view text);

/// "8", "4-4": as H-SSA settings are named.
std::string format_chunk_sizes(std::span<const int64_t> sizes);

/// Throws Error naming `what` unless the sizes are valid.
void check_chunk_sizes(std::span<const int64_t> sizes, std::string_view what);

/// Raw tokens for each gist of the highest level: the product of valid sizes.
int64_t compression_ratio(std::span<const int64_t> sizes);

/// Defaults are those of a config.json that says nothing.
struct GistSettings {
  /// <gist>, <Gist>, <MGist>: up to 3 different ids; empty: not known.
  std::vector<int64_t> token_ids = {};
  ChunkSizes chunk = {8};
  /// Tokens at the start that all later ones see; negative: see MaskRule.
  int64_t sink = 3;
  /// Chunks before the own one that stay visible raw.
  int64_t previous_chunks = 1;
  /// Gists go between words, where the tokenizer's text tells.
  bool word_aware = true;
  /// Settings the checkpoint was trained with; empty: not known.
  std::vector<ChunkSizes> trained_ratios = {};

  int n_levels() const { return static_cast<int>(chunk.size()); }

  /// The trained setting that compresses `ratio` times: the one with the fewest levels if there are
  /// several. Where no setting is recorded, one level of chunk `ratio`. Throws Error naming the
  /// trained settings if none fits.
  ChunkSizes chunk_for_ratio(int64_t ratio) const;

  bool operator==(const GistSettings&) const = default;
};

/// Reads the value of config.json's key "gist". Absent keys keep their defaults. `chunk` and the
/// entries of `trained_ratios` are lists of sizes, or one number for one level. Throws Error naming
/// key and value for an unknown key, a wrong type or a value out of range.
GistSettings parse_gist_settings(const Json& gist);

/// What parse_gist_settings reads back as the same settings.
Json to_json(const GistSettings& settings);

}  // namespace ssa
