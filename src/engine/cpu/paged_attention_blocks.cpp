#include <algorithm>
#include <atomic>

#include "engine/cpu/paged_attention.h"

namespace ssa::cpu {
namespace {

constexpr int64_t kMaxRows = 64;                  // that are scored together
constexpr int64_t kMaxScores = int64_t{1} << 16;  // of a thread: 256 KB, a part of its cache

/// Scores of a head that become weights sooner than another thread could take its share of them.
constexpr int64_t kWeighedAlone = int64_t{1} << 14;

/// Consecutive tokens whose queries pass over the means together: each mean is loaded once for all.
int64_t tokens_together(int64_t group_size, int64_t n_blocks) {
  const int64_t n_rows = std::min(kMaxRows, kMaxScores / std::max<int64_t>(n_blocks, 1));
  return std::max<int64_t>(1, n_rows / group_size);
}

/// Whether a token's heads are split over the threads: where otherwise some would wait, with no
/// head left, for longer than their meetings would take.
bool pays_to_split(int64_t n_heads, int64_t n_threads, int64_t scores_of_head) {
  constexpr int64_t kScoresOfMeetings = 2048;
  const int64_t n_missing = (n_threads - n_heads % n_threads) % n_threads;
  return n_missing * scores_of_head >= kScoresOfMeetings * n_threads;
}

}  // namespace

const std::vector<BlockChoice>& PagedAttention::sparse(const BlockContext& context,
                                                       const QueryBlock& block,
                                                       int64_t first,
                                                       bool wants_blocks) {
  const KvShape& shape = context.cache.shape();
  const int64_t n_kv_heads = shape.n_kv_heads, group = block.n_heads / n_kv_heads;
  const auto n_scratch = static_cast<size_t>(std::max<int64_t>(n_kv_heads, n_threads_));
  block_selections_.resize(std::max(block_selections_.size(), n_scratch));
  jobs_.resize(std::max(jobs_.size(), n_scratch));
  states_.resize(std::max(states_.size(), n_scratch * static_cast<size_t>(n_threads_)));
  block_choices_.resize(static_cast<size_t>(block.n_tokens * n_kv_heads));
  const int64_t n_blocks = context.means.keys().n_rows();
  if (block.n_tokens == 1 && pays_to_split(n_kv_heads, n_threads_, group * n_blocks)) {
    sparse_token(context, block, first, wants_blocks);
    return block_choices_;
  }
  const int64_t step = tokens_together(group, n_blocks);
  const int64_t n_steps = (block.n_tokens + step - 1) / step;
  std::atomic<int64_t> next = 0;
  run_team(n_threads_, [&](const Team& team) {
    BlockSelection& selection = block_selections_[static_cast<size_t>(team.rank)];
    HeadJob& job = jobs_[static_cast<size_t>(team.rank)];
    for (int64_t item = next++; item < n_steps * n_kv_heads; item = next++) {
      // The longest rows first, so that the threads end together.
      const int64_t begin = (n_steps - 1 - item / n_kv_heads) * step, head = item % n_kv_heads;
      const int64_t n_tokens = std::min(step, block.n_tokens - begin);
      selection.begin(context,
                      {first + begin, n_tokens, group, block.scale},
                      block.q + (begin * block.n_heads + head * group) * shape.head_dim,
                      block.n_heads * shape.head_dim,
                      head);
      for (int64_t part = 0; part < selection.n_parts(); ++part) {
        selection.scan(part);
      }
      for (int64_t part = 0; part < selection.n_parts(); ++part) {
        selection.weigh(part);
      }
      for (int64_t token = 0; token < n_tokens; ++token) {
        selection.finish(token, job);
        attend_whole(context.cache, block, begin + token, head, team.rank);
        block_choices_[static_cast<size_t>((begin + token) * n_kv_heads + head)] = {
            wants_blocks ? selection.blocks() : std::vector<int64_t>{},
            job.n_keys(),
            selection.n_scored(token)};
      }
    }
  });
  return block_choices_;
}

/// One token, each head's work split over the threads.
void PagedAttention::sparse_token(const BlockContext& context,
                                  const QueryBlock& block,
                                  int64_t first,
                                  bool wants_blocks) {
  const KvShape& shape = context.cache.shape();
  const int64_t n_kv_heads = shape.n_kv_heads, group = block.n_heads / n_kv_heads;
  const auto selection = [&](int64_t head) -> BlockSelection& {
    return block_selections_[static_cast<size_t>(head)];
  };
  for (int64_t head = 0; head < n_kv_heads; ++head) {
    const float* q = block.q + head * group * shape.head_dim;
    selection(head).begin(context, {first, 1, group, block.scale}, q, 0, head);
  }
  const int64_t n_parts = selection(0).n_parts(), n_all_parts = n_parts * n_kv_heads;
  const bool weighs_alone = group * selection(0).n_scored(0) <= kWeighedAlone;
  run_team(n_threads_, [&](const Team& team) {
    team.share(n_all_parts, [&](int64_t i) { selection(i / n_parts).scan(i % n_parts); });
    team.barrier();
    if (!weighs_alone) {
      team.share(n_all_parts, [&](int64_t i) { selection(i / n_parts).weigh(i % n_parts); });
      team.barrier();
    }
    team.share(n_kv_heads, [&](int64_t head) {
      for (int64_t part = 0; weighs_alone && part < n_parts; ++part) {
        selection(head).weigh(part);
      }
      selection(head).finish(0, jobs_[static_cast<size_t>(head)]);
    });
    team.barrier();
    attend_share(team, context.cache, block);
    team.barrier();
    merge_parts(team, context.cache, block);
  });
  for (int64_t head = 0; head < n_kv_heads; ++head) {
    block_choices_[static_cast<size_t>(head)] = {
        wants_blocks ? selection(head).blocks() : std::vector<int64_t>{},
        jobs_[static_cast<size_t>(head)].n_keys(),
        selection(head).n_scored(0)};
  }
}

}  // namespace ssa::cpu
