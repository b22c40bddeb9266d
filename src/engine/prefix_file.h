// The keys and values of a read prompt as a file: read once, asked many times.
//
//   "SSAPREFX"  version (u32)  header length (u32)  header, JSON  checksum (u64)
//   then sections, each followed by its checksum (u64): ids [n] int64, levels [n] int8, and for
//   each layer the rows of the raw tokens [n_kv_heads][n_raw] and, by level, each head's gist keys
//   and values as the bank keeps them
//
// Little-endian, as the machine is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "gist/gist_settings.h"
#include "gist/mask.h"
#include "kv/paged_kv_cache.h"

namespace ssa {

/// What a prefix was read with; all of it must be the same when it is used.
struct PrefixState {
  std::string model;  // fingerprint()
  KvShape shape;
  ChunkSizes chunk;
  MaskRule rule;
  std::vector<int64_t> ids;    // tokens of the sequence, gists included: [n]
  std::vector<int8_t> levels;  // [n], kRawLevel where a token is no gist
};

/// Writes the first tokens of a cache, as many as state.ids, atomically.
void save_prefix(const std::filesystem::path& path,
                 const PrefixState& state,
                 const PagedKvCache& cache);

/// Reads them into an empty cache. Throws Error naming the file and what is wrong: no prefix file,
/// another version, model, number type, layout or text, cut short, or damaged (and where).
void load_prefix(const std::filesystem::path& path,
                 const PrefixState& expected,
                 PagedKvCache& cache);

}  // namespace ssa
