// Methods on tiny random models, against the model itself and the engine's reference.
#include "evaluation/evaluator.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/block_attention.h"
#include "engine/gist_attention.h"
#include "models/factory.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace ssa {
namespace {

class EvaluatorTest : public ::testing::TestWithParam<ChunkSizes> {
 protected:
  EvaluatorTest()
      : golden_(open_golden_model("llama-gqa3-tied-llama3")),
        model_(load_model(*golden_.checkpoint, {.dtype = torch::kFloat64})),
        tokenizer_(Tokenizer::from_file(std::filesystem::path(SSA_GOLDEN_DIR) / "tokenizer" /
                                        "smollm2.json")) {
    settings_.chunk = GetParam();
    settings_.token_ids = {90, 91, 92};
    settings_.word_aware = false;
    prompt_.id = "1";
    prompt_.pieces = {ids(11, 1), ids(83, 2)};
    prompt_.suffix = ids(7, 3);
    prompt_.answer = ids(4, 5);
    prompt_.answers = {"x"};
    prompt_.evidence = {{20, 30}};
  }

  static std::vector<int64_t> ids(int64_t n, int64_t salt) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < n; ++i) {
      ids.push_back((i * i * 7 + i * 13 + salt) % 89);
    }
    return ids;
  }

  KvCache empty_cache(int64_t capacity) const {
    return KvCache(model_->config(), torch::kFloat64, torch::kCPU, capacity);
  }

  std::vector<MethodOutcome> run(const std::vector<std::string>& methods,
                                 bool has_gists = true,
                                 const EvalOptions& eval_options = {.piece = 20, .predict = 3}) {
    return run_all({&prompt_, 1}, methods, has_gists, eval_options).front();
  }

  Outcomes run_all(std::span<const EvalPrompt> prompts,
                   const std::vector<std::string>& methods,
                   bool has_gists,
                   const EvalOptions& eval_options) const {
    const auto make_sparse =
        [&](const BlockOptions& options, int64_t capacity, BlockObserver* observer) {
          auto attention = std::make_unique<BlockSparseAttention>(
              empty_cache(capacity), empty_cache(capacity), options);
          attention->set_observer(observer);
          return attention;
        };
    Evaluator evaluator({*model_, tokenizer_, settings_, nullptr, has_gists, make_sparse},
                        parse_methods(methods, {settings_.chunk, has_gists}),
                        eval_options);
    return evaluator.run(prompts);
  }

  /// Prefixes of 94, 61, 2 and 80 tokens, suffixes as different, and one without evidence.
  std::vector<EvalPrompt> different_prompts() const {
    std::vector<EvalPrompt> prompts(4, prompt_);
    prompts[1].pieces = {ids(61, 7)};
    prompts[1].suffix = ids(12, 8);
    prompts[1].answer = ids(2, 3);
    prompts[2].pieces = {ids(2, 9)};
    prompts[2].evidence = {{0, 1}};
    prompts[3].pieces = {ids(30, 4), ids(50, 6)};
    prompts[3].suffix = ids(5, 2);
    prompts[3].answer = ids(6, 1);
    prompts[3].evidence = {};
    return prompts;
  }

  static void expect_alike(const MethodOutcome& a, const MethodOutcome& b) {
    EXPECT_NEAR(a.nll, b.nll, 1e-9);
    EXPECT_EQ(a.n_scored, b.n_scored);
    EXPECT_EQ(a.all_correct, b.all_correct);
    EXPECT_EQ(a.prefix_tokens, b.prefix_tokens);
    EXPECT_EQ(a.suffix_tokens, b.suffix_tokens);
    EXPECT_EQ(a.budget, b.budget);
    EXPECT_NEAR(a.scanned, b.scanned, 1e-9);
    const auto expect_near = [](const std::vector<double>& x, const std::vector<double>& y) {
      ASSERT_EQ(x.size(), y.size());
      for (size_t i = 0; i < x.size(); ++i) {
        EXPECT_NEAR(x[i], y[i], 1e-9) << "layer " << i;
      }
    };
    expect_near(a.attended, b.attended);
    expect_near(a.evidence_recall, b.evidence_recall);
  }

  /// Mean negative log-likelihood of the answer's tokens, which stand at the end of a sequence that
  /// lacks the last one: hidden states of all its tokens.
  double answer_nll(const Tensor& hidden) const {
    const auto n = static_cast<int64_t>(prompt_.answer.size());
    const Tensor rows = model_->logits(hidden.slice(0, hidden.size(0) - n)).log_softmax(1);
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      sum -= rows[i][prompt_.answer[static_cast<size_t>(i)]].item<double>();
    }
    return sum / static_cast<double>(n);
  }

  /// Question and answer, without its last token.
  std::vector<int64_t> fed_suffix() const {
    std::vector<int64_t> fed = prompt_.suffix;
    fed.insert(fed.end(), prompt_.answer.begin(), prompt_.answer.end() - 1);
    return fed;
  }

  /// The engine's reference, answer tokens fed one by one.
  double reference_nll(const GistAttentionOptions& options) const {
    GistLayout layout = lay_pieces(prompt_.pieces, settings_, {});
    layout.append_raw(prompt_.suffix);
    KvCache cache(model_->config(), torch::kFloat64, torch::kCPU, 16);
    Sequence sequence(*model_, std::make_unique<GistAttention>(std::move(cache), layout, options));
    std::vector<Tensor> rows;
    const auto collect = [&](int64_t, const Tensor& hidden) { rows.push_back(hidden.clone()); };
    sequence.advance(layout.ids(), layout.positions(), 1000, collect);
    const auto positions = consecutive_positions(layout.n_raw(), 3);
    sequence.advance(std::span(prompt_.answer).first(3), positions, 1, collect);
    const torch::InferenceMode inference;
    return answer_nll(torch::cat(rows));
  }

  /// Greedy, one token at a time, the prompt in one pass.
  std::string reference_answer(std::unique_ptr<SequenceAttention> attention,
                               const std::vector<int64_t>& prompt,
                               const std::vector<int64_t>& positions,
                               size_t n_new) const {
    const torch::InferenceMode inference;
    Sequence sequence(*model_, std::move(attention));
    Tensor logits = sequence.last_logits(prompt, positions, 1000);
    std::vector<int64_t> ids;
    while (true) {
      for (const int64_t id : settings_.token_ids) {
        logits[id] = -INFINITY;
      }
      ids.push_back(logits.argmax().item<int64_t>());
      if (ids.size() == n_new) {
        return tokenizer_.decode(ids, /*skip_special=*/true);
      }
      logits = sequence.last_logits(
          std::span(ids).last(1),
          consecutive_positions(positions.back() + static_cast<int64_t>(ids.size()), 1),
          1);
    }
  }

  GoldenModel golden_;
  std::shared_ptr<CausalLM> model_;
  Tokenizer tokenizer_;
  GistSettings settings_;
  EvalPrompt prompt_;
};

TEST_P(EvaluatorTest, FullIsThePlainModel) {
  std::vector<int64_t> all;
  for (const auto& piece : prompt_.pieces) {
    all.insert(all.end(), piece.begin(), piece.end());
  }
  const std::vector<int64_t> fed = fed_suffix();
  all.insert(all.end(), fed.begin(), fed.end());
  KvCache cache(model_->config(), torch::kFloat64, torch::kCPU, 16);
  FullAttention attention(std::move(cache));
  const torch::InferenceMode inference;
  const auto n = static_cast<int64_t>(all.size());
  const Tensor hidden = model_->forward(torch::tensor(all), torch::arange(n), attention);
  const MethodOutcome full = run({"full"})[0];
  EXPECT_NEAR(full.nll, answer_nll(hidden), 1e-9);
  EXPECT_EQ(full.n_scored, 4);
  EXPECT_EQ(full.prefix_tokens, 94);
  EXPECT_NEAR(full.attended[1], 94 + 11 / 2.0, 1e-9);  // 10 suffix tokens see 1 to 10 of them
  EXPECT_EQ(full.evidence_recall, std::vector<double>(full.attended.size(), 1.0));
}

TEST_P(EvaluatorTest, UnfoldsAsTheEngineDoes) {
  const auto outcomes = run({"gists", "ssa", "ssa:3"});
  EXPECT_NEAR(outcomes[0].nll, reference_nll({.unfold = false}), 1e-9);
  GistAttentionOptions options;
  EXPECT_NEAR(outcomes[1].nll, reference_nll(options), 1e-9);
  options.selection.ratio = 3;
  EXPECT_NEAR(outcomes[2].nll, reference_nll(options), 1e-9);
  EXPECT_NE(outcomes[1].nll, outcomes[2].nll);
  for (const MethodOutcome& outcome : outcomes) {
    ASSERT_EQ(outcome.evidence_recall.size(), outcome.attended.size());
    EXPECT_LE(outcome.evidence_recall[1], 1.0);
  }
}

/// The whole sequence in one pass under block-sparse attention.
TEST_P(EvaluatorTest, SparseReadsAndGoesOnSparsely) {
  std::vector<int64_t> all;
  for (const auto& piece : prompt_.pieces) {
    all.insert(all.end(), piece.begin(), piece.end());
  }
  const std::vector<int64_t> fed = fed_suffix();
  all.insert(all.end(), fed.begin(), fed.end());
  const auto n = static_cast<int64_t>(all.size());
  const auto outcomes = run({"full", "sparse:2@8", "sparse:100@8"}, false);
  BlockSparseAttention attention(empty_cache(n), empty_cache(n), {.block_size = 8, .n_blocks = 2});
  const torch::InferenceMode inference;
  const Tensor hidden = model_->forward(torch::tensor(all), torch::arange(n), attention);
  EXPECT_NEAR(outcomes[1].nll, answer_nll(hidden), 1e-9);
  EXPECT_GT(std::fabs(outcomes[1].nll - outcomes[0].nll), 1e-6);
  EXPECT_NEAR(outcomes[2].nll, outcomes[0].nll, 1e-9);
  EXPECT_EQ(outcomes[2].answer, outcomes[0].answer);
  for (size_t layer = 0; layer < outcomes[1].attended.size(); ++layer) {
    // One whole block, and one up to the query: indices 94 to 103 are 6, 7, 0 ... 7 of theirs.
    EXPECT_NEAR(outcomes[1].attended[layer], 8 + 5.1, 1e-9);
    EXPECT_NEAR(outcomes[2].attended[layer], outcomes[0].attended[layer], 1e-9);
    EXPECT_LE(outcomes[1].evidence_recall[layer], 1.0);
    EXPECT_NEAR(outcomes[2].evidence_recall[layer], 1.0, 1e-12);
  }
}

/// The prefix in one pass, methods together, answers beyond the gold one.
TEST_P(EvaluatorTest, AnswersAsOneTokenAtATimeDoes) {
  constexpr size_t kNew = 6;
  const auto outcomes = run({"full", "gists", "ssa", "ssa:3", "mean:3", "h2o:3"},
                            true,
                            {.piece = 1000, .predict = kNew, .stop_at_newline = false});
  GistLayout layout = lay_pieces(prompt_.pieces, settings_, {});
  layout.append_raw(prompt_.suffix);
  const std::vector<int64_t> laid(layout.ids().begin(), layout.ids().end());
  const std::vector<int64_t> positions(layout.positions().begin(), layout.positions().end());
  std::vector<int64_t> raw;
  for (const int64_t id : laid) {
    if (id < settings_.token_ids[0]) {
      raw.push_back(id);
    }
  }
  EXPECT_EQ(outcomes[0].answer,
            reference_answer(std::make_unique<FullAttention>(empty_cache(16)),
                             raw,
                             consecutive_positions(0, static_cast<int64_t>(raw.size())),
                             kNew));
  GistAttentionOptions all[] = {{.unfold = false}, {}, {}};
  all[2].selection.ratio = 3;
  for (size_t i = 0; i < std::size(all); ++i) {
    const MethodOutcome& outcome = outcomes[i + 1];
    EXPECT_NEAR(outcome.nll, reference_nll(all[i]), 1e-9);
    EXPECT_EQ(outcome.answer,
              reference_answer(std::make_unique<GistAttention>(empty_cache(16), layout, all[i]),
                               laid,
                               positions,
                               kNew));
  }
  const auto in_pieces = run({"full", "gists", "ssa", "ssa:3", "mean:3", "h2o:3"},
                             true,
                             {.piece = 7, .predict = kNew, .stop_at_newline = false});
  for (size_t i = 0; i < outcomes.size(); ++i) {
    EXPECT_NEAR(outcomes[i].nll, in_pieces[i].nll, 1e-9) << i;
    EXPECT_EQ(outcomes[i].answer, in_pieces[i].answer) << i;
  }
}

/// Methods that choose nothing may stand between those that set budgets and those that take them.
TEST_P(EvaluatorTest, BudgetsAreKnownWhateverStandsBetween) {
  const auto outcomes = run({"ssa:mean:2", "gists", "ssa:2", "ssa:4"});
  EXPECT_EQ(outcomes[0].budget, "run");
  EXPECT_EQ(outcomes[1].budget, "");
  EXPECT_NEAR(outcomes[0].attended[1], outcomes[2].attended[1], 5.0);
}

/// Whatever runs beside it, and however often a prefix is gone on from.
TEST_P(EvaluatorTest, MethodsDoNotDisturbEachOther) {
  const auto together =
      run({"h2o:4", "ssa:4", "full", "streaming:4", "gists", "alone", "sparse:2@8", "sparse:3@8"});
  const char* names[] = {"full", "gists", "ssa:4", "alone", "sparse:2@8"};
  const size_t places[] = {2, 4, 1, 5, 6};
  for (size_t i = 0; i < std::size(names); ++i) {
    const MethodOutcome alone = run({names[i]})[0];
    EXPECT_NEAR(alone.nll, together[places[i]].nll, 1e-9) << names[i];
    EXPECT_EQ(alone.answer, together[places[i]].answer) << names[i];
  }
}

/// However long prompts are, and whichever ends first.
TEST_P(EvaluatorTest, PromptsTogetherAreAsOneByOne) {
  const std::vector<EvalPrompt> prompts = different_prompts();
  const std::vector<std::string> methods = {"ssa:3",
                                            "gists",
                                            "ssa:mean:3",
                                            "ssa:quest:2",
                                            "full",
                                            "quest:2",
                                            "mean:3",
                                            "recent:3",
                                            "random:3",
                                            "streaming:3",
                                            "h2o:3",
                                            "alone",
                                            "sparse:2@8"};
  EvalOptions options{.piece = 1000, .predict = 5, .stop_at_newline = false};
  const Outcomes apart = run_all(prompts, methods, true, options);
  options.together = 1000;
  const Outcomes together = run_all(prompts, methods, true, options);
  options.together = 200;  // two at a time
  const Outcomes in_pairs = run_all(prompts, methods, true, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (size_t m = 0; m < methods.size(); ++m) {
      SCOPED_TRACE(methods[m] + " of prompt " + std::to_string(i));
      expect_alike(together[i][m], apart[i][m]);
      EXPECT_EQ(together[i][m].answer, apart[i][m].answer);
      expect_alike(in_pairs[i][m], apart[i][m]);
      EXPECT_EQ(in_pairs[i][m].answer, apart[i][m].answer);
    }
  }
}

TEST_P(EvaluatorTest, LikelihoodAloneIsTheSame) {
  const std::vector<EvalPrompt> prompts = different_prompts();
  const std::vector<std::string> methods = {"full", "sparse:2@8", "sparse:3@4", "alone"};
  EvalOptions options{.piece = 1000, .predict = 5};
  const Outcomes answered = run_all(prompts, methods, false, options);
  options.answers = false;
  for (const int64_t together : {0, 1000}) {
    options.together = together;
    const Outcomes scored = run_all(prompts, methods, false, options);
    for (size_t i = 0; i < prompts.size(); ++i) {
      for (size_t m = 0; m < methods.size(); ++m) {
        SCOPED_TRACE(methods[m] + " of prompt " + std::to_string(i));
        expect_alike(scored[i][m], answered[i][m]);
        EXPECT_FALSE(scored[i][m].answer.has_value());
      }
    }
  }
}

/// A text that is scored itself, in windows of different length.
TEST_P(EvaluatorTest, SuffixesTogetherAreAsOneByOne) {
  std::vector<EvalPrompt> prompts = different_prompts();
  for (EvalPrompt& prompt : prompts) {
    prompt.answer.clear();
  }
  EvalOptions options{.piece = 1000, .gain_tokens = 6};
  const std::vector<std::string> methods = {"full", "ssa:3", "ssa:mean:3", "h2o:3", "alone"};
  const Outcomes apart = run_all(prompts, methods, true, options);
  options.together = 1000;
  const Outcomes together = run_all(prompts, methods, true, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (size_t m = 0; m < methods.size(); ++m) {
      SCOPED_TRACE(methods[m] + " of prompt " + std::to_string(i));
      expect_alike(together[i][m], apart[i][m]);
      EXPECT_NEAR(together[i][m].gain_nll, apart[i][m].gain_nll, 1e-9);
    }
  }
}

/// Equal mean keys attended as unfolding by gists, in every layer that chooses.
TEST_P(EvaluatorTest, BudgetsAreEqual) {
  const std::vector<std::string> methods = {"ssa:2",
                                            "ssa:mean:2",
                                            "ssa:quest:2",
                                            "ssa:random:2",
                                            "ssa:recent:2",
                                            "mean:2",
                                            "quest:2",
                                            "recent:2",
                                            "random:2",
                                            "streaming:2",
                                            "h2o:2"};
  const auto outcomes = run(methods);
  const double chunk = static_cast<double>(GetParam()[0]) + 1;
  for (size_t i = 1; i < methods.size(); ++i) {
    EXPECT_EQ(outcomes[i].budget, "run");
    // Fixed sets are whole keys; chunks come whole, a head at a time, for each of ten queries.
    const double tolerance = methods[i] == "streaming:2" || methods[i] == "h2o:2" ? 0.51 : chunk;
    for (size_t layer = 1; layer < outcomes[i].attended.size(); ++layer) {
      EXPECT_NEAR(outcomes[i].attended[layer], outcomes[0].attended[layer], tolerance)
          << methods[i] << " layer " << layer;
    }
  }
}

TEST_P(EvaluatorTest, WorksWithoutGists) {
  const auto outcomes = run({"full", "mean:2", "streaming:2", "h2o:2"}, false);
  for (size_t i = 1; i < outcomes.size(); ++i) {
    EXPECT_EQ(outcomes[i].budget, "rule");
    EXPECT_LT(outcomes[i].attended[1], outcomes[0].attended[1]);
    EXPECT_TRUE(std::isfinite(outcomes[i].nll));
  }
  // A budget for everything is full attention.
  const auto all = run({"full", "mean:1", "streaming:1", "h2o:1"}, false);
  for (const MethodOutcome& outcome : all) {
    EXPECT_NEAR(outcome.nll, all[0].nll, 1e-9);
    EXPECT_EQ(outcome.answer, all[0].answer);
  }
}

TEST_P(EvaluatorTest, SaysWhatIsTooLong) {
  prompt_.where = "items.jsonl line 7";
  prompt_.pieces = {ids(model_->config().max_position_embeddings, 1)};
  expect_error([&] { run({"full"}); }, "items.jsonl line 7");
}

INSTANTIATE_TEST_SUITE_P(Chunks, EvaluatorTest, ::testing::Values(ChunkSizes{4}, ChunkSizes{3, 2}));

}  // namespace
}  // namespace ssa
