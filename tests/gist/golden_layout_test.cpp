// Layout and mask against the independent Python version in tools/reference, which wrote the cases
// (make_golden.py describes the fields).
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "gist/interleave.h"
#include "gist/mask.h"

namespace ssa {
namespace {

using Ids = std::vector<int64_t>;

struct Sequence {
  std::vector<Ids> pieces;
  WordBoundaries boundaries;
};

// The cases say for each token of each piece whether it begins a word; here a token's id decides.
// So each token gets an id of its own.
Sequence number_tokens(const Json& test) {
  Sequence sequence;
  const Json& flags = test["boundary"];
  for (size_t i = 0; i < test["pieces"].size(); ++i) {
    Ids& piece = sequence.pieces.emplace_back();
    for (size_t j = 0; j < test["pieces"][i].size(); ++j) {
      piece.push_back(static_cast<int64_t>(sequence.boundaries.size()));
      sequence.boundaries.push_back(!flags.is_null() &&
                                    flags[i].get_ref<const std::string&>()[j] == '1');
    }
  }
  return sequence;
}

GistSettings settings_of(const Json& test) {
  GistSettings settings;
  settings.token_ids = test["gist_ids"].get<Ids>();
  settings.chunk = test["chunk"].get<ChunkSizes>();
  settings.sink = test["sink"].get<int64_t>();
  settings.word_aware = !test["boundary"].is_null();
  return settings;
}

// The new id of a bare BOS, where the case has one.
std::optional<int64_t> renumbered_bos(const Json& test) {
  for (const Json& piece : test["pieces"]) {
    if (!piece.empty()) {
      return piece[0] == test["bos"] ? std::optional<int64_t>(0) : std::nullopt;
    }
  }
  return std::nullopt;
}

// The layout of the renumbered tokens, rebuilt with the case's own ids.
GistLayout lay(const Json& test) {
  const Sequence sequence = number_tokens(test);
  const GistLayout numbered =
      lay_pieces(sequence.pieces,
                 settings_of(test),
                 {.boundaries = &sequence.boundaries, .bos_id = renumbered_bos(test)});
  Ids raw;
  for (const Json& piece : test["pieces"]) {
    raw.insert(raw.end(), piece.begin(), piece.end());
  }
  GistLayout layout(numbered.chunk_sizes(), test["gist_ids"].get<Ids>());
  for (const int8_t level : numbered.levels()) {
    if (level == kRawLevel) {
      layout.append_raw(raw[static_cast<size_t>(layout.n_raw())]);
    } else {
      layout.append_gist(level);
    }
  }
  return layout;
}

GistLayout layout_of(const Json& test) {
  GistLayout layout = test["laid"].get<bool>()
                          ? parse_laid(test["pieces"][0].get<Ids>(), settings_of(test))
                          : lay(test);
  layout.append_raw(test["suffix"].get<Ids>());
  return layout;
}

std::string level_text(const GistLayout& layout) {
  std::string text;
  for (const int8_t level : layout.levels()) {
    text += level == kRawLevel ? '.' : static_cast<char>('0' + level);
  }
  return text;
}

Json chunk_list(const GistLayout& layout) {
  Json list = Json::array();
  for (const GistChunk& chunk : list_chunks(layout)) {
    list.push_back({chunk.level, chunk.range.begin, chunk.range.end});
  }
  return list;
}

std::string hex(uint64_t value, int n_digits) {
  std::string text;
  for (int i = n_digits - 1; i >= 0; --i) {
    text += "0123456789abcdef"[value >> (4 * i) & 15];
  }
  return text;
}

std::string fnv1a(const std::vector<uint8_t>& bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint8_t byte : bytes) {
    hash = (hash ^ byte) * 0x100000001b3;
  }
  return hex(hash, 16);
}

std::string packed_bits(const std::vector<uint8_t>& bits) {
  std::string text;
  for (size_t begin = 0; begin < bits.size(); begin += 8) {
    uint64_t byte = 0;
    for (size_t j = begin; j < std::min(begin + 8, bits.size()); ++j) {
      byte |= uint64_t{bits[j]} << (j - begin);
    }
    text += hex(byte, 2);
  }
  return text;
}

TEST(GoldenLayout, AgreesWithTheReference) {
  const Json golden =
      read_json_file(std::filesystem::path(SSA_GOLDEN_DIR) / "gist" / "layouts.json");
  ASSERT_GE(golden["cases"].size(), 100u);
  int number = 0;
  for (const Json& test : golden["cases"]) {
    const GistLayout layout = layout_of(test);
    SCOPED_TRACE(concat("case ", number++, ", pieces ", dump_json(test["pieces"])));
    EXPECT_EQ(level_text(layout), test["levels"].get<std::string>());
    EXPECT_EQ(Json(layout.ids()), test["ids"]);
    EXPECT_EQ(Json(layout.positions()), test["positions"]);
    EXPECT_EQ(chunk_list(layout), test["chunks"]);
    EXPECT_EQ(layout.prefix_end(), test["prefix_end"].get<int64_t>());
    const std::vector<uint8_t> mask =
        dense_mask(layout,
                   {.sink = test["mask_sink"].get<int64_t>(),
                    .previous_chunks = test["previous"].get<int64_t>()});
    EXPECT_EQ(fnv1a(mask), test["mask_fnv"].get<std::string>());
    if (test.contains("mask_bits")) {
      EXPECT_EQ(packed_bits(mask), test["mask_bits"].get<std::string>());
    }
  }
}

}  // namespace
}  // namespace ssa
