#include "engine/stop_strings.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace ssa {
namespace {

struct Case {
  std::vector<std::string> stops;
  std::string text, shown;
  bool stopped;
};

const Case kCases[] = {
    {{}, "anything", "anything", false},
    {{"STOP"}, "go on", "go on", false},
    {{"STOP"}, "go STOP here", "go ", true},
    {{"STOP"}, "STOP", "", true},
    {{"STOP"}, "half a STO", "half a STO", false},
    {{"STOP"}, "STSTOP", "ST", true},
    {{"aab"}, "aaaaab", "aaa", true},
    {{"abab"}, "abaabab", "aba", true},
    {{"\n\n", "User:"}, "one\nUser: two\n\n", "one\n", true},
    {{"bcd", "c"}, "abcd", "ab", true},  // "c" is complete first
    {{"cd", "abcde"}, "abcde", "ab", true},
    {{"\xC3\xA9t\xC3\xA9"}, "l'\xC3\xA9t\xC3\xA9", "l'", true},
};

std::string shown_in_pieces(StopStrings& stops, const std::string& text, size_t piece) {
  std::string shown;
  for (size_t i = 0; i < text.size(); i += piece) {
    shown += stops.push(text.substr(i, piece));
  }
  return stops.stopped() ? shown : shown + stops.finish();
}

TEST(StopStrings, EndTheTextHoweverItArrives) {
  for (const Case& expected : kCases) {
    // Of stop strings that overlap, the one complete first wins; only single letters make that the
    // same each time.
    const size_t longest = expected.stops.size() > 1 ? 1 : 5;
    for (size_t piece = 1; piece <= longest; ++piece) {
      SCOPED_TRACE(expected.text + " by " + std::to_string(piece));
      StopStrings stops(expected.stops);
      EXPECT_EQ(shown_in_pieces(stops, expected.text, piece), expected.shown);
      EXPECT_EQ(stops.stopped(), expected.stopped);
    }
  }
}

TEST(StopStrings, HoldsBackNoMoreThanItMust) {
  StopStrings stops({"</end>", "END"});
  EXPECT_EQ(stops.push("text <"), "text ");
  EXPECT_EQ(stops.push("/e"), "");
  EXPECT_EQ(stops.push("m>"), "</em>");
  EXPECT_EQ(stops.push("E"), "");
  EXPECT_EQ(stops.push("E"), "E");
  EXPECT_EQ(stops.push("ND more"), "");
  EXPECT_TRUE(stops.stopped());
}

TEST(StopStrings, NothingComesAfterTheStop) {
  StopStrings stops({"."});
  EXPECT_EQ(stops.push("a.b"), "a");
  EXPECT_EQ(stops.push("c"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, FinishGivesWhatWasHeldBackOnce) {
  StopStrings stops({"STOP"});
  EXPECT_EQ(stops.push("ST"), "");
  EXPECT_EQ(stops.finish(), "ST");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, EmptyStopStringsAreAnError) {
  expect_error([] { StopStrings({"a", ""}); }, "stop string is empty");
}

}  // namespace
}  // namespace ssa
