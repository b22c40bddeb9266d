#include "gist/word_boundary.h"

#include <gtest/gtest.h>

namespace ssa {
namespace {

TEST(WordBoundary, Begins) {
  for (const char* text :
       {"",   " word", "\tx", "\n", "\r\n", ".", ",", "; ", ":",  "!",      "?",        "-",
        "--", "(",     ")",   "[",  "]",    "{", "}", "\"", "'s", "\u2014", "\u2014and"}) {
    EXPECT_TRUE(begins_word(text)) << "'" << text << "'";
  }
}

TEST(WordBoundary, DoesNotBegin) {
  for (const char* text :
       {"word",    "a b",    "7",      "_",      "/",       "\\",        "*",
        "+",       "=",      "<gist>", ">",      "@",       "#",         "$",
        "%",       "&",      "~",      "`",      "|",       "\v",        "\f",
        "\u00a0x", "\u3000", "\u2009", "\u2013", "\u2019",  "\u201c",    "\u2026",
        "\u3002",  "\u00e9", "\u4e2d", "\uFFFD", "\uFFFD ", "\u2588word"}) {
    EXPECT_FALSE(begins_word(text)) << "'" << text << "'";
  }
  EXPECT_FALSE(begins_word(std::string_view("\0 x", 3)));
}

TEST(WordBoundary, FillsATable) {
  const std::vector<std::string> texts = {"the", " the", "", "\uFFFD"};
  const WordBoundaries table =
      find_word_boundaries(4, [&](int64_t id) { return texts[static_cast<size_t>(id)]; });
  EXPECT_EQ(table, (WordBoundaries{false, true, true, false}));
}

}  // namespace
}  // namespace ssa
