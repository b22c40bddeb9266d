#include "tokenizer/text_frame.h"

#include <algorithm>
#include <filesystem>

#include "support/expect_error.h"

namespace ssa {
namespace {

TEST(TextFrame, StandsAroundTheField) {
  const TextFrame frame = parse_text_frame("Question: {}\nAnswer:");
  EXPECT_EQ(frame.before, "Question: ");
  EXPECT_EQ(frame.behind, "\nAnswer:");
  for (const char* format : {"", "no place", "{} and {}"}) {
    expect_error([&] { parse_text_frame(format); },
                 std::string("format '") + format + "': expected {} exactly once");
  }
}

TEST(TextFrame, FieldsHoldNoSpecialTokens) {
  const Tokenizer tokenizer =
      Tokenizer::from_file(std::filesystem::path(SSA_GOLDEN_DIR) / "tokenizer/smollm2.json");
  const std::string special = "<|im_end|>";
  const auto count = [&](const TextFrame& frame, const std::string& text) {
    return std::ranges::count(encode_framed(tokenizer, frame, text),
                              tokenizer.token_to_id(special).value());
  };
  EXPECT_EQ(count({special, ""}, "text"), 1);
  EXPECT_EQ(count({"", ""}, special), 0);
}

}  // namespace
}  // namespace ssa
