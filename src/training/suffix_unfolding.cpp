#include "training/suffix_unfolding.h"

#include <algorithm>

#include "attention/visible_attention.h"
#include "base/error.h"
#include "selection/unfold_mask.h"

namespace ssa {
namespace {

/// A piece's masks are kept for the backward pass, once a head: so many entries at most (unless one
/// sequence has more), and no sequence padded to more than so many times its length.
constexpr int64_t kMostMasked = int64_t{1} << 23, kMostPadding = 3;

int64_t n_suffix(const UnfoldedSequence& sequence) {
  return sequence.layout->n_tokens() - sequence.layout->prefix_end();
}

/// Whether `sequence` may stand beside those that a piece has.
bool fits(std::span<const UnfoldedSequence> piece, const UnfoldedSequence& sequence) {
  int64_t shortest = sequence.layout->n_tokens(), longest = shortest;
  int64_t n_queries = n_suffix(sequence);
  for (const UnfoldedSequence& other : piece) {
    shortest = std::min(shortest, other.layout->n_tokens());
    longest = std::max(longest, other.layout->n_tokens());
    n_queries = std::max(n_queries, n_suffix(other));
  }
  return sequence.layout->n_levels() == piece.front().layout->n_levels() &&
         longest <= kMostPadding * shortest &&
         (std::ssize(piece) + 1) * n_queries * longest <= kMostMasked;
}

Tensor index_tensor(const std::vector<int64_t>& values, torch::Device device) {
  return torch::tensor(values, torch::kInt64).to(device);
}

}  // namespace

SuffixUnfolding::SuffixUnfolding(std::span<const UnfoldedSequence> sequences,
                                 const MaskRule& rule,
                                 const SelectionOptions& options,
                                 int64_t n_kv_heads,
                                 int64_t group_size,
                                 torch::Device device)
    : options_(options), n_kv_heads_(n_kv_heads), group_size_(group_size) {
  check(!options.mass, "selection by mass is not offered for all queries of a suffix at once");
  check(options.by == SelectBy::kHead,
        "selective fine-tuning selects by head: other ways are not offered");
  for (size_t begin = 0; begin < sequences.size();) {
    size_t end = begin + 1;
    while (end < sequences.size() && fits(sequences.subspan(begin, end - begin), sequences[end])) {
      ++end;
    }
    pieces_.push_back(make_piece(sequences.subspan(begin, end - begin), rule, device));
    begin = end;
  }
}

SuffixUnfolding::Piece SuffixUnfolding::make_piece(std::span<const UnfoldedSequence> sequences,
                                                   const MaskRule& rule,
                                                   torch::Device device) const {
  Piece piece;
  piece.n_sequences = std::ssize(sequences);
  std::vector<ChunkView> views;
  for (const UnfoldedSequence& sequence : sequences) {
    views.push_back({*sequence.layout, true});
    piece.n_queries = std::max(piece.n_queries, n_suffix(sequence));
    piece.n_keys = std::max(piece.n_keys, sequence.layout->n_tokens());
  }
  const int n_levels = sequences.front().layout->n_levels();
  std::vector<int64_t> query_rows(static_cast<size_t>(piece.n_sequences * piece.n_queries), 0);
  std::vector<int64_t> key_rows(static_cast<size_t>(piece.n_sequences * piece.n_keys), 0);
  std::vector<int64_t> places, rows;
  std::vector<std::vector<int64_t>> top_k(static_cast<size_t>(n_levels),
                                          std::vector<int64_t>(query_rows.size(), 1));
  Tensor always = torch::zeros({piece.n_sequences, piece.n_queries, piece.n_keys}, torch::kBool);
  // Rows of padding attend something, so that nothing in them is NaN.
  always.select(2, 0).fill_(true);
  for (int64_t i = 0; i < piece.n_sequences; ++i) {
    const UnfoldedSequence& sequence = sequences[static_cast<size_t>(i)];
    const GistLayout& layout = *sequence.layout;
    const int64_t n = layout.n_tokens(), prefix = layout.prefix_end();
    for (int64_t t = 0; t < n; ++t) {
      key_rows[static_cast<size_t>(i * piece.n_keys + t)] = sequence.first_row + t;
    }
    for (int64_t t = prefix; t < n; ++t) {
      const int64_t place = i * piece.n_queries + t - prefix;
      query_rows[static_cast<size_t>(place)] = sequence.first_row + t;
      places.push_back(place);
      rows.push_back(sequence.first_row + t);
    }
    for (int level = 0; level < n_levels; ++level) {
      const int64_t k = top_k_of_level(
          options_, level, n, layout.n_gists(level), group_size_, layout.chunk_sizes());
      std::fill_n(top_k[static_cast<size_t>(level)].begin() + i * piece.n_queries, n - prefix, k);
    }
    always[i]
        .narrow(0, 0, n - prefix)
        .narrow(1, 0, n)
        .copy_(always_attended(views[static_cast<size_t>(i)], rule, {{prefix, n}, n}));
  }
  piece.query_rows = index_tensor(query_rows, device);
  piece.key_rows = index_tensor(key_rows, device);
  piece.places = index_tensor(places, device);
  piece.rows = index_tensor(rows, device);
  piece.always = always.to(device);
  for (const std::vector<int64_t>& level : top_k) {
    piece.top_k.push_back(index_tensor(level, device).view({piece.n_sequences, piece.n_queries}));
    piece.largest_top_k.push_back(*std::max_element(level.begin(), level.end()));
  }
  piece.pivots = std::make_shared<const PivotIndex>(views, options_.pivot, device);
  piece.tree = std::make_unique<const ChunkTree>(views, piece.n_keys, n_kv_heads_, device);
  return piece;
}

Tensor SuffixUnfolding::visible(const Piece& piece, const Tensor& q, const Tensor& k) const {
  const torch::NoGradGuard no_grad;
  // Heads of all sequences are heads, sequence by sequence.
  const PivotBank bank(piece.pivots, k.detach().flatten(0, 1));
  const Tensor queries = q.detach().flatten(0, 1).transpose(0, 1);
  const Tensor kept =
      piece.tree->kept(bank.grouped_scores(queries), piece.top_k, piece.largest_top_k);
  return piece.tree->keys(kept)
      .unflatten(0, {piece.n_sequences, n_kv_heads_})
      .logical_or(piece.always.unsqueeze(1));
}

Tensor SuffixUnfolding::attend(const AttentionInput& in, const Tensor& out) const {
  std::vector<Tensor> rows, outputs;
  for (const Piece& piece : pieces_) {
    // [n_sequences, n_heads, n, head_dim]
    const auto side_by_side = [&](const Tensor& x, const Tensor& taken) {
      return x.index_select(0, taken).unflatten(0, {piece.n_sequences, -1}).transpose(1, 2);
    };
    const Tensor q = side_by_side(in.q, piece.query_rows), k = side_by_side(in.k, piece.key_rows),
                 v = side_by_side(in.v, piece.key_rows);
    const auto for_heads = [&](const Tensor& x) { return x.repeat_interleave(group_size_, 1); };
    const Tensor attended =
        visible_attention(q, for_heads(k), for_heads(v), for_heads(visible(piece, q, k)), in.scale);
    rows.push_back(piece.rows);
    outputs.push_back(attended.transpose(1, 2).flatten(0, 1).index_select(0, piece.places));
  }
  return pieces_.empty() ? out : out.index_copy(0, torch::cat(rows), torch::cat(outputs));
}

}  // namespace ssa
