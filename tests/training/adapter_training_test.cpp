// Runs that train an adapter alone: what they change, how they go on, and what they compute.
#include <gtest/gtest.h>

#include "checkpoint/safetensors.h"
#include "support/compare.h"
#include "support/copy_folder.h"
#include "support/expect_error.h"
#include "tensor/convert.h"
#include "training/run_adapter.h"
#include "training/run_folder.h"
#include "training/trainer.h"
#include "training/training_checkpoint.h"

namespace ssa {
namespace {

/// A run on a base without gists of its own; `more` are overrides.
class AdapterRun : public testing::Test {
 protected:
  void SetUp() override {
    Json config = tiny_config();
    config.erase("gist");
    write_file(folder_ / "model/config.json", dump_json(config, 2));
    folder_.write_dataset();
  }

  Recipe recipe(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"--adapter.rank", "3", "--training.steps", "6"});
    return folder_.recipe(more);
  }
  static TrainingResult run(const Recipe& recipe, const TrainerOptions& options = {}) {
    return train(recipe, options, ProcessGroup::single(torch::kCPU));
  }

  RunFolder folder_;
};

std::map<std::string, Tensor> adapter_of(const std::filesystem::path& folder) {
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, entry] : file.header().tensors) {
    tensors[name] = to_tensor(file.tensor(name)).clone();
  }
  return tensors;
}

TEST_F(AdapterRun, SavesWhatPeftReadsAndNothingElse) {
  const TrainingResult result = run(recipe());
  const AdapterFiles files(result.checkpoint);
  EXPECT_EQ(files.config().rank, 3);
  EXPECT_EQ(files.config().gist_ids, (std::vector<int64_t>{128, 129, 130}));
  EXPECT_FALSE(is_present(result.checkpoint / "model.safetensors"));
  files.check_fits(parse_hf_config(read_json_file(folder_ / "model/config.json"), nullptr));
  const GistSettings gists = adapter_gists(files);
  EXPECT_EQ(gists.chunk, ChunkSizes{4});
  EXPECT_EQ(gists.trained_ratios, (std::vector<ChunkSizes>{{4}, {3, 2}}));
  for (const auto& [name, tensor] : adapter_of(result.checkpoint)) {
    EXPECT_GT(tensor.abs().max().item<double>(), 0) << name;  // B has left zero
  }
}

TEST_F(AdapterRun, TakesTheSameNextStepsWhenItGoesOn) {
  const std::vector<std::string> more = {"--checkpoint.interval",
                                         "3",
                                         "--checkpoint.keep",
                                         "0",
                                         "--objective.route",
                                         "0.3",
                                         "--objective.distill",
                                         "0.2"};
  for (const char* dtype : {"f32", "bf16"}) {
    std::vector<std::string> overrides = more;
    const std::filesystem::path out = folder_ / (std::string("out-") + dtype),
                                again = folder_ / (std::string("again-") + dtype);
    overrides.insert(overrides.end(), {"--model.dtype", dtype, "--job.output", out.string()});
    run(recipe(overrides));
    std::filesystem::create_directories(again);
    copy_folder(out / "step-000003", again / "step-000003");
    overrides.back() = again.string();
    TrainerOptions options;
    options.resume = true;
    run(recipe(overrides), options);
    for (const char* name : {"adapter_model.safetensors", "training.safetensors"}) {
      EXPECT_EQ(read_file(out / "step-000006" / name), read_file(again / "step-000006" / name))
          << dtype << ", " << name;
    }
  }
}

TEST_F(AdapterRun, StartsFromAnotherRunsAdapter) {
  const TrainingResult first = run(recipe());
  TrainerOptions options;
  options.init_from = first.checkpoint;
  const auto next = [&](std::vector<std::string> more) {
    const std::string output = (folder_ / ("next" + more.front())).string();
    more.insert(more.end(), {"--job.output", output});
    return recipe(more);
  };
  // A learning rate of next to nothing leaves it as it was.
  const TrainingResult second = run(next({"--optimizer.lr", "1e-30"}), options);
  const auto before = adapter_of(first.checkpoint), after = adapter_of(second.checkpoint);
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [name, tensor] : before) {
    EXPECT_TRUE(torch::equal(tensor, after.at(name))) << name;
  }
  expect_error(
      [&] {
        run(next({"--adapter.rank", "4"}), options);
      },
      "its adapter has rank 3, and the recipe says 4");
}

TEST_F(AdapterRun, TrainsUnderFullAttentionWithoutGistRows) {
  const TrainingResult result = run(recipe({"--objective.cpt",
                                            "0",
                                            "--objective.lm",
                                            "1",
                                            "--adapter.targets",
                                            "['q_proj', 'down_proj']",
                                            "--training.activation_checkpointing",
                                            "true"}));
  const auto tensors = adapter_of(result.checkpoint);
  EXPECT_EQ(tensors.size(), 2U * 2U * 3U);  // A and B of two layers of three
  for (const auto& [name, tensor] : tensors) {
    EXPECT_GT(tensor.abs().max().item<double>(), 0) << name;
  }
  EXPECT_EQ(find_key(AdapterFiles(result.checkpoint).gist_config(), "gist"), nullptr);
}

TEST_F(AdapterRun, ValidatesTheBaseBesideIt) {
  const std::vector<std::string> more = {"--validation.sources",
                                         "['" + (folder_ / "dataset").string() + "']",
                                         "--validation.interval",
                                         "3",
                                         "--validation.rows",
                                         "2",
                                         "--validation.modes",
                                         "['base', 'full']"};
  std::vector<std::string> lines;
  TrainerOptions options;
  options.on_line = [&](const std::string& line) {
    if (line.find("base") != std::string::npos) {
      lines.push_back(line.substr(line.find("base"), 16));
    }
  };
  run(recipe(more), options);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0], lines[1]);  // steps do not move it
}

TEST_F(AdapterRun, RefusesABaseWithGists) {
  write_file(folder_ / "model/config.json", dump_json(tiny_config(), 2));
  expect_error([&] { run(recipe()); }, "has gist tokens already; set adapter.gist_rows = false");
  run(recipe({"--adapter.gist_rows", "false"}));
}

/// Letters in two layouts, their gists the rows behind a vocabulary of 128.
Batch letters_with_gists(const BatchOptions& options) {
  std::mt19937 random(3);
  const TrainingRow row{
      {random_sequence({{4}, 41, 7}, random), random_sequence({{3, 2}, 30, 9}, random)}};
  Batch batch = make_batch({&row, 1}, options);
  for (const auto& [letter, id] : {std::pair('.', 128), {':', 129}, {'*', 130}}) {
    batch.ids = torch::where(batch.ids == letter, torch::full_like(batch.ids, id), batch.ids);
  }
  return batch;
}

/// A base, an adapter on it with numbers in B, and the model that both come to with weights of its
/// own.
struct SpelledOut {
  explicit SpelledOut(bool tied) {
    Json json = tiny_config(tied);
    json.erase("gist");
    base = tiny_like(json);
    config.rank = 3;
    config.alpha = 5;
    config.gist_ids = {128, 129, 130};
    config.has_head_rows = !tied;
    adapter = Adapter::make(*base, config, 128, 7, torch::kFloat64);
    torch::manual_seed(2);
    for (auto [name, tensor] : adapter->parameters()) {
      tensor.add_(torch::randn_like(tensor) * 0.3);
      tensor.set_requires_grad(true);
    }
    json["vocab_size"] = 131;
    merged = tiny_like(json);
    write_merged();
  }

  static std::shared_ptr<CausalLM> tiny_like(const Json& json) {
    const auto model =
        make_random_model(parse_hf_config(json, nullptr), 4, {.dtype = torch::kFloat64});
    const torch::NoGradGuard no_grad;
    for (Tensor& parameter : model->parameters()) {
      parameter.mul_(parameter.dim() == 1 ? 1 : 12);
    }
    return model;
  }

  /// Parameters of `merged` under the names of the layers they belong to.
  void write_merged() {
    const torch::NoGradGuard no_grad;
    std::map<std::string, Tensor> parts;
    for (const NamedTensor& each : adapter->tensors(torch::kFloat64)) {
      parts[each.name] = to_tensor(each.tensor).clone();
    }
    const auto own = base->named_parameters();
    for (auto& parameter : merged->named_parameters()) {
      const std::string name = parameter.key(), layer = name.substr(0, name.rfind('.'));
      Tensor value = own[name].clone();
      if (const auto rows = parts.find(adapter_rows_name(layer)); rows != parts.end()) {
        value = torch::cat({value, rows->second});
      } else if (const auto a = parts.find(adapter_a_name(layer)); a != parts.end()) {
        value += torch::mm(parts.at(adapter_b_name(layer)), a->second) * config.scale();
      }
      parameter.value().copy_(value);
      parameter.value().set_requires_grad(true);
    }
  }

  AdapterConfig config;
  std::shared_ptr<CausalLM> base, merged;
  std::shared_ptr<Adapter> adapter;
};

class AdapterGradients : public testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(AdapterGradients, AreThoseOfTheModelWithTheUpdateInItsWeights) {
  const auto [tied, recomputes] = GetParam();
  SpelledOut models(tied);
  ObjectiveOptions options;
  options.weights = {.lm = 0.5, .cpt = 1, .sft = 0.4, .route = 0.3};
  options.rule = {kTinySink, 1};
  options.selection.ratio = 6;
  options.route_queries = 4;
  options.recompute_layers = recomputes;
  const Batch batch = letters_with_gists({options.rule, options.route_queries});
  Objective adapted(*models.base, nullptr, options, models.adapter->power());
  Objective plain(*models.merged, nullptr, options);
  const Losses found = adapted.run(batch, count(batch)), expected = plain.run(batch, count(batch));
  EXPECT_NEAR(found.total.item<double>(), expected.total.item<double>(), 1e-12);

  std::map<std::string, Tensor> gradients;  // of the adapter, under peft's names
  for (auto [name, tensor] : models.adapter->parameters()) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
    const torch::NoGradGuard no_grad;
    tensor.copy_(tensor.grad());
  }
  std::map<std::string, Tensor> values;
  for (const NamedTensor& each : SpelledOut(tied).adapter->tensors(torch::kFloat64)) {
    values[each.name] = to_tensor(each.tensor).clone();
  }
  for (const NamedTensor& each : models.adapter->tensors(torch::kFloat64)) {
    gradients[each.name] = to_tensor(each.tensor).clone();
  }
  for (const auto& parameter : models.merged->named_parameters()) {
    const std::string name = parameter.key(), layer = name.substr(0, name.rfind('.'));
    const Tensor dw = parameter.value().grad();
    if (const auto rows = gradients.find(adapter_rows_name(layer)); rows != gradients.end()) {
      EXPECT_TRUE(all_close(rows->second, dw.slice(0, 128), 1e-10)) << name;
    } else if (const auto a = gradients.find(adapter_a_name(layer)); a != gradients.end()) {
      const double scale = models.config.scale();
      const Tensor da = torch::mm(values.at(adapter_b_name(layer)).t(), dw) * scale,
                   db = torch::mm(dw, values.at(adapter_a_name(layer)).t()) * scale;
      EXPECT_TRUE(all_close(a->second, da, 1e-10)) << name;
      EXPECT_TRUE(all_close(gradients.at(adapter_b_name(layer)), db, 1e-10)) << name;
    }
  }
  for (const auto& parameter : models.base->named_parameters()) {
    EXPECT_FALSE(parameter.value().grad().defined()) << parameter.key();
  }
}

INSTANTIATE_TEST_SUITE_P(TiedAndRecomputed,
                         AdapterGradients,
                         testing::Combine(testing::Bool(), testing::Bool()));

TEST(AdapterTeacher, IsTheBase) {
  SpelledOut models(/*tied=*/true), same(/*tied=*/true);
  ObjectiveOptions options;
  options.weights = {.distill = 1};
  options.rule = {kTinySink, 1};
  const Batch batch = letters_with_gists({options.rule});
  Objective own(*models.base, nullptr, options, models.adapter->power());
  same.adapter->power()->on = false;
  Objective copy(*models.base, same.base, options, models.adapter->power());
  EXPECT_EQ(own.run(batch, count(batch)).distill.item<double>(),
            copy.run(batch, count(batch)).distill.item<double>());
  EXPECT_TRUE(models.adapter->power()->on);
}

}  // namespace
}  // namespace ssa
