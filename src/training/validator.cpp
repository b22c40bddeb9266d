#include "training/validator.h"

#include <algorithm>
#include <cmath>

#include "distributed/sum_numbers.h"

namespace ssa {
namespace {

DataOptions held_out(const Recipe& recipe) {
  DataOptions options = recipe.data;
  options.sources = recipe.validation.sources;
  options.seed = 0;
  options.suffix_min = options.suffix_max;  // the same suffixes whatever the run
  options.chunks = {recipe.data.chunks.front()};
  return options;
}

}  // namespace

Validator::Validator(const Recipe& recipe,
                     const DataVocabulary& words,
                     Objective& objective,
                     std::shared_ptr<LowRankSwitch> adapter,
                     ProcessGroup& group)
    : recipe_(recipe),
      data_(held_out(recipe), words),
      objective_(objective),
      adapter_(std::move(adapter)),
      group_(group) {}

std::vector<double> Validator::perplexities() {
  const std::vector<double> sums = sum_numbers(group_, own_sums());
  std::vector<double> perplexities;
  for (size_t i = 0; i < sums.size(); i += 2) {
    perplexities.push_back(std::exp(sums[i] / sums[i + 1]));
  }
  return perplexities;
}

std::vector<double> Validator::own_sums() {
  const std::vector<std::string>& modes = recipe_.validation.modes;
  const int64_t micro = recipe_.training.micro_batch_size, block = micro > 0 ? micro : 4;
  std::vector<double> sums(modes.size() * 2, 0.0);
  for (int64_t first = group_.rank() * block; first < recipe_.validation.rows;
       first += group_.size() * block) {
    std::vector<TrainingRow> rows;
    for (int64_t i = first; i < std::min(recipe_.validation.rows, first + block); ++i) {
      rows.push_back(data_.row(static_cast<uint64_t>(i)));
    }
    const MaskRule& rule = recipe_.objective.rule;
    const Batch batch = to_device(make_batch(rows, {rule, true}), group_.device());
    for (size_t i = 0; i < modes.size(); ++i) {
      const SwitchedOff adapter(modes[i] == kBaseMode ? adapter_ : nullptr);
      const Tensor result = objective_.evaluate(batch, parse_validation_mode(modes[i], rule)).cpu();
      sums[2 * i] += result[0].item<double>();
      sums[2 * i + 1] += result[1].item<double>();
    }
  }
  return sums;
}

}  // namespace ssa
