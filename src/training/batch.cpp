#include "training/batch.h"

#include <algorithm>
#include <optional>

namespace ssa {
namespace {

bool same_layout(const GistLayout& a, const GistLayout& b) {
  return a.n_tokens() == b.n_tokens() &&
         std::equal(a.levels().begin(), a.levels().end(), b.levels().begin());
}

/// Orders layouts so that equal ones are neighbours, those of fewest levels first.
bool before(const GistLayout& a, const GistLayout& b) {
  if (a.n_levels() != b.n_levels()) {
    return a.n_levels() < b.n_levels();
  }
  return a.n_tokens() != b.n_tokens()
             ? a.n_tokens() < b.n_tokens()
             : std::lexicographical_compare(
                   a.levels().begin(), a.levels().end(), b.levels().begin(), b.levels().end());
}

/// Collects rows of a batch before they become tensors.
struct BatchBuilder {
  std::vector<int64_t> ids, positions, target_rows, target_ids, raw_rows;
  std::vector<uint8_t> in_suffix;
  int64_t n_raw = 0;

  void add(const TrainingSequence& sequence) {
    const GistLayout& layout = sequence.layout;
    const auto first = static_cast<int64_t>(ids.size());
    ids.insert(ids.end(), layout.ids().begin(), layout.ids().end());
    positions.insert(positions.end(), layout.positions().begin(), layout.positions().end());
    for (int64_t t = 0; t < layout.n_tokens(); ++t) {
      const int64_t target = sequence.targets[static_cast<size_t>(t)];
      if (target == kNoTarget) {
        continue;
      }
      target_rows.push_back(first + t);
      target_ids.push_back(target);
      // The last raw token up to here; of a gist the one before it.
      raw_rows.push_back(n_raw + layout.raw_before(t + 1) - 1);
      in_suffix.push_back(t + 1 >= layout.prefix_end());
    }
    n_raw += layout.n_raw();
  }
};

Tensor to_tensor(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kInt64);
}

/// Once all groups are there.
void set_offsets(Batch& batch) {
  std::vector<int32_t> offsets{0};
  for (const SequenceGroup& group : batch.groups) {
    batch.longest = std::max(batch.longest, group.layout.n_tokens());
    for (int64_t i = 0; i < group.n_sequences; ++i) {
      offsets.push_back(offsets.back() + static_cast<int32_t>(group.layout.n_tokens()));
    }
  }
  batch.offsets = torch::tensor(offsets, torch::kInt32).to(batch.ids.device());
}

}  // namespace

Batch make_batch(std::span<const TrainingRow> rows, const BatchOptions& options) {
  std::vector<const TrainingSequence*> sequences;
  for (const TrainingRow& row : rows) {
    for (const TrainingSequence& sequence : row.sequences) {
      sequences.push_back(&sequence);
    }
  }
  std::stable_sort(sequences.begin(), sequences.end(), [](const auto* a, const auto* b) {
    return before(a->layout, b->layout);
  });
  Batch batch;
  BatchBuilder builder;
  for (const TrainingSequence* sequence : sequences) {
    if (batch.groups.empty() || !same_layout(batch.groups.back().layout, sequence->layout)) {
      batch.groups.push_back({static_cast<int64_t>(builder.ids.size()),
                              0,
                              sequence->layout,
                              plan_gist_mask(sequence->layout, options.rule)});
    }
    ++batch.groups.back().n_sequences;
    builder.add(*sequence);
  }
  batch.ids = to_tensor(builder.ids);
  batch.positions = to_tensor(builder.positions);
  batch.target_rows = to_tensor(builder.target_rows);
  batch.target_ids = to_tensor(builder.target_ids);
  batch.raw_rows = to_tensor(builder.raw_rows);
  batch.in_suffix = torch::tensor(builder.in_suffix, torch::kUInt8).to(torch::kBool);
  std::vector<LaidSequences> laid;
  for (const SequenceGroup& group : batch.groups) {
    laid.push_back({&group.layout, group.n_sequences});
  }
  batch.together = plan_gist_mask_batch(laid, options.rule);
  if (options.route_queries > 0) {
    std::vector<RoutedSequence> routed;
    for (const SequenceGroup& group : batch.groups) {
      for (int64_t i = 0; i < group.n_sequences; ++i) {
        routed.push_back({&group.layout, group.first_row + i * group.layout.n_tokens()});
      }
    }
    batch.routes = plan_routes(routed, options.rule, options.route_queries);
  }
  set_offsets(batch);
  batch.n_sequences = static_cast<int64_t>(sequences.size());
  batch.n_raw = builder.n_raw;
  return batch;
}

Batch raw_only(const Batch& batch) {
  std::vector<int64_t> rows, positions;
  Batch raw;
  int64_t first = 0;
  for (const SequenceGroup& group : batch.groups) {
    GistLayout layout(group.layout.chunk_sizes(),
                      {group.layout.token_ids().begin(), group.layout.token_ids().end()});
    for (int64_t i = 0; i < group.n_sequences; ++i) {
      for (int64_t t = 0; t < group.layout.n_tokens(); ++t) {
        if (group.layout.levels()[static_cast<size_t>(t)] == kRawLevel) {
          rows.push_back(group.first_row + i * group.layout.n_tokens() + t);
          if (i == 0) {
            layout.append_raw(group.layout.ids()[static_cast<size_t>(t)]);
          }
        }
      }
    }
    const GistMaskPlanPtr plan = plan_gist_mask(layout, {});
    raw.groups.push_back({first, group.n_sequences, std::move(layout), plan});
    first += raw.groups.back().n_rows();
  }
  const Tensor picked = to_tensor(rows).to(batch.ids.device());
  raw.ids = batch.ids.index_select(0, picked);
  raw.positions = batch.positions.index_select(0, picked);
  raw.target_rows = batch.raw_rows;
  raw.target_ids = batch.target_ids;
  raw.raw_rows = batch.raw_rows;
  raw.in_suffix = batch.in_suffix;
  set_offsets(raw);
  raw.n_sequences = batch.n_sequences;
  raw.n_raw = batch.n_raw;
  raw.row_number = batch.row_number;
  return raw;
}

Batch to_device(const Batch& batch, torch::Device device) {
  Batch moved = batch;
  for (Tensor* tensor : {&moved.ids,
                         &moved.positions,
                         &moved.target_rows,
                         &moved.target_ids,
                         &moved.raw_rows,
                         &moved.in_suffix,
                         &moved.offsets}) {
    *tensor = tensor->to(device);
  }
  moved.routes = moved.routes.to(device);
  if (moved.together) {
    moved.together = to_device(*moved.together, device);
  }
  for (SequenceGroup& group : moved.groups) {
    group.plan = to_device(*group.plan, device);
  }
  return moved;
}

}  // namespace ssa
