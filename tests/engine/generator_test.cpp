#include "engine/generator.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "models/factory.h"
#include "scripted_model.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace ssa {
namespace {

using Ids = std::vector<int64_t>;

struct NoAttention : SequenceAttention {
  Tensor attend(int64_t, const AttentionInput& in) override { return in.q; }
  void rewind(int64_t) override {}
};

/// What the model that recites `script` says behind its first n_prompt bytes.
struct Recital {
  GenerateResult result;
  std::vector<std::string> pieces;  // as they were streamed
};

Recital recite(const std::string& script, int64_t n_prompt, GenerateOptions options) {
  const Tokenizer tokenizer = byte_tokenizer();
  ScriptedModel model(script);
  Sequence sequence(model, std::make_unique<NoAttention>());
  Recital recital;
  options.on_text = [&](std::string_view text) { recital.pieces.emplace_back(text); };
  const Ids prompt(static_cast<size_t>(n_prompt), 'x');
  recital.result =
      generate(tokenizer, sequence, prompt, consecutive_positions(0, n_prompt), options);
  std::string streamed;
  for (const std::string& piece : recital.pieces) {
    EXPECT_FALSE(piece.empty());
    streamed += piece;
  }
  EXPECT_EQ(streamed, recital.result.text);
  EXPECT_EQ(recital.result.prompt_tokens, n_prompt);
  return recital;
}

TEST(Generator, StopsAtTheLimit) {
  for (const int64_t limit : {0, 1, 5}) {
    const GenerateResult result = recite("ab-cdefgh", 3, {.max_new_tokens = limit}).result;
    EXPECT_EQ(result.text, std::string("cdefgh").substr(0, static_cast<size_t>(limit)));
    EXPECT_EQ(static_cast<int64_t>(result.ids.size()), limit);
    EXPECT_EQ(result.decode_passes, std::max<int64_t>(limit - 1, 0));  // the first is the prompt's
    EXPECT_EQ(result.finish, FinishReason::kLength);
  }
}

TEST(Generator, StopTokensEndTheAnswerAndAreNoPartOfIt) {
  const GenerateResult at_end =
      recite("ab-cde", 3, {.stop_tokens = {'?', ScriptedModel::kEos}}).result;
  EXPECT_EQ(at_end.text, "cde");
  EXPECT_EQ(at_end.ids, Ids({'c', 'd', 'e'}));
  EXPECT_EQ(at_end.decode_passes, 3);  // the last one gave the stop token
  EXPECT_EQ(at_end.finish, FinishReason::kStop);
  EXPECT_EQ(recite("ab-cde", 3, {.stop_tokens = {'c'}}).result.text, "");
}

TEST(Generator, WithoutStopTokensItGoesOnPastTheEnd) {
  const GenerateResult result = recite("ab-cd", 3, {.max_new_tokens = 4}).result;
  EXPECT_EQ(result.ids, Ids({'c', 'd', ScriptedModel::kEos, ScriptedModel::kEos}));
  EXPECT_EQ(result.text, "cd");  // special tokens have no text
}

TEST(Generator, StopStringsEndTheAnswerAndAreNoPartOfIt) {
  const Recital recital = recite("ab-one END two", 3, {.stop = {"STOP", "END"}});
  EXPECT_EQ(recital.result.text, "one ");
  EXPECT_EQ(recital.result.finish, FinishReason::kStop);
  EXPECT_EQ(recital.result.ids.back(), 'D');  // nothing was generated behind it
}

TEST(Generator, HalfAStopStringIsShownInTheEnd) {
  EXPECT_EQ(recite("ab-one EN", 3, {.stop = {"END"}, .stop_tokens = {256}}).result.text, "one EN");
  EXPECT_EQ(recite("ab-one END", 3, {.max_new_tokens = 6, .stop = {"END"}}).result.text, "one EN");
}

TEST(Generator, StreamsWholeCharacters) {
  const std::string text = "\xC3\xA9-\xE4\xB8\xAD-\xF0\x9F\x99\x82";
  const Recital whole = recite("ab-" + text, 3, {.stop_tokens = {256}});
  EXPECT_EQ(whole.pieces,
            std::vector<std::string>({"\xC3\xA9", "-", "\xE4\xB8\xAD", "-", "\xF0\x9F\x99\x82"}));
  const Recital cut = recite("ab-" + text, 3, {.max_new_tokens = 4});
  EXPECT_EQ(cut.result.text, "\xC3\xA9-\xEF\xBF\xBD");  // what is broken at the end becomes U+FFFD
}

TEST(Generator, ForbiddenTokensGiveWayToTheNextBest) {
  const GenerateResult result =
      recite("ab-cde", 3, {.max_new_tokens = 3, .forbidden = {'d', 0}}).result;
  EXPECT_EQ(result.ids, Ids({'c', 1, 'e'}));  // all others are equal: the first that may be
}

TEST(Generator, ReadsThePromptInPieces) {
  const Tokenizer tokenizer = byte_tokenizer();
  ScriptedModel model(std::string(30, 'a'));
  Sequence sequence(model, std::make_unique<NoAttention>());
  Ids reports;
  const Ids prompt(20, 'x');
  GenerateOptions options = {.max_new_tokens = 5, .prefill_piece = 8};
  options.on_prefill = [&](int64_t done, int64_t) { reports.push_back(done); };
  generate(tokenizer, sequence, prompt, consecutive_positions(0, 20), options);
  EXPECT_EQ(reports, Ids({8, 16, 20}));
  EXPECT_EQ(model.largest_pass, 8);
  EXPECT_EQ(model.n_seen, 20 + 4);  // the last token is never read
}

TEST(Generator, PositionsContinueBehindThePrompt) {
  const Tokenizer tokenizer = byte_tokenizer();
  ScriptedModel model("0123456789");
  Sequence sequence(model, std::make_unique<NoAttention>());
  const Ids prompt = {'x', 'x'}, positions = {0, 5};
  const auto result = generate(tokenizer, sequence, prompt, positions, {.max_new_tokens = 3});
  EXPECT_EQ(result.text, "678");
}

TEST(Generator, ReadsOnlyWhatTheSequenceDoesNotHold) {
  const Tokenizer tokenizer = byte_tokenizer();
  ScriptedModel model("0123456789");
  Sequence sequence(model, std::make_unique<NoAttention>());
  const Ids prompt(6, 'x'), positions = consecutive_positions(0, 6);
  sequence.advance(std::span(prompt).first(4), std::span(positions).first(4), 512, {});
  const auto result =
      generate(tokenizer, sequence, prompt, positions, {.max_new_tokens = 2, .n_cached = 4});
  EXPECT_EQ(result.text, "67");
  EXPECT_EQ(result.prompt_tokens, 2);
  EXPECT_EQ(model.n_seen, 6 + 1);
}

TEST(Generator, BadRequestsAreErrors) {
  expect_error([] { recite("ab", 0, {}); }, "prompt is empty");
  expect_error([] { recite("ab", 1, {.max_new_tokens = -1}); }, "-1 is below 0");
  expect_error([] { recite("ab", 1, {.sampling = {.top_p = 2}}); }, "top-p 2");
  expect_error([] { recite("ab", 1, {.stop = {""}}); }, "stop string");
}

TEST(Generator, GreedyIsTheArgmaxOfEachPrefix) {
  const GoldenModel golden = open_golden_model("qwen3-gqa2");
  const auto model = load_model(*golden.checkpoint);
  const auto sequence = [&] {
    KvCache cache(model->config(), model->dtype(), model->device(), 4);
    return Sequence(*model, std::make_unique<FullAttention>(std::move(cache)));
  };
  const int64_t* first = golden.ids.const_data_ptr<int64_t>();
  Ids ids(first, first + 20);
  Sequence cached = sequence();
  const Tokenizer tokenizer = byte_tokenizer();
  const GenerateResult result =
      generate(tokenizer, cached, ids, consecutive_positions(0, 20), {.max_new_tokens = 12});
  ASSERT_EQ(result.ids.size(), 12U);
  for (const int64_t token : result.ids) {
    const auto n = static_cast<int64_t>(ids.size());
    const Tensor logits = sequence().last_logits(ids, consecutive_positions(0, n), 512);
    EXPECT_EQ(logits.argmax().item<int64_t>(), token) << "at " << n;
    ids.push_back(token);
  }
}

}  // namespace
}  // namespace ssa
