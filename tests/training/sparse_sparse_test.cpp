// Objective sparse-sparse against the same written out with dense masks, and gradients against
// differences of that with what is held fixed held fixed.
#include "training/sparse_sparse.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include <algorithm>

#include "attention/attention.h"
#include "selection/block_selection.h"
#include "support/copy_folder.h"
#include "support/expect_error.h"
#include "training/objective.h"
#include "training/run_folder.h"
#include "training/slope.h"
#include "training/tiny_training.h"
#include "training/trainer.h"
#include "training/training_checkpoint.h"

namespace ssa {
namespace {

constexpr BlockOptions kBlocks = {4, 3};

std::shared_ptr<CausalLM> gated_model(uint64_t seed) {
  Json config = tiny_config();
  config["model_type"] = "llama-nsa";
  config["architectures"] = {"LlamaNSAForCausalLM"};
  const auto model =
      make_random_model(parse_hf_config(config, nullptr), seed, {.dtype = torch::kFloat64});
  const torch::NoGradGuard no_grad;
  for (Tensor& parameter : model->parameters()) {
    if (parameter.dim() > 1) {
      parameter.mul_(12);
    }
    parameter.set_requires_grad(true);
  }
  return model;
}

struct SparseCase {
  std::string name;
  SparseSparseOptions options;
  bool gated = true;

  friend void PrintTo(const SparseCase& c, std::ostream* out) { *out << c.name; }
};

SparseSparseOptions sparse_options(SparseVariant variant,
                                   Alignment alignment = Alignment::kBoth,
                                   StreamDraw stream = StreamDraw::kBatch,
                                   double weight = 10) {
  SparseSparseOptions options;
  options.blocks = kBlocks;
  options.variant = variant;
  options.alignment = alignment;
  options.stream = stream;
  options.alignment_weight = weight;
  options.window = 6;
  return options;
}

const std::vector<SparseCase> kSparseCases = {
    {"ssa", sparse_options(SparseVariant::kSsa)},
    {"ssa_without_gates", sparse_options(SparseVariant::kSsa), false},
    {"full_learns", sparse_options(SparseVariant::kSsa, Alignment::kFull)},
    {"sparse_learns", sparse_options(SparseVariant::kSsa, Alignment::kSparse)},
    {"no_alignment", sparse_options(SparseVariant::kSsa, Alignment::kNone)},
    {"stream_by_layer",
     sparse_options(SparseVariant::kSsa, Alignment::kBoth, StreamDraw::kLayer, 3)},
    {"fullattn", sparse_options(SparseVariant::kFullAttention)},
    {"moba", sparse_options(SparseVariant::kMoba)},
    {"moba_without_gates", sparse_options(SparseVariant::kMoba), false},
    {"nsa", sparse_options(SparseVariant::kNsa)},
};

/// Two documents of one length, a shorter one, and one shorter than a block.
TrainingRow documents() {
  std::mt19937 random(4);
  const TrainingSequence first = random_sequence({{4}, 0, 37}, random);
  return {{first,
           random_sequence({{4}, 0, 18}, random),
           reworded(first),
           random_sequence({{4}, 0, 3}, random)}};
}

/// What is held fixed: each layer's chosen blocks and outputs, as they are when first seen.
struct Held {
  std::vector<Tensor> masks, full, sparse;  // by layer
};

/// One sequence by dense products in float64: gated outputs of both streams, the one that feeds.
class DenseStreams : public AttentionContext {
 public:
  DenseStreams(const SparseSparseOptions& options, const std::vector<Stream>& streams, Held& held)
      : options_(options), streams_(streams), held_(held), holds_(held.masks.empty()) {}

  Tensor attend(int64_t layer, const AttentionInput& in) override {
    return attend_gated(layer, in, torch::ones({in.q.size(0), in.q.size(1), 3}, torch::kFloat64));
  }

  Tensor attend_gated(int64_t layer, const AttentionInput& in, const Tensor& gates) override {
    const auto index = static_cast<size_t>(layer);
    const int64_t n = in.q.size(0), group = in.q.size(1) / in.k.size(1);
    if (holds_) {
      const Tensor means =
          block_means(in.k.transpose(0, 1).contiguous(), options_.blocks.block_size);
      const Tensor blocks = select_blocks(in.q, means, 0, in.scale, options_.blocks);
      held_.masks.push_back(
          block_mask(blocks, 0, n, options_.blocks.block_size).repeat_interleave(group, 0));
    }
    const Tensor causal = torch::ones({1, n, n}, torch::kBool).tril();
    const Tensor full = softmax_over(in, causal) * gates.slice(2, 1, 2),
                 chosen = softmax_over(in, held_.masks[index]) * gates.slice(2, 1, 2);
    if (options_.variant == SparseVariant::kNsa) {
      const Tensor window = causal.logical_and(causal.tril(-options_.window).logical_not());
      return chosen + softmax_over(in, window) * gates.slice(2, 2, 3) +
             compressed(in) * gates.slice(2, 0, 1);
    }
    if (holds_) {
      held_.full.push_back(full);
      held_.sparse.push_back(chosen);
    }
    if (options_.aligns()) {
      const bool to_full = options_.alignment != Alignment::kSparse,
                 to_sparse = options_.alignment != Alignment::kFull;
      alignment += to_full ? distance(full, held_.sparse[index]) : 0.0;
      alignment += to_sparse ? distance(held_.full[index], chosen) : 0.0;
    }
    return streams_[index] == Stream::kFull ? full : chosen;
  }

  double alignment = 0;  // sum over elements and layers

 private:
  static double distance(const Tensor& a, const Tensor& b) {
    const Tensor apart = (a - b).abs();
    return torch::where(apart < 1, apart.square() / 2, apart - 0.5).sum().item<double>();
  }

  static Tensor softmax_over(const AttentionInput& in, const Tensor& mask) {
    const int64_t group = in.q.size(1) / in.k.size(1);
    const auto heads = [](const Tensor& x, int64_t times) {
      return x.transpose(0, 1).repeat_interleave(times, 0);
    };
    const Tensor scores =
        torch::matmul(heads(in.q, 1), heads(in.k, group).transpose(1, 2)) * in.scale;
    const Tensor weights = scores.masked_fill(mask.logical_not(), -INFINITY).softmax(-1);
    return torch::matmul(weights, heads(in.v, group)).transpose(0, 1);
  }

  Tensor compressed(const AttentionInput& in) const {
    const int64_t size = options_.blocks.block_size, group = in.q.size(1) / in.k.size(1);
    Tensor out = torch::zeros_like(in.q);
    for (int64_t t = size - 1; t < in.q.size(0); ++t) {
      const int64_t n_blocks = (t + 1) / size;
      const auto means = [&](const Tensor& x) {
        return x.narrow(0, 0, n_blocks * size).unflatten(0, {n_blocks, size}).mean(1);
      };
      const Tensor k = means(in.k).repeat_interleave(group, 1),
                   v = means(in.v).repeat_interleave(group, 1);  // [n_blocks, n_heads, d]
      const Tensor weights = ((k * in.q[t]).sum(-1) * in.scale).softmax(0);
      out[t] = (weights.unsqueeze(-1) * v).sum(0);
    }
    return out;
  }

  const SparseSparseOptions& options_;
  const std::vector<Stream>& streams_;
  Held& held_;
  bool holds_;
};

struct Terms {
  double ce = 0, alignment = 0, total = 0;
};

/// The objective over one row, what it does not differentiate held where it was at first.
class DenseSparseSparse {
 public:
  DenseSparseSparse(CausalLM& model, const TrainingRow& row, const SparseSparseOptions& options)
      : model_(model),
        row_(row),
        options_(options),
        streams_(draw_streams(options, 0, model.config().n_layers)),
        held_(row.sequences.size()) {}

  Terms operator()() {
    const torch::NoGradGuard no_grad;
    Terms terms;
    double n_targets = 0, n_tokens = 0;
    for (size_t i = 0; i < row_.sequences.size(); ++i) {
      const TrainingSequence& sequence = row_.sequences[i];
      const auto ids = torch::tensor(
          std::vector<int64_t>(sequence.layout.ids().begin(), sequence.layout.ids().end()));
      DenseStreams context(options_, streams_, held_[i]);
      const Tensor hidden = model_.forward(ids, torch::arange(ids.size(0)), context);
      const Tensor log_p = model_.logits(hidden).log_softmax(-1);
      for (int64_t t = 0; t < ids.size(0); ++t) {
        const int64_t target = sequence.targets[static_cast<size_t>(t)];
        if (target != kNoTarget) {
          terms.ce -= log_p[t][target].item<double>();
          ++n_targets;
        }
      }
      n_tokens += static_cast<double>(ids.size(0));
      terms.alignment += context.alignment;
    }
    const ModelConfig& config = model_.config();
    terms.ce /= n_targets;
    terms.alignment /=
        n_tokens * static_cast<double>(config.n_heads * config.head_dim * config.n_layers);
    terms.total = terms.ce + options_.alignment_weight * terms.alignment;
    return terms;
  }

 private:
  CausalLM& model_;
  const TrainingRow& row_;
  const SparseSparseOptions& options_;
  std::vector<Stream> streams_;
  std::vector<Held> held_;
};

ObjectiveOptions objective_of(const SparseCase& c) {
  ObjectiveOptions options;
  options.weights.sparse_sparse = 1;
  options.sparse = c.options;
  return options;
}

std::shared_ptr<CausalLM> model_of(const SparseCase& c) {
  return c.gated ? gated_model(3) : tiny_model(3);
}

Losses run(CausalLM& model, const TrainingRow& row, const ObjectiveOptions& options) {
  model.zero_grad();
  const Batch batch = make_batch({&row, 1}, {options.rule});
  return Objective(model, nullptr, options).run(batch, count(batch));
}

Tensor gradient_of(const Tensor& parameter) {
  return parameter.grad().defined() ? parameter.grad() : torch::zeros_like(parameter);
}

class SparseSparse : public testing::TestWithParam<SparseCase> {
 protected:
  void SetUp() override { torch::set_num_threads(1); }  // such small matrices are quicker on one
};

TEST_P(SparseSparse, LossesAndGradientsAreThoseWrittenOut) {
  const SparseCase& c = GetParam();
  const auto model = model_of(c);
  const TrainingRow row = documents();
  DenseSparseSparse dense(*model, row, c.options);
  const Terms expected = dense();
  const Losses losses = run(*model, row, objective_of(c));
  EXPECT_NEAR(losses.ce.item<double>(), expected.ce, 1e-11);
  EXPECT_NEAR(losses.total.item<double>(), expected.total, 1e-11);
  EXPECT_EQ(losses.alignment.defined(), c.options.aligns());
  if (c.options.aligns()) {
    EXPECT_NEAR(losses.alignment.item<double>(), expected.alignment, 1e-12);
    EXPECT_GT(expected.alignment, 1e-3);  // the streams are apart
  }
  torch::manual_seed(1);
  for (const auto& parameter : model->named_parameters()) {
    expect_slope(
        parameter.key(), parameter.value(), gradient_of(parameter.value()), 1e-4, 2e-9, [&] {
          return dense().total;
        });
  }
}

TEST_P(SparseSparse, LayersComputedAgainGiveTheSame) {
  const SparseCase& c = GetParam();
  const auto model = model_of(c);
  ObjectiveOptions options = objective_of(c);
  const Losses plain = run(*model, documents(), options);
  std::vector<Tensor> gradients;
  for (const Tensor& parameter : model->parameters()) {
    gradients.push_back(gradient_of(parameter).clone());
  }
  options.recompute_layers = true;
  const Losses again = run(*model, documents(), options);
  EXPECT_NEAR(again.total.item<double>(), plain.total.item<double>(), 1e-13);
  EXPECT_EQ(again.kept.defined(), c.options.aligns());
  if (plain.kept.defined()) {
    EXPECT_NEAR(again.kept.item<double>(), plain.kept.item<double>(), 1e-13);
  }
  size_t i = 0;
  for (const Tensor& parameter : model->parameters()) {
    EXPECT_LT((gradient_of(parameter) - gradients[i++]).abs().max().item<double>(), 1e-13);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, SparseSparse, testing::ValuesIn(kSparseCases), [](const auto& c) {
  return c.param.name;
});

TEST(SparseSparseObjective, AddsUpOverMicroBatches) {
  const SparseCase c = {"", sparse_options(SparseVariant::kSsa)};
  const auto model = model_of(c);
  const ObjectiveOptions options = objective_of(c);
  const TrainingRow whole = documents();
  const TrainingRow parts[] = {{{whole.sequences[0], whole.sequences[3]}},
                               {{whole.sequences[1], whole.sequences[2]}}};
  const Losses at_once = run(*model, whole, options);
  const Tensor wanted = gradient_of(model->parameters()[1]).clone();
  model->zero_grad();
  const BatchCounts counts = count(make_batch({&whole, 1}, {}));
  Objective objective(*model, nullptr, options);
  double total = 0, kept = 0, targets = 0;
  for (const TrainingRow& part : parts) {
    const Losses losses = objective.run(make_batch({&part, 1}, {}), counts);
    total += losses.total.item<double>();
    kept += losses.kept.item<double>();
    targets += losses.full_targets + losses.sparse_targets;
  }
  EXPECT_NEAR(total, at_once.total.item<double>(), 1e-12);
  EXPECT_NEAR(targets, 1, 1e-12);
  EXPECT_GT(kept, 0.0);
  EXPECT_LE(kept, 1.0);
  EXPECT_LT((gradient_of(model->parameters()[1]) - wanted).abs().max().item<double>(), 1e-12);
}

TEST(SparseSparseObjective, EvaluatesBothModesAndBudgets) {
  const SparseCase c = {"", sparse_options(SparseVariant::kMoba)};
  const auto model = model_of(c);
  const TrainingRow row = documents();
  const Batch batch = make_batch({&row, 1}, {});
  Objective objective(*model, nullptr, objective_of(c));
  const auto loss = [&](const std::string& mode) {
    const Tensor found = objective.evaluate(batch, parse_validation_mode(mode, {}));
    return (found[0] / found[1]).item<double>();
  };
  EXPECT_NEAR(loss("sparse"), run(*model, row, objective_of(c)).ce.item<double>(), 1e-11);
  EXPECT_NEAR(loss("sparse:64"), loss("full"), 1e-11);  // all blocks
  EXPECT_GT(std::abs(loss("sparse") - loss("full")), 1e-4);
  EXPECT_EQ(loss("sparse:3"), loss("sparse"));
}

TEST(SparseSparseObjective, DrawsStreamsFromSeedAndRowAlone) {
  SparseSparseOptions options = sparse_options(SparseVariant::kSsa);
  int n_full = 0;
  for (uint64_t row = 0; row < 2000; ++row) {
    const std::vector<Stream> streams = draw_streams(options, row, 3);
    EXPECT_EQ(streams, draw_streams(options, row, 3));
    EXPECT_EQ(streams, std::vector<Stream>(3, streams[0]));
    n_full += streams[0] == Stream::kFull;
  }
  EXPECT_NEAR(n_full, 1000, 120);
  options.stream = StreamDraw::kLayer;
  int n_mixed = 0;
  for (uint64_t row = 0; row < 2000; ++row) {
    const std::vector<Stream> streams = draw_streams(options, row, 2);
    n_mixed += streams[0] != streams[1];
  }
  EXPECT_NEAR(n_mixed, 1000, 120);
}

TEST(SparseSparseObjective, RefusesNsaWithoutGates) {
  const SparseCase c = {"", sparse_options(SparseVariant::kNsa), false};
  const auto model = model_of(c);
  expect_error([&] { run(*model, documents(), objective_of(c)); },
               "sparse.variant nsa weighs three branches by gates");
}

std::string recipe_text(const RunFolder& folder) {
  return "[job]\noutput = '" + (folder / "out").string() + "'\nseed = 3\n[model]\npath = '" +
         (folder / "model").string() +
         "'\ninit = 'random'\ndtype = 'f32'\ndevice = 'cpu'\n[data]\nsources = ['" +
         (folder / "dataset").string() +
         "']\nseq_len = 48\n[objective]\nsparse_sparse = 1.0\n[sparse]\nblock_size = 4\nblocks = "
         "2\n[optimizer]\nlr = 1e-2\n[training]\nsteps = 6\nglobal_batch_size = "
         "4\nmicro_batch_size = 1\n[checkpoint]\ninterval = 3\nkeep = 0\n[metrics]\nlog_interval = "
         "1\ntensorboard = false\n[validation]\nsources = ['" +
         (folder / "dataset").string() +
         "']\ninterval = 6\nrows = 2\nmodes = ['full', 'sparse', "
         "'sparse:9']\n";
}

void write_gated_config(const RunFolder& folder) {
  Json config = tiny_config();
  config["model_type"] = "llama-nsa";
  config["architectures"] = {"LlamaNSAForCausalLM"};
  config["inference_mode"] = "sparse";
  write_file(folder / "model/config.json", dump_json(config));
}

TEST(SparseSparseRun, GoesOnWithTheSameStreamsAndSavesItsSettings) {
  const RunFolder folder;
  folder.write_dataset();
  write_gated_config(folder);
  const auto run_it = [&](const std::vector<std::string>& overrides, bool resume) {
    TrainerOptions options;
    options.resume = resume;
    return train(folder.read_text(recipe_text(folder), overrides),
                 options,
                 ProcessGroup::single(torch::kCPU));
  };
  run_it({}, false);
  std::filesystem::create_directories(folder / "again");
  copy_folder(folder / "out/step-000003", folder / "again/step-000003");
  run_it({"--job.output", (folder / "again").string()}, true);
  EXPECT_EQ(read_file(folder / "out/step-000006/model.safetensors"),
            read_file(folder / "again/step-000006/model.safetensors"));
  const ModelConfig config = open_checkpoint(folder / "out/step-000006")->config();
  EXPECT_EQ(config.architecture, Architecture::kLlamaNsa);
  EXPECT_EQ(config.nsa_block_size, 4);
  EXPECT_EQ(config.nsa_block_counts, 2);
  EXPECT_EQ(config.nsa_window_size, 0);
  EXPECT_EQ(config.nsa_inference_mode, "sparse");
  const std::string log = read_file(folder / "out/log.csv");
  EXPECT_TRUE(log.starts_with(
      "step,loss,lm,cpt,sft,distill,route,align,ce,full,sparse,alignment,kept,grad_norm"))
      << log;
  EXPECT_TRUE(
      read_file(folder / "out/validation.csv").starts_with("step,full,sparse,sparse:9\n6,"));
}

TEST(SparseSparseRun, VariantsSayWhatTheyAre) {
  for (const auto& [variant, window, mode] :
       {std::tuple{"nsa", 128, "sparse"}, {"fullattn", 0, "full"}, {"moba", 0, "sparse"}}) {
    const RunFolder folder;
    folder.write_dataset();
    write_gated_config(folder);
    train(folder.read_text(
              recipe_text(folder),
              {"--sparse.variant", variant, "--training.steps", "1", "--checkpoint.interval", "0"}),
          {},
          ProcessGroup::single(torch::kCPU));
    const ModelConfig config = open_checkpoint(folder / "out/step-000001")->config();
    EXPECT_EQ(config.nsa_window_size, window) << variant;
    EXPECT_EQ(config.nsa_inference_mode, mode) << variant;
  }
}

TEST(SparseSparseRun, RefusesWhatCannotBe) {
  const RunFolder folder;
  folder.write_dataset();
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--sparse.block_size", "0"}, "block size 0"},
      {{"--sparse.blocks", "-2"}, "number of blocks -2"},
      {{"--sparse.rule", "fast"}, "sparse.rule 'fast' is not known; known are exact, published"},
      {{"--sparse.variant", "ss"}, "sparse.variant 'ss' is not known; known are ssa"},
      {{"--sparse.alignment", "two"}, "sparse.alignment 'two' is not known"},
      {{"--sparse.stream", "step"}, "sparse.stream 'step' is not known; known are batch, layer"},
      {{"--sparse.alignment_weight", "-1"}, "sparse.alignment_weight must not be below 0, not -1"},
      {{"--sparse.window", "0"}, "sparse.window must be above 0, not 0"},
      {{"--sparse.width", "1"}, "sparse.width is not known"},
      {{"--validation.modes", "['sparse:none']"}, "its blocks are not a number above 0"},
      {{"--sparse.variant", "nsa"}, "it needs a llama-nsa model, not llama"},
  };
  for (const auto& [overrides, message] : cases) {
    SCOPED_TRACE(overrides[0] + " " + overrides[1]);
    expect_error(
        [&] {
          train(folder.read_text(recipe_text(folder), overrides),
                {},
                ProcessGroup::single(torch::kCPU));
        },
        message);
  }
}

}  // namespace
}  // namespace ssa
