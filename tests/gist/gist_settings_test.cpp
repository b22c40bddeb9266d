#include "gist/gist_settings.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace ssa {
namespace {

template <class Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ChunkSizes, Parse) {
  EXPECT_EQ(parse_chunk_sizes("8"), ChunkSizes{8});
  EXPECT_EQ(parse_chunk_sizes("4,4"), (ChunkSizes{4, 4}));
  EXPECT_EQ(parse_chunk_sizes("8-4-2"), (ChunkSizes{8, 4, 2}));
  EXPECT_EQ(format_chunk_sizes(ChunkSizes{8, 4}), "8-4");
  EXPECT_EQ(compression_ratio(ChunkSizes{8, 4, 2}), 64);
}

TEST(ChunkSizes, ParseErrors) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"", "chunk sizes '': expected positive numbers such as 8, 4,4 or 4-4"},
      {"x", "chunk sizes 'x': expected positive numbers such as 8, 4,4 or 4-4"},
      {"4,", "chunk sizes '4,': expected positive numbers such as 8, 4,4 or 4-4"},
      {",4", "chunk sizes ',4': expected positive numbers such as 8, 4,4 or 4-4"},
      {"4,,4", "chunk sizes '4,,4': expected positive numbers such as 8, 4,4 or 4-4"},
      {"4.5", "chunk sizes '4.5': expected positive numbers such as 8, 4,4 or 4-4"},
      {"4, 4", "chunk sizes '4, 4': expected positive numbers such as 8, 4,4 or 4-4"},
      {"99999999999999999999",
       "chunk sizes '99999999999999999999': expected positive numbers such as 8, 4,4 or 4-4"},
      {"0", "chunk sizes '0': chunk size 0 is not positive"},
      {"-8", "chunk sizes '-8': chunk size -8 is not positive"},
      {"4,-4", "chunk sizes '4,-4': chunk size -4 is not positive"},
      {"2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2",
       "chunk sizes '2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2': 17 levels, at most 16 are possible"},
      {"65536,65536",
       "chunk sizes '65536,65536': chunk size 65536 brings the compression ratio above 1073741824"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_EQ(error_of([&] { parse_chunk_sizes(text); }), message);
  }
}

TEST(GistSettings, DefaultsAreThoseOfAnEmptyObject) {
  const GistSettings settings = parse_gist_settings(Json::object());
  EXPECT_EQ(settings, GistSettings{});
  EXPECT_EQ(settings.chunk, ChunkSizes{8});
  EXPECT_EQ(settings.sink, 3);
  EXPECT_EQ(settings.previous_chunks, 1);
  EXPECT_TRUE(settings.word_aware);
}

TEST(GistSettings, RoundTrip) {
  const GistSettings settings = {.token_ids = {49152, 49153, 49154},
                                 .chunk = {4, 4},
                                 .sink = -1,
                                 .previous_chunks = 0,
                                 .word_aware = false,
                                 .trained_ratios = {{8}, {16}, {4, 4}}};
  EXPECT_EQ(parse_gist_settings(to_json(settings)), settings);
  EXPECT_EQ(dump_json(to_json(settings)),
            R"({"token_ids":[49152,49153,49154],"chunk":[4,4],"sink":-1,"previous_chunks":0,)"
            R"("word_aware":false,"trained_ratios":[[8],[16],[4,4]]})");
}

TEST(GistSettings, OneNumberIsOneLevel) {
  const GistSettings settings =
      parse_gist_settings(parse_json(R"({"chunk": 16, "trained_ratios": [8, [4, 4]]})", "test"));
  EXPECT_EQ(settings.chunk, ChunkSizes{16});
  EXPECT_EQ(settings.trained_ratios, (std::vector<ChunkSizes>{{8}, {4, 4}}));
}

TEST(GistSettings, ErrorsNameKeyAndValue) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"[]", "gist settings: expected an object, got []"},
      {R"({"chunks": 8})",
       "gist settings: unknown key 'chunks' with value 8; the keys are token_ids, chunk, sink, "
       "previous_chunks, "
       "word_aware, trained_ratios"},
      {R"({"chunk": "8"})",
       "gist settings: key 'chunk': expected a chunk size or a list of them such as [4, 4], got "
       "\"8\""},
      {R"({"chunk": 8.5})",
       "gist settings: key 'chunk': expected a chunk size or a list of them such as [4, 4], got "
       "8.5"},
      {R"({"chunk": null})",
       "gist settings: key 'chunk': expected a chunk size or a list of them such as [4, 4], got "
       "null"},
      {R"({"chunk": []})", "gist settings: key 'chunk': no chunk size given"},
      {R"({"chunk": [4, 0]})", "gist settings: key 'chunk': chunk size 0 is not positive"},
      {R"({"sink": 18446744073709551615})",
       "gist settings: key 'sink': expected an integer, got 18446744073709551615"},
      {R"({"previous_chunks": -1})",
       "gist settings: key 'previous_chunks': expected an integer of at least 0, got -1"},
      {R"({"word_aware": 1})", "gist settings: key 'word_aware': expected true or false, got 1"},
      {R"({"token_ids": 5})",
       "gist settings: key 'token_ids': expected a list of up to 3 different token ids, got 5"},
      {R"({"token_ids": [5, 5, 6]})",
       "gist settings: key 'token_ids': expected a list of up to 3 different token ids, got "
       "[5,5,6]"},
      {R"({"token_ids": [-1]})",
       "gist settings: key 'token_ids': expected a list of up to 3 different token ids, got [-1]"},
      {R"({"token_ids": [1, 2, 3, 4]})",
       "gist settings: key 'token_ids': expected a list of up to 3 different token ids, got "
       "[1,2,3,4]"},
      {R"({"trained_ratios": 8})",
       "gist settings: key 'trained_ratios': expected a list of chunk settings such as [8, 16, [4, "
       "4]], got 8"},
      {R"({"trained_ratios": [[0]]})",
       "gist settings: key 'trained_ratios': chunk size 0 is not positive"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_EQ(error_of([&] { parse_gist_settings(parse_json(text, "test")); }), message);
  }
}

TEST(GistSettings, RatioPicksTheTrainedSetting) {
  const GistSettings settings = {.trained_ratios = {{8}, {4, 4}, {16}, {2, 2, 8}, {8, 4}}};
  EXPECT_EQ(settings.chunk_for_ratio(8), ChunkSizes{8});
  EXPECT_EQ(settings.chunk_for_ratio(16), ChunkSizes{16}) << "one level rather than 4-4";
  EXPECT_EQ(settings.chunk_for_ratio(32), (ChunkSizes{8, 4})) << "two levels rather than three";
  EXPECT_EQ(error_of([&] { settings.chunk_for_ratio(64); }),
            "compression ratio 64: the checkpoint was trained with chunk settings 8, 4-4, 16, "
            "2-2-8, 8-4");
  EXPECT_EQ(error_of([&] { settings.chunk_for_ratio(0); }),
            "compression ratio 0: expected 1 to 1073741824");
  EXPECT_EQ(GistSettings{}.chunk_for_ratio(12), ChunkSizes{12}) << "nothing recorded";
}

}  // namespace
}  // namespace ssa
