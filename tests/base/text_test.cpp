#include "base/text.h"

#include <gtest/gtest.h>

namespace ssa {
namespace {

TEST(Text, ReplacesBrokenUtf8AsPythonDoes) {
  EXPECT_EQ(replace_invalid_utf8("a\xFFz"), "a\xEF\xBF\xBDz");
  EXPECT_EQ(replace_invalid_utf8("\xE4\xB8"), "\xEF\xBF\xBD");  // one unfinished
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"),
            "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // surrogate
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98!"), "\xEF\xBF\xBD!");
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");  // overlong
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98\x80"), "\xF0\x9F\x98\x80");
}

TEST(Text, HoldsBackOnlyUnfinishedCharacters) {
  EXPECT_EQ(complete_utf8_prefix("ab\xE4\xB8"), 2u);
  EXPECT_EQ(complete_utf8_prefix("ab\xE4\xB8\xAD"), 5u);
  EXPECT_EQ(complete_utf8_prefix("ab\xFF"), 3u);
  EXPECT_EQ(complete_utf8_prefix("\xF0\x9F\x98"), 0u);
  EXPECT_EQ(complete_utf8_prefix(""), 0u);
}

TEST(Text, FindsNearMatches) {
  const std::vector<std::string> flags = {"--threads", "--temp", "--top-k"};
  EXPECT_EQ(nearest_match("--thread", flags), "--threads");
  EXPECT_EQ(nearest_match("--topk", flags), "--top-k");
  EXPECT_EQ(nearest_match("--threads-of-all-cores", flags), "--threads");
  EXPECT_EQ(nearest_match("--thr", flags), "--threads");
  EXPECT_EQ(nearest_match("--th", flags), "");
  EXPECT_EQ(nearest_match("--banana", flags), "");
}

TEST(Text, CodePointsRoundTrip) {
  for (const char32_t c : {U'a', U'\u00e9', U'\u4e2d', U'\U0001F600'}) {
    std::string text;
    append_utf8(text, c);
    size_t i = 0;
    EXPECT_EQ(next_code_point(text, i), c);
    EXPECT_EQ(i, text.size());
    EXPECT_TRUE(is_valid_utf8(text));
  }
}

TEST(Text, FormatsBytes) {
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
}

}  // namespace
}  // namespace ssa
