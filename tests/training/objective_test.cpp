// Losses against the objectives written out, gradients against differences of those.
#include "training/objective.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include "training/dense_objective.h"
#include "training/slope.h"

namespace ssa {
namespace {

struct Case {
  std::string name;
  ObjectiveWeights weights;
  bool distill_unfolds = false, own_teacher = false;

  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

std::string case_name(const testing::TestParamInfo<std::tuple<Case, int>>& info) {
  static const char* const kLayouts[] = {
      "one_level", "one_level_uneven", "two_levels", "two_levels_uneven"};
  return std::get<0>(info.param).name + "_" + kLayouts[std::get<1>(info.param)];
}

/// Two sequences of one layout, a shorter one, and one without gists.
std::vector<TrainingSequence> sequences_of(int layout) {
  std::mt19937 random(static_cast<unsigned>(5 + layout));
  const ChunkSizes chunk = layout < 2 ? ChunkSizes{4} : ChunkSizes{3, 2};
  const bool word_aware = layout % 2 == 1;
  const TrainingSequence first = random_sequence({chunk, 41, 7, word_aware}, random);
  return {first,
          random_sequence({chunk, 17, 5, word_aware}, random),
          reworded(first),
          random_sequence({chunk, 0, 7, false}, random)};
}

TrainingRow row_of(const std::vector<TrainingSequence>& sequences) {
  return {sequences};
}

ObjectiveOptions options_of(const Case& c) {
  ObjectiveOptions options;
  options.weights = c.weights;
  options.rule = {kTinySink, 1};
  options.selection.ratio = 6;
  options.distill_unfolds = c.distill_unfolds;
  options.route_queries = 4;
  return options;
}

/// The model's gradients of one run, in the order of its parameters.
std::vector<Tensor> gradients_of(CausalLM& model,
                                 const std::shared_ptr<CausalLM>& teacher,
                                 const std::vector<TrainingRow>& micro_batches,
                                 const BatchCounts& counts,
                                 const ObjectiveOptions& options,
                                 Losses* losses = nullptr) {
  model.zero_grad();
  Objective objective(model, teacher, options);
  for (const TrainingRow& row : micro_batches) {
    const Losses found =
        objective.run(make_batch({&row, 1}, {options.rule, options.route_queries}), counts);
    if (losses != nullptr) {
      *losses = found;
    }
  }
  std::vector<Tensor> gradients;
  for (const Tensor& parameter : model.parameters()) {
    gradients.push_back(parameter.grad().defined() ? parameter.grad().clone()
                                                   : torch::zeros_like(parameter));
  }
  return gradients;
}

double largest_distance(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double distance = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    distance = std::max(distance, (a[i] - b[i]).abs().max().item<double>());
  }
  return distance;
}

bool is_looked_at(const std::string& name) {
  static const std::vector<std::string> kParts = {"embed_tokens",
                                                  "layers.0.self_attn.q_proj",
                                                  "layers.1.self_attn.k_proj",
                                                  "layers.1.self_attn.v_proj",
                                                  "layers.0.mlp.up_proj",
                                                  "layers.1.input_layernorm",
                                                  "layers.2.self_attn.o_proj",
                                                  "model.norm",
                                                  "lm_head"};
  return std::any_of(kParts.begin(), kParts.end(), [&](const std::string& part) {
    return name.find(part) != std::string::npos;
  });
}

void expect_losses(const Losses& losses,
                   const ObjectiveTerms& expected,
                   const ObjectiveWeights& weights) {
  const auto expect = [](const Tensor& loss, double wanted, double weight, const char* name) {
    ASSERT_EQ(loss.defined(), weight > 0) << name;
    if (loss.defined()) {
      EXPECT_NEAR(loss.item<double>(), wanted, 1e-11 * std::max(1.0, std::abs(wanted))) << name;
    }
  };
  expect(losses.lm, expected.lm, weights.lm + weights.align, "lm");
  expect(losses.cpt, expected.cpt, weights.cpt, "cpt");
  expect(losses.sft, expected.sft, weights.sft, "sft");
  expect(losses.distill, expected.distill, weights.distill, "distill");
  expect(losses.route, expected.route, weights.route, "route");
  expect(losses.align, expected.align, weights.align, "align");
  expect(losses.total, expected.total, 1, "total");
}

/// Such small matrices are quicker on one thread.
class OneThread : public testing::Environment {
  void SetUp() override { torch::set_num_threads(1); }
};
const auto* const kOneThread = testing::AddGlobalTestEnvironment(new OneThread);

class ObjectiveGradients : public testing::TestWithParam<std::tuple<Case, int>> {};

TEST_P(ObjectiveGradients, AreThoseOfDifferences) {
  const auto& [c, layout] = GetParam();
  const std::vector<TrainingSequence> sequences = sequences_of(layout);
  const ObjectiveOptions options = options_of(c);
  const bool tied = layout % 2 == 0;
  const auto model = tiny_model(3, tied), teacher = c.own_teacher ? tiny_model(4, tied) : nullptr;
  const TrainingRow row = row_of(sequences);
  const BatchCounts counts = count(make_batch({&row, 1}, {options.rule, options.route_queries}));
  const DenseObjective dense(*model, teacher.get(), sequences, options, counts);
  Losses losses;
  const std::vector<Tensor> gradients =
      gradients_of(*model, teacher, {row}, counts, options, &losses);
  expect_losses(losses, dense(), c.weights);

  // The smooth L1 distance bends where it becomes linear: a step that crosses such a place must be
  // small.
  const double step = c.weights.align > 0 ? 1e-4 : 1e-3, rounding = 2e-14 / step;
  torch::manual_seed(1);
  double norm = 0;
  size_t i = 0;
  for (const auto& parameter : model->named_parameters()) {
    const Tensor gradient = gradients[i++];
    if (is_looked_at(parameter.key())) {
      expect_slope(parameter.key(), parameter.value(), gradient, step, rounding, [&] {
        return dense().total;
      });
      norm += gradient.square().sum().item<double>();
    }
  }
  EXPECT_GT(norm, 1e-8);
}

const std::vector<Case> kCases = {
    {"lm", {.lm = 1}},
    {"cpt", {.cpt = 1}},
    {"sft", {.sft = 1}},
    {"distill", {.distill = 1}},
    {"distill_ssa", {.distill = 1}, true},
    {"distill_teacher", {.distill = 1}, false, true},
    {"route", {.route = 1}},
    {"align", {.align = 0.1}},
    {"all", {.lm = 0.5, .cpt = 1, .sft = 0.7, .distill = 0.3, .route = 0.2, .align = 0.05}, true}};

INSTANTIATE_TEST_SUITE_P(All,
                         ObjectiveGradients,
                         testing::Combine(testing::ValuesIn(kCases), testing::Range(0, 4)),
                         case_name);

TEST(Objective, LayersComputedAgainGiveTheSameGradients) {
  for (const Case& c : kCases) {
    ObjectiveOptions options = options_of(c);
    const TrainingRow row = row_of(sequences_of(3));
    const BatchCounts counts = count(make_batch({&row, 1}, {options.rule, options.route_queries}));
    const auto model = tiny_model(3);
    const std::vector<Tensor> plain = gradients_of(*model, nullptr, {row}, counts, options);
    options.recompute_layers = true;
    EXPECT_LT(largest_distance(gradients_of(*model, nullptr, {row}, counts, options), plain), 1e-14)
        << c.name;
  }
}

TEST(Objective, MicroBatchesAddUpToTheBatch) {
  for (const Case& c : kCases) {
    const ObjectiveOptions options = options_of(c);
    const std::vector<TrainingSequence> all = sequences_of(2);
    const TrainingRow whole = row_of(all), first = row_of({all[0], all[3]}),
                      second = row_of({all[1], all[2]});
    const BatchCounts counts =
        count(make_batch({&whole, 1}, {options.rule, options.route_queries}));
    const auto model = tiny_model(3);
    const std::vector<Tensor> at_once = gradients_of(*model, nullptr, {whole}, counts, options);
    EXPECT_LT(
        largest_distance(gradients_of(*model, nullptr, {first, second}, counts, options), at_once),
        1e-12)
        << c.name;
  }
}

TEST(Objective, EvaluatesSuffixesUnderEveryMode) {
  const std::vector<TrainingSequence> sequences = sequences_of(1);
  const TrainingRow row = row_of(sequences);
  ObjectiveOptions options = options_of({"", {.lm = 1, .cpt = 1, .sft = 1}});
  const Batch batch = make_batch({&row, 1}, {options.rule, options.route_queries});
  std::vector<TrainingSequence> suffixes = sequences;  // the reference counts what it is given
  for (TrainingSequence& sequence : suffixes) {
    std::fill(sequence.targets.begin(),
              sequence.targets.begin() + std::max<int64_t>(0, sequence.layout.prefix_end() - 1),
              kNoTarget);
  }
  const auto model = tiny_model(3);
  const BatchCounts counts = count(batch);
  const ObjectiveTerms expected =
      DenseObjective(*model, nullptr, suffixes, options, {counts.suffix_targets, 1, 1, 1})();
  Objective objective(*model, nullptr, options);
  for (const auto& [mode, wanted] : {std::pair{TrainingMode::kFull, expected.lm},
                                     {TrainingMode::kGists, expected.cpt},
                                     {TrainingMode::kUnfold, expected.sft}}) {
    const Tensor found = objective.evaluate(batch, {mode, options.rule, options.selection, 0});
    EXPECT_EQ(found[1].item<double>(), counts.suffix_targets);
    EXPECT_NEAR(found[0].item<double>() / counts.suffix_targets, wanted, 1e-11);
  }
}

// Packed rows of short documents hold no gists, and a row may be without targets.
TEST(Objective, TakesRowsThatTeachNothing) {
  for (const Case& c : kCases) {
    std::mt19937 random(2);
    std::vector<TrainingSequence> short_ones = {random_sequence({{4}, 0, 3}, random),
                                                random_sequence({{4}, 5, 0}, random)};
    for (TrainingSequence& sequence : short_ones) {
      std::fill(sequence.targets.begin(), sequence.targets.end(), kNoTarget);
    }
    const auto model = tiny_model(3);
    Losses losses;
    EXPECT_NO_THROW(gradients_of(
        *model, nullptr, {row_of(short_ones)}, {10, 10, 4, 50}, options_of(c), &losses))
        << c.name;
    ASSERT_TRUE(losses.total.defined()) << c.name;
    EXPECT_TRUE(losses.total.isfinite().item<bool>()) << c.name;
  }
}

}  // namespace
}  // namespace ssa
