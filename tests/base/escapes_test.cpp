#include "base/escapes.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace ssa {
namespace {

TEST(Escapes, UnescapesWhatAShellCannotType) {
  EXPECT_EQ(unescape("\\n{}\\tx"), "\n{}\tx");
  EXPECT_EQ(unescape("a\\0b"), std::string("a\0b", 3));
  EXPECT_EQ(unescape("\\\\n \\{ \\"), "\\n { \\");
  EXPECT_EQ(unescape("\n"), "\n");
  EXPECT_EQ(unescape(""), "");
}

TEST(Escapes, ShowsBytesThatAreNoCharacters) {
  EXPECT_EQ(escape_invalid_utf8("a\xFF\xC3\xA9\xC3"), "a\\xff\xC3\xA9\\xc3");
  EXPECT_EQ(escape_invalid_utf8("\xED\xA0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(escape_invalid_utf8("\xF0\x9F\x8C\x8D\n"), "\xF0\x9F\x8C\x8D\n");
}

}  // namespace
}  // namespace ssa
