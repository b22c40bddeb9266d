#include "engine/cpu/paged_attention.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>

#include "attention/cpu/bank_attend.h"

namespace ssa::cpu {
namespace {

/// Query rows that pass over the bank together in prefill.
constexpr int64_t kRowsPerBlock = 192;
constexpr int64_t kMaxGroup = 64;

const float* query_of(
    const QueryBlock& block, int64_t token, int64_t kv_head, int64_t group, int64_t head_dim) {
  return block.q + (token * block.n_heads + kv_head * group) * head_dim;
}
float* output_of(
    const QueryBlock& block, int64_t token, int64_t kv_head, int64_t group, int64_t head_dim) {
  return block.out + (token * block.n_heads + kv_head * group) * head_dim;
}

/// The gists [begin, end) of the highest level's bank; begin is a multiple of 16.
BankView view_bank(const PagedKvCache& cache, int64_t layer, int64_t kv_head, Range gists) {
  const KvShape& shape = cache.shape();
  const KeyBank& bank = cache.bank(layer, shape.n_levels - 1);
  const int64_t bytes = vector_bytes(shape.type, shape.head_dim);
  return {bank.keys(kv_head) + gists.begin * bytes,
          bank.values(kv_head) + gists.begin * bytes,
          gists.size()};
}

GroupQuery group_query(const SelectionContext& context,
                       const QueryBlock& block,
                       const UnfoldOptions& options,
                       int64_t token,
                       int64_t kv_head) {
  const KvShape& shape = context.cache.shape();
  const int64_t group = block.n_heads / shape.n_kv_heads,
                in_sequence = options.first_in_sequence + token;
  const bool generated = in_sequence >= options.n_prompt;
  return {query_of(block, token, kv_head, group, shape.head_dim),
          group,
          kv_head,
          options.first + token,
          generated ? in_sequence + 1 : options.n_prompt,
          generated};
}

void attend_bank(const HeadShape& shape,
                 const float* q,
                 float scale,
                 const BankView& bank,
                 const SoftmaxState& state) {
  if (bank.n_gists > 0) {
    std::array<int64_t, kMaxGroup> visible;
    visible.fill(bank.n_gists);
    bank_attend_kernels(instruction_set())
        .attend(shape, q, shape.group_size, scale, bank, visible.data(), state);
  }
}

}  // namespace

SoftmaxState PagedAttention::StateBuffer::reset(int64_t n_rows, int64_t head_dim) {
  largest.assign(static_cast<size_t>(n_rows), -std::numeric_limits<float>::infinity());
  sum.assign(static_cast<size_t>(n_rows), 0.0F);
  out.assign(static_cast<size_t>(n_rows * head_dim), 0.0F);
  return {largest.data(), sum.data(), out.data()};
}

SoftmaxState PagedAttention::StateBuffer::at(int64_t row, int64_t head_dim) {
  return {largest.data() + row, sum.data() + row, out.data() + row * head_dim};
}

PagedAttention::PagedAttention(int n_threads)
    : n_threads_(n_threads),
      runs_(static_cast<size_t>(n_threads)),
      rows_(static_cast<size_t>(n_threads)),
      visible_(static_cast<size_t>(n_threads)) {}

HeadShape PagedAttention::head_shape(const PagedKvCache& cache, const QueryBlock& block) const {
  const KvShape& shape = cache.shape();
  return {shape.type, shape.head_dim, block.n_heads / shape.n_kv_heads};
}

void PagedAttention::dense(const PagedKvCache& cache, const QueryBlock& block, int64_t first) {
  run_tokens(cache, block, [&](int64_t token, int64_t kv_head, HeadJob& job) {
    build_dense_job(cache, block.layer, kv_head, first + token, job);
  });
}

void PagedAttention::run_tokens(const PagedKvCache& cache,
                                const QueryBlock& block,
                                const BuildJob& build) {
  const int64_t n_kv_heads = cache.shape().n_kv_heads;
  const size_t n_scratch = static_cast<size_t>(std::max<int64_t>(n_kv_heads, n_threads_));
  jobs_.resize(std::max(jobs_.size(), n_scratch));
  states_.resize(std::max(states_.size(), n_scratch * static_cast<size_t>(n_threads_)));
  if (block.n_tokens == 1) {
    run_team(n_threads_, [&](const Team& team) {
      team.share(n_kv_heads,
                 [&](int64_t head) { build(0, head, jobs_[static_cast<size_t>(head)]); });
      team.barrier();
      attend_share(team, cache, block);
      team.barrier();
      merge_parts(team, cache, block);
    });
    return;
  }
  std::atomic<int64_t> next = 0;
  run_team(n_threads_, [&](const Team& team) {
    for (int64_t item = next++; item < block.n_tokens * n_kv_heads; item = next++) {
      build(item / n_kv_heads, item % n_kv_heads, jobs_[static_cast<size_t>(team.rank)]);
      attend_whole(cache, block, item / n_kv_heads, item % n_kv_heads, team.rank);
    }
  });
}

void PagedAttention::attend_whole(
    const PagedKvCache& cache, const QueryBlock& block, int64_t token, int64_t kv_head, int rank) {
  const HeadShape shape = head_shape(cache, block);
  const HeadJob& job = jobs_[static_cast<size_t>(rank)];
  const SoftmaxState state =
      states_[static_cast<size_t>(rank)].reset(shape.group_size, shape.head_dim);
  const float* q = query_of(block, token, kv_head, shape.group_size, shape.head_dim);
  const AttendKernels& kernels = attend_kernels(instruction_set());
  if (job.bank_end > 0) {
    attend_bank(
        shape, q, block.scale, view_bank(cache, block.layer, kv_head, {0, job.bank_end}), state);
  }
  kernels.attend(shape, q, block.scale, job.runs, job.scored, state);
  kernels.finish(shape, state, output_of(block, token, kv_head, shape.group_size, shape.head_dim));
}

void PagedAttention::attend_share(const Team& team,
                                  const PagedKvCache& cache,
                                  const QueryBlock& block) {
  const int64_t n_kv_heads = cache.shape().n_kv_heads;
  const HeadShape shape = head_shape(cache, block);
  int64_t total = 0;
  for (int64_t head = 0; head < n_kv_heads; ++head) {
    total += jobs_[static_cast<size_t>(head)].n_keys();
    states_[static_cast<size_t>(team.rank * n_kv_heads + head)].reset(shape.group_size,
                                                                      shape.head_dim);
  }
  const Range mine{total * team.rank / team.size, total * (team.rank + 1) / team.size};
  int64_t before = 0;
  for (int64_t head = 0; head < n_kv_heads; ++head) {
    const int64_t n = jobs_[static_cast<size_t>(head)].n_keys();
    const Range part{std::max<int64_t>(mine.begin - before, 0), std::min(mine.end - before, n)};
    if (part.begin < part.end) {
      attend_part(cache, block, head, part, team.rank);
    }
    before += n;
  }
}

/// Of a job's keys, in the order bank, runs, scored values, those numbered `keys`.
void PagedAttention::attend_part(
    const PagedKvCache& cache, const QueryBlock& block, int64_t kv_head, Range keys, int rank) {
  const HeadShape shape = head_shape(cache, block);
  const HeadJob& job = jobs_[static_cast<size_t>(kv_head)];
  const float* q = query_of(block, 0, kv_head, shape.group_size, shape.head_dim);
  const SoftmaxState state =
      states_[static_cast<size_t>(rank * cache.shape().n_kv_heads + kv_head)].at(0, shape.head_dim);
  // Parts of the bank end where tiles do.
  const auto tile_floor = [&](int64_t key) {
    return key >= job.bank_end ? job.bank_end : key / kTileKeys * kTileKeys;
  };
  const Range gists{tile_floor(keys.begin), tile_floor(keys.end)};
  if (gists.begin < gists.end) {
    attend_bank(shape, q, block.scale, view_bank(cache, block.layer, kv_head, gists), state);
  }
  std::vector<KvRun>& runs = runs_[static_cast<size_t>(rank)];
  runs.clear();
  int64_t before = job.bank_end;
  for (const KvRun& run : job.runs) {
    const int64_t begin = std::max<int64_t>(keys.begin - before, 0);
    const int64_t end = std::min(keys.end - before, run.n_tokens);
    if (begin < end) {
      runs.push_back({run.keys + begin * run.key_stride,
                      run.values + begin * run.value_stride,
                      end - begin,
                      run.key_stride,
                      run.value_stride});
    }
    before += run.n_tokens;
  }
  const auto n_scored = static_cast<int64_t>(job.scored.size());
  const int64_t begin = std::clamp<int64_t>(keys.begin - before, 0, n_scored);
  const int64_t end = std::clamp<int64_t>(keys.end - before, begin, n_scored);
  const std::span<const ScoredValue> scored(job.scored);
  attend_kernels(instruction_set())
      .attend(shape,
              q,
              block.scale,
              runs,
              scored.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)),
              state);
}

void PagedAttention::merge_parts(const Team& team,
                                 const PagedKvCache& cache,
                                 const QueryBlock& block) {
  const HeadShape shape = head_shape(cache, block);
  const AttendKernels& kernels = attend_kernels(instruction_set());
  const int64_t n_kv_heads = cache.shape().n_kv_heads;
  team.share(n_kv_heads, [&](int64_t head) {
    const SoftmaxState all = states_[static_cast<size_t>(head)].at(0, shape.head_dim);
    for (int rank = 1; rank < team.size; ++rank) {
      kernels.merge(
          shape, states_[static_cast<size_t>(rank * n_kv_heads + head)].at(0, shape.head_dim), all);
    }
    kernels.finish(shape, all, output_of(block, 0, head, shape.group_size, shape.head_dim));
  });
}

void PagedAttention::masked(const PagedKvCache& cache,
                            const GistLayout& layout,
                            const MaskRule& rule,
                            const QueryBlock& block,
                            int64_t first) {
  if (block.n_tokens == 1) {
    const VisibleSet visible = visible_set(layout, rule, first);
    run_tokens(cache, block, [&](int64_t, int64_t kv_head, HeadJob& job) {
      build_masked_job(cache, block.layer, kv_head, visible, job);
    });
    return;
  }
  const int64_t n_kv_heads = cache.shape().n_kv_heads;
  const int64_t step = std::max<int64_t>(1, kRowsPerBlock / head_shape(cache, block).group_size);
  const int64_t n_blocks = (block.n_tokens + step - 1) / step;
  jobs_.resize(std::max(jobs_.size(), static_cast<size_t>(n_threads_)));
  states_.resize(std::max(states_.size(), static_cast<size_t>(n_threads_)));
  std::atomic<int64_t> next = 0;
  run_team(n_threads_, [&](const Team& team) {
    for (int64_t item = next++; item < n_blocks * n_kv_heads; item = next++) {
      // The longest rows first, so that the threads end together.
      const int64_t begin = (n_blocks - 1 - item / n_kv_heads) * step;
      masked_rows(cache,
                  layout,
                  rule,
                  block,
                  first,
                  item % n_kv_heads,
                  {begin, std::min(begin + step, block.n_tokens)},
                  team.rank);
    }
  });
}

void PagedAttention::masked_rows(const PagedKvCache& cache,
                                 const GistLayout& layout,
                                 const MaskRule& rule,
                                 const QueryBlock& block,
                                 int64_t first,
                                 int64_t kv_head,
                                 Range tokens,
                                 int rank) {
  const HeadShape shape = head_shape(cache, block);
  const int64_t group = shape.group_size, head_dim = shape.head_dim, n_rows = tokens.size() * group;
  const auto thread = static_cast<size_t>(rank);
  std::vector<float>& rows = rows_[thread];
  std::vector<int64_t>& ends = visible_[thread];
  rows.resize(static_cast<size_t>(n_rows * head_dim));
  ends.resize(static_cast<size_t>(n_rows));
  states_[thread].reset(n_rows, head_dim);
  const AttendKernels& kernels = attend_kernels(instruction_set());
  for (int64_t token = tokens.begin; token < tokens.end; ++token) {
    const int64_t row = (token - tokens.begin) * group;
    const float* q = query_of(block, token, kv_head, group, head_dim);
    std::copy_n(q, group * head_dim, rows.data() + row * head_dim);
    build_masked_job(
        cache, block.layer, kv_head, visible_set(layout, rule, first + token), jobs_[thread]);
    std::fill_n(ends.begin() + row, group, jobs_[thread].bank_end);
    kernels.attend(
        shape, q, block.scale, jobs_[thread].runs, {}, states_[thread].at(row, head_dim));
  }
  const int64_t n_gists = *std::max_element(ends.begin(), ends.end());
  if (n_gists > 0) {
    bank_attend_kernels(instruction_set())
        .attend(shape,
                rows.data(),
                n_rows,
                block.scale,
                view_bank(cache, block.layer, kv_head, {0, n_gists}),
                ends.data(),
                states_[thread].at(0, head_dim));
  }
  for (int64_t token = tokens.begin; token < tokens.end; ++token) {
    kernels.finish(shape,
                   states_[thread].at((token - tokens.begin) * group, head_dim),
                   output_of(block, token, kv_head, group, head_dim));
  }
}

const std::vector<Choice>& PagedAttention::unfold(const SelectionContext& context,
                                                  const QueryBlock& block,
                                                  const UnfoldOptions& options) {
  const int64_t n_kv_heads = context.cache.shape().n_kv_heads;
  const auto n_scratch = static_cast<size_t>(std::max<int64_t>(n_kv_heads, n_threads_));
  selections_.resize(std::max(selections_.size(), n_scratch));
  jobs_.resize(std::max(jobs_.size(), n_scratch));
  states_.resize(std::max(states_.size(), n_scratch * static_cast<size_t>(n_threads_)));
  choices_.resize(static_cast<size_t>(block.n_tokens * n_kv_heads));
  // Of a short sequence a head's work is less than what splitting it costs.
  constexpr int64_t kShortSequence = 768;
  if (block.n_tokens == 1 && context.cache.n_raw(block.layer) > kShortSequence) {
    unfold_token(context, block, options);
    return choices_;
  }
  std::atomic<int64_t> next = 0;
  run_team(n_threads_, [&](const Team& team) {
    ChunkSelection& selection = selections_[static_cast<size_t>(team.rank)];
    HeadJob& job = jobs_[static_cast<size_t>(team.rank)];
    for (int64_t item = next++; item < block.n_tokens * n_kv_heads; item = next++) {
      const int64_t token = item / n_kv_heads, head = item % n_kv_heads;
      selection.begin(context, group_query(context, block, options, token, head));
      selection.scan(0, selection.n_tiles());
      for (int64_t chooser = 0; chooser < selection.n_choosers(); ++chooser) {
        selection.keep_top(chooser);
      }
      selection.finish(job);
      attend_whole(context.cache, block, token, head, team.rank);
      choices_[static_cast<size_t>(item)] = {
          options.wants_kept ? selection.kept() : KeptGists{}, job.n_keys(), selection.n_scored()};
    }
  });
  return choices_;
}

void PagedAttention::unfold_token(const SelectionContext& context,
                                  const QueryBlock& block,
                                  const UnfoldOptions& options) {
  const int64_t n_kv_heads = context.cache.shape().n_kv_heads;
  const auto selection = [&](int64_t head) -> ChunkSelection& {
    return selections_[static_cast<size_t>(head)];
  };
  for (int64_t head = 0; head < n_kv_heads; ++head) {
    selection(head).begin(context, group_query(context, block, options, 0, head));
  }
  const int64_t n_tiles = selection(0).n_tiles(), n_choosers = selection(0).n_choosers();
  run_team(n_threads_, [&](const Team& team) {
    const Range mine{n_tiles * n_kv_heads * team.rank / team.size,
                     n_tiles * n_kv_heads * (team.rank + 1) / team.size};
    for (int64_t head = 0; head < n_kv_heads; ++head) {
      selection(head).scan(std::clamp<int64_t>(mine.begin - head * n_tiles, 0, n_tiles),
                           std::clamp<int64_t>(mine.end - head * n_tiles, 0, n_tiles));
    }
    team.barrier();
    team.share(n_kv_heads * n_choosers,
               [&](int64_t i) { selection(i / n_choosers).keep_top(i % n_choosers); });
    team.barrier();
    team.share(n_kv_heads,
               [&](int64_t head) { selection(head).finish(jobs_[static_cast<size_t>(head)]); });
    team.barrier();
    attend_share(team, context.cache, block);
    team.barrier();
    merge_parts(team, context.cache, block);
  });
  for (int64_t head = 0; head < n_kv_heads; ++head) {
    choices_[static_cast<size_t>(head)] = {
        options.wants_kept ? selection(head).kept() : KeptGists{},
        jobs_[static_cast<size_t>(head)].n_keys(),
        selection(head).n_scored()};
  }
}

}  // namespace ssa::cpu
