// Whole runs of a tiny model: checkpoints, going on from them, and what stops a run.
#include "training/trainer.h"

#include <gtest/gtest.h>

#include "support/copy_folder.h"
#include "support/expect_error.h"
#include "training/run_folder.h"
#include "training/training_checkpoint.h"

namespace ssa {
namespace {

TrainingResult run(const Recipe& recipe, const TrainerOptions& options = {}) {
  return train(recipe, options, ProcessGroup::single(torch::kCPU));
}

TrainerOptions resuming(std::function<void(const std::string& line)> on_line = {}) {
  TrainerOptions options;
  options.resume = true;
  options.on_line = std::move(on_line);
  return options;
}

std::vector<std::string> list(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const std::filesystem::path& entry : list_folder(folder)) {
    names.push_back(entry.filename().string());
  }
  return names;
}

/// log.csv: {step, loss as text}.
std::vector<std::pair<std::string, std::string>> logged(const std::filesystem::path& output) {
  std::vector<std::pair<std::string, std::string>> rows;
  std::istringstream lines(read_file(output / "log.csv"));
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(','), second = line.find(',', first + 1);
    rows.emplace_back(line.substr(0, first), line.substr(first + 1, second - first - 1));
  }
  rows.erase(rows.begin());
  return rows;
}

/// Everything but the times in state files is the same, byte for byte.
void expect_same_checkpoint(const std::filesystem::path& a, const std::filesystem::path& b) {
  for (const char* name : {"model.safetensors", "training.safetensors", "config.json"}) {
    EXPECT_EQ(read_file(a / name), read_file(b / name)) << name;
  }
}

class ResumedRun : public testing::TestWithParam<const char*> {};

TEST_P(ResumedRun, TakesTheSameNextTenSteps) {
  const RunFolder folder;
  folder.write_dataset();
  std::vector<std::string> overrides = {"--model.dtype",
                                        GetParam(),
                                        "--training.steps",
                                        "14",
                                        "--checkpoint.interval",
                                        "4",
                                        "--checkpoint.keep",
                                        "0",
                                        "--objective.route",
                                        "0.3",
                                        "--objective.sft",
                                        "0.5",
                                        "--objective.distill",
                                        "0.2",
                                        "--lr_scheduler.warmup_steps",
                                        "3"};
  run(folder.recipe(overrides));
  std::filesystem::create_directories(folder / "again");
  copy_folder(folder / "out/step-000004", folder / "again/step-000004");
  overrides.insert(overrides.end(), {"--job.output", (folder / "again").string()});
  std::vector<std::string> lines;
  const TrainingResult result = run(
      folder.recipe(overrides), resuming([&](const std::string& line) { lines.push_back(line); }));
  EXPECT_EQ(result.steps, 14);
  EXPECT_EQ(lines.front(), "resumed from " + (folder / "again/step-000004").string());
  expect_same_checkpoint(folder / "out/step-000014", folder / "again/step-000014");
  const auto whole = logged(folder / "out"), rest = logged(folder / "again");
  ASSERT_EQ(whole.size(), 14U);
  EXPECT_EQ(rest, decltype(rest)(whole.begin() + 4, whole.end()));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, ResumedRun, testing::Values("f32", "bf16"));

TEST(Trainer, LearnsAndKeepsTheNewestCheckpoints) {
  const RunFolder folder;
  folder.write_dataset();
  const TrainingResult result = run(folder.recipe(
      {"--training.steps", "12", "--checkpoint.interval", "3", "--checkpoint.keep", "2"}));
  EXPECT_EQ(result.checkpoint, folder / "out/step-000012");
  EXPECT_EQ(list(folder / "out"),
            (std::vector<std::string>{"log.csv", "step-000009", "step-000012"}));
  const auto rows = logged(folder / "out");
  EXPECT_LT(std::stod(rows.back().second),
            std::stod(rows.front().second) - 1);  // from ln(128) towards ln(4)
  EXPECT_NO_THROW(open_checkpoint(result.checkpoint));
}

TEST(Trainer, TakesWholeCheckpointsAlone) {
  const RunFolder folder;
  folder.write_dataset();
  EXPECT_FALSE(newest_training_checkpoint(folder / "out"));
  run(folder.recipe({"--checkpoint.interval", "2"}));
  // What interrupted writes leave, and other folders.
  copy_folder(folder / "out/step-000004", folder / "out/.building-step-000009");
  copy_folder(folder / "out/step-000004", folder / "out/.removing-step-000001");
  std::filesystem::create_directories(folder / "out/step-000007");
  std::filesystem::create_directories(folder / "out/step-9x");
  EXPECT_EQ(newest_training_checkpoint(folder / "out"), folder / "out/step-000004");
  const TrainingResult result =
      run(folder.recipe({"--training.steps", "9", "--lr_scheduler.decay", "constant"}), resuming());
  EXPECT_EQ(result.checkpoint, folder / "out/step-000009");
  EXPECT_EQ(list(folder / "out"),
            (std::vector<std::string>{
                "log.csv", "step-000004", "step-000007", "step-000009", "step-9x"}));
}

TEST(Trainer, DoesNotMixRuns) {
  const RunFolder folder;
  folder.write_dataset();
  run(folder.recipe());
  expect_error([&] { run(folder.recipe()); }, "holds checkpoints of an earlier run");
}

TEST(Trainer, StopsWhenAsked) {
  const RunFolder folder;
  folder.write_dataset();
  std::atomic<bool> stop = false;
  TrainerOptions options;
  options.stop = &stop;
  options.on_step = [&](int64_t step, int64_t) { stop = step == 3; };
  const TrainingResult result = run(folder.recipe({"--training.steps", "50"}), options);
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.steps, 4);
  EXPECT_EQ(newest_training_checkpoint(folder / "out"), folder / "out/step-000004");
}

TEST(Trainer, StartsFromOtherWeightsWithAFreshOptimiser) {
  const RunFolder folder;
  folder.write_dataset();
  run(folder.recipe());
  TrainerOptions options;
  options.init_from = folder / "out/step-000004";
  run(folder.recipe({"--job.output",
                     (folder / "second").string(),
                     "--training.steps",
                     "1",
                     "--optimizer.lr",
                     "1e-30"}),
      options);
  EXPECT_EQ(read_file(folder / "second/step-000001/model.safetensors"),
            read_file(folder / "out/step-000004/model.safetensors"));
}

TEST(Trainer, ValidatesEveryMode) {
  const RunFolder folder;
  folder.write_dataset();
  run(folder.recipe({},
                    "[validation]\nsources = ['" + (folder / "dataset").string() +
                        "']\ninterval = 2\nrows = 3\nmodes = ['full', 'gists', 'ssa', "
                        "'ssa:mean:8', 'ssa:recent']\n"));
  const std::string text = read_file(folder / "out/validation.csv");
  EXPECT_TRUE(text.starts_with("step,full,gists,ssa,ssa:mean:8,ssa:recent\n2,")) << text;
  EXPECT_NE(text.find("\n4,"), std::string::npos);
  EXPECT_EQ(text.find("nan"), std::string::npos);
}

TEST(Trainer, SaysWhereTheLossStopsBeingANumber) {
  const RunFolder folder;
  folder.write_dataset();
  expect_error(
      [&] {
        run(folder.recipe({"--optimizer.lr", "1e30", "--training.steps", "9"}));
      },
      "step 2: the loss is ");
  expect_error(
      [&] {
        run(folder.recipe(
            {"--optimizer.lr", "1e30", "--training.steps", "9", "--checkpoint.interval", "1"}));
      },
      "the last good checkpoint is " + (folder / "out/step-000001").string());
}

TEST(Trainer, SaysWhereTheLossJumps) {
  const RunFolder folder;
  folder.write_dataset();
  expect_error(
      [&] {
        run(folder.recipe({"--training.steps",
                           "30",
                           "--training.max_loss_growth",
                           "0.5",
                           "--optimizer.lr",
                           "1e-9"}));
      },
      "step 21: the loss jumped from ");
}

TEST(Trainer, RefusesWhatDoesNotFit) {
  const RunFolder folder;
  folder.write_dataset();
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--data.seq_len", "513"}, "data.seq_len 513 is beyond the model's 512 positions"},
      {{"--model.dtype", "f16"},
       "recipe: model.dtype 'f16' is not known; known are bf16, f32, f64"},
      {{"--model.device", "tpu"},
       "recipe: model.device 'tpu' is not known; known are auto, cpu, cuda"},
      {{"--validation.interval", "2"}, "validation.interval is set, and validation.sources is not"},
      {{"--data.sources", "['" + (folder / "nothing").string() + "']"}, "nothing"},
      {{"--model.path", (folder / "nothing").string()}, "nothing"},
      {{"--gist.word_aware", "true"}, "word"},
  };
  for (const auto& [overrides, message] : cases) {
    SCOPED_TRACE(overrides[0] + " " + overrides[1]);
    expect_error(
        [&] {
          const Recipe recipe = folder.recipe(overrides);
          training_device(recipe.model.device);
          run(recipe);
        },
        message);
  }
  expect_error([&] { run(folder.recipe(), resuming()); },
               "holds no whole checkpoint to resume from");
  Json config = tiny_config();
  config.erase("gist");
  write_file(folder / "model/config.json", dump_json(config));
  expect_error([&] { run(folder.recipe()); }, "has no gist tokens; 'ssa gistify' adds them");
  EXPECT_NO_THROW(run(folder.recipe({"--objective.cpt", "0", "--objective.lm", "1"})));
}

TEST(Trainer, RefusesAnotherModelsState) {
  const RunFolder folder;
  folder.write_dataset();
  run(folder.recipe());
  expect_error(
      [&] {
        run(folder.recipe({"--model.dtype", "f64", "--training.steps", "9"}), resuming());
      },
      "does not fit the model");
}

}  // namespace
}  // namespace ssa
