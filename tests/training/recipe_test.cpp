// Recipes: what they mean, and what is said about those that mean nothing.
#include "training/recipe.h"

#include <gtest/gtest.h>

#include "base/list_folder.h"
#include "support/expect_error.h"
#include "training/run_folder.h"

namespace ssa {
namespace {

TEST(Recipe, ReadsWhatIsThereAndDefaultsElse) {
  const RunFolder folder;
  const Recipe recipe = folder.recipe();
  EXPECT_EQ(recipe.job.output, folder / "out");
  EXPECT_EQ(recipe.data.seq_len, 48);
  ASSERT_EQ(recipe.data.chunks.size(), 2U);
  EXPECT_EQ(recipe.data.chunks[0].chunk, ChunkSizes{4});
  EXPECT_EQ(recipe.data.chunks[1].chunk, (ChunkSizes{3, 2}));
  EXPECT_EQ(recipe.data.chunks[1].weight, 0.5);
  EXPECT_EQ(recipe.objective.rule.sink, 2);
  EXPECT_EQ(recipe.objective.rule.previous_chunks, 1);
  EXPECT_TRUE(recipe.data.gists);
  EXPECT_EQ(recipe.schedule.peak, 1e-2);
  EXPECT_EQ(recipe.schedule.total_steps, 4);
  EXPECT_EQ(recipe.optimizer.weight_decay, 0.1);
  EXPECT_EQ(recipe.validation.modes, (std::vector<std::string>{"full", "gists", "ssa"}));
  EXPECT_EQ(recipe.checkpoint.keep, 2);
}

TEST(Recipe, PlainLanguageModellingLaysNoGists) {
  const RunFolder folder;
  const Recipe recipe = folder.recipe({"--objective.lm", "1", "--objective.cpt", "0"});
  EXPECT_FALSE(recipe.data.gists);
  EXPECT_EQ(recipe.validation.modes, std::vector<std::string>{"full"});
}

TEST(Recipe, TakesOverrides) {
  const RunFolder folder;
  const Recipe recipe = folder.recipe({"--optimizer.lr",
                                       "3e-4",
                                       "--data.loss_on=suffix",
                                       "--job.output",
                                       "/tmp/a=b",
                                       "--gist.chunks=[16, \"8-4\"]",
                                       "--training.activation_checkpointing=true",
                                       "--model.path=with=sign",
                                       "--checkpoint.keep",
                                       "7"});
  EXPECT_EQ(recipe.schedule.peak, 3e-4);
  EXPECT_EQ(recipe.data.loss_on, LossOn::kSuffix);
  EXPECT_EQ(recipe.job.output, "/tmp/a=b");
  EXPECT_EQ(recipe.model.path, "with=sign");
  EXPECT_EQ(recipe.data.chunks[1].chunk, (ChunkSizes{8, 4}));
  EXPECT_TRUE(recipe.objective.recompute_layers);
  EXPECT_EQ(recipe.checkpoint.keep, 7);
  EXPECT_NE(recipe.text.find("keep = 7"), std::string::npos) << recipe.text;
}

TEST(Recipe, ItsTextIsTheRecipeAgain) {
  const RunFolder folder;
  const Recipe recipe = folder.recipe({"--training.steps", "9"});
  EXPECT_EQ(folder.read_text(recipe.text).text, recipe.text);
}

struct Wrong {
  std::vector<std::string> overrides;
  std::string message;
};

TEST(Recipe, RefusesByName) {
  const RunFolder folder;
  const std::vector<Wrong> cases = {
      {{"--optimizer.weight_dcay", "1"},
       "recipe: optimizer.weight_dcay is not known; did you mean optimizer.weight_decay?"},
      {{"--training.zzzzzzzzzzzz", "1"}, "recipe: training.zzzzzzzzzzzz is not known; known are"},
      {{"--optimiser.lr", "1"}, "recipe: [optimiser] is not a section; did you mean [optimizer]?"},
      {{"--training.steps", "many"}, "recipe: training.steps must be a whole number"},
      {{"--training.steps", "1.5"}, "recipe: training.steps must be a whole number"},
      {{"--training.steps", "0"}, "training.steps and training.global_batch_size must be above 0"},
      {{"--optimizer.lr", "\"fast\""}, "recipe: optimizer.lr must be a number"},
      {{"--optimizer.lr", "0"}, "recipe: optimizer.lr must be above 0"},
      {{"--data.add_bos", "1"}, "recipe: data.add_bos must be true or false"},
      {{"--model.dtype", "16"}, "recipe: model.dtype must be text"},
      {{"--job.seed", "-1"}, "recipe: job.seed must be not below 0"},
      {{"--model.init", "zeros"},
       "recipe: model.init 'zeros' is not known; known are weights, random"},
      {{"--data.sources", "text"}, "recipe: data.sources must be a list of datasets"},
      {{"--data.sources", "[{weight = 2}]"}, "recipe: data.sources holds an entry without path"},
      {{"--data.sources", "[{path = 'x', wieght = 2}]"}, "key 'wieght'; known are path, weight"},
      {{"--data.sources", "[{path = 'x', weight = 'much'}]"},
       "recipe: data.sources: weight must be a number"},
      {{"--data.sources", "[]"}, "recipe: data.sources is missing"},
      {{"--data.loss_on", "prefix"}, "prefix"},
      {{"--gist.chunk", "0"}, "0"},
      {{"--gist.chunks", "[]"}, "recipe: gist.chunks must be a list"},
      {{"--gist.chunks", "[{weight = 2}]"}, "recipe: gist.chunks holds an entry without chunk"},
      {{"--gist.chunks", "[{chunk = 8, wieght = 2}]"}, "key 'wieght'; known are chunk, weight"},
      {{"--gist.previous_chunks", "-1"}, "recipe: gist.previous_chunks must not be below 0"},
      {{"--objective.cpt", "-1"}, "recipe: objective weights must not be below 0"},
      {{"--objective.cpt", "0"}, "recipe: no objective has a weight"},
      {{"--objective.distill_student", "both"},
       "recipe: objective.distill_student 'both' is not known; known are gists, ssa"},
      {{"--objective.pivot", "best"}, "pivot 'best' is not known"},
      {{"--lr_scheduler.decay", "sqrt"}, "lr_scheduler.decay 'sqrt' is not known"},
      {{"--lr_scheduler.warmup_steps", "4"},
       "recipe: lr_scheduler.warmup_steps 4 is not within the 4 steps"},
      {{"--validation.modes", "['ssa:best']"}, "pivot 'best' is not known"},
      {{"--validation.modes", "['none']"}, "validation mode 'none' is not known"},
      {{"--metrics.log_interval", "0"}, "recipe: metrics.log_interval must be above 0"},
      {{"--job.output", ""}, "recipe: job.output is missing"},
      {{"--training.steps"}, "'--training.steps' is without a value"},
      {{"--steps", "4"}, "'--steps' is not of the form --section.key value"},
      {{"training.steps", "4"}, "'training.steps' is not of the form --section.key value"},
  };
  for (const Wrong& wrong : cases) {
    SCOPED_TRACE(wrong.overrides[0] + " " + (wrong.overrides.size() > 1 ? wrong.overrides[1] : ""));
    expect_error([&] { folder.recipe(wrong.overrides); }, wrong.message);
  }
}

/// Mistakes of the command line end the program with another code than those of a file.
TEST(Recipe, TellsTheCommandLineFromTheFile) {
  const RunFolder folder;
  for (const std::vector<std::string>& overrides :
       std::vector<std::vector<std::string>>{{"--training.stesp", "5"},
                                             {"--training.steps=many"},
                                             {"--trainig.steps", "5"},
                                             {"--data.sources", "[{weight = 2}]"},
                                             {"--steps", "5"},
                                             {"steps"},
                                             {"--training.steps"}}) {
    EXPECT_THROW(folder.recipe(overrides), UsageError) << overrides[0];
  }
  for (const char* wrong : {"log_intervall = 1\n",
                            "[checkpoint]\nkeep = 'x'\n",
                            "[trainig]\nsteps = 5\n",
                            "[validation]\nmodes = 'full'\n"}) {
    SCOPED_TRACE(wrong);
    try {
      folder.recipe({"--training.steps", "5"}, wrong);
      ADD_FAILURE();
    } catch (const UsageError& error) {
      ADD_FAILURE() << error.what();
    } catch (const Error&) {
    }
  }
}

TEST(Recipe, RefusesFilesByLine) {
  const RunFolder folder;
  expect_error([&] { folder.read_text("[job]\noutput = 'x\n"); }, "recipe.toml, line 2: ");
  expect_error([&] { folder.read_text("[model]\npath = 'x'\n"); }, "recipe: job.output is missing");
  expect_error([&] { folder.read_text("[job]\noutput = 'x'\n"); }, "recipe: model.path is missing");
  expect_error([&] { folder.read_text("job = 3\n"); }, "recipe: job is not a section");
  expect_error([&] { read_recipe(folder / "none.toml", {}); }, "none.toml");
}

TEST(Recipe, ModesOfValidation) {
  EXPECT_EQ(parse_validation_mode("full", {}).mode, TrainingMode::kFull);
  EXPECT_EQ(parse_validation_mode("gists", {}).mode, TrainingMode::kGists);
  const TrainingAttentionOptions options = parse_validation_mode("ssa:mean:16", {});
  EXPECT_EQ(options.mode, TrainingMode::kUnfold);
  EXPECT_EQ(options.selection.pivot, Pivot::kMean);
  EXPECT_EQ(options.selection.ratio, 16);
  expect_error([] { parse_validation_mode("ssa:1.2.3", {}); }, "validation mode 'ssa:1.2.3'");
  expect_error([] { parse_validation_mode("ssa:0", {}); }, "validation mode 'ssa:0'");
}

TEST(Recipe, ExamplesAreRecipes) {
  const std::filesystem::path examples =
      std::filesystem::path(SSA_GOLDEN_DIR) / "../../examples/recipes";
  int n_read = 0;
  for (const std::filesystem::path& entry : list_folder(examples)) {
    if (entry.extension() == ".toml") {
      EXPECT_NO_THROW(read_recipe(entry, {})) << entry;
      ++n_read;
    }
  }
  EXPECT_GE(n_read, 3);
}

}  // namespace
}  // namespace ssa
