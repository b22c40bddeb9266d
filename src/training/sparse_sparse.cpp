#include "training/sparse_sparse.h"

#include <span>
#include <utility>

#include "attention/block_sparse_attention.h"
#include "attention/nsa_branches.h"
#include "base/error.h"
#include "base/text.h"
#include "data/row_random.h"

namespace ssa {
namespace {

template <class Value>
using Names = std::vector<std::pair<std::string, Value>>;

template <class Value>
Value parse_name(const char* what, const std::string& given, const Names<Value>& names) {
  std::vector<std::string> known;
  for (const auto& [name, value] : names) {
    if (name == given) {
      return value;
    }
    known.push_back(name);
  }
  fail(what, " '", given, "' is not known; known are ", join(known, ", "));
}

/// Smooth L1, summed, in float32 or better. Its value counts each direction; the gradient of both
/// directions together is that of one term without anything held fixed.
Tensor alignment_of(const Tensor& full, const Tensor& sparse, Alignment alignment) {
  const auto wide = [](const Tensor& x) {
    return x.to(torch::promote_types(x.scalar_type(), torch::kFloat32));
  };
  const auto distance = [&](const Tensor& a, const Tensor& b) {
    return torch::smooth_l1_loss(wide(a), wide(b), at::Reduction::Sum, /*beta=*/1.0);
  };
  switch (alignment) {
    case Alignment::kFull:
      return distance(full, sparse.detach());
    case Alignment::kSparse:
      return distance(sparse, full.detach());
    case Alignment::kNone:
      return {};
    case Alignment::kBoth:
      break;
  }
  const Tensor both = distance(full, sparse);
  return both + both.detach();
}

Tensor joined(std::vector<Tensor> parts) {
  if (parts.empty() || !parts[0].defined()) {
    return {};
  }
  return parts.size() == 1 ? parts[0] : torch::cat(parts);
}

BlockSparseInput input_of(const AttentionInput& in, const SequenceGroup& group) {
  const auto rows = [&](const Tensor& x) { return x.narrow(0, group.first_row, group.n_rows()); };
  return {rows(in.q), rows(in.k), rows(in.v), group.n_sequences, in.scale};
}

}  // namespace

SparseVariant parse_sparse_variant(const std::string& name) {
  return parse_name<SparseVariant>("sparse.variant",
                                   name,
                                   {{"ssa", SparseVariant::kSsa},
                                    {"sparse-sparse", SparseVariant::kSsa},
                                    {"fullattn", SparseVariant::kFullAttention},
                                    {"moba", SparseVariant::kMoba},
                                    {"nsa", SparseVariant::kNsa}});
}

Alignment parse_alignment(const std::string& name) {
  return parse_name<Alignment>("sparse.alignment",
                               name,
                               {{"both", Alignment::kBoth},
                                {"none", Alignment::kNone},
                                {"full", Alignment::kFull},
                                {"sparse", Alignment::kSparse}});
}

StreamDraw parse_stream_draw(const std::string& name) {
  return parse_name<StreamDraw>(
      "sparse.stream", name, {{"batch", StreamDraw::kBatch}, {"layer", StreamDraw::kLayer}});
}

BlockRule parse_block_rule(const std::string& name) {
  return parse_name<BlockRule>(
      "sparse.rule", name, {{"exact", BlockRule::kExact}, {"published", BlockRule::kPublished}});
}

std::vector<Stream> draw_streams(const SparseSparseOptions& options,
                                 uint64_t row_number,
                                 int64_t n_layers) {
  if (options.variant != SparseVariant::kSsa) {
    const bool full = options.variant == SparseVariant::kFullAttention;
    return std::vector<Stream>(static_cast<size_t>(n_layers),
                               full ? Stream::kFull : Stream::kSparse);
  }
  std::vector<Stream> streams;
  for (int64_t layer = 0; layer < n_layers; ++layer) {
    const auto drawn =
        options.stream == StreamDraw::kLayer ? static_cast<uint64_t>(layer) : uint64_t{0};
    const bool full = (mix_seeds({options.seed, row_number, drawn}) >> 63) != 0;
    streams.push_back(full ? Stream::kFull : Stream::kSparse);
  }
  return streams;
}

StreamAttention::StreamAttention(const Batch& batch,
                                 const SparseSparseOptions& options,
                                 std::vector<Stream> streams)
    : batch_(batch), options_(options), streams_(std::move(streams)), kept_(streams_.size()) {}

Tensor StreamAttention::attend(int64_t layer, const AttentionInput& in) {
  check(options_.variant != SparseVariant::kNsa,
        "sparse.variant nsa weighs three branches by gates: it needs a llama-nsa model");
  return attend_streams(layer, in, Tensor());
}

Tensor StreamAttention::attend_gated(int64_t layer, const AttentionInput& in, const Tensor& gates) {
  return options_.variant == SparseVariant::kNsa ? attend_nsa(in, gates)
                                                 : attend_streams(layer, in, gates.slice(-1, 1, 2));
}

StreamAttention::Outputs StreamAttention::attend_groups(const AttentionInput& in,
                                                        bool full,
                                                        bool sparse) const {
  std::vector<Tensor> full_parts, sparse_parts, kept_parts;
  for (const SequenceGroup& group : batch_.groups) {
    const BlockSparseOutput out =
        block_sparse_attention(input_of(in, group), options_.blocks, {full, sparse});
    full_parts.push_back(out.full);
    sparse_parts.push_back(out.sparse);
    kept_parts.push_back(out.kept);
  }
  return {joined(full_parts), joined(sparse_parts), joined(kept_parts)};
}

Tensor StreamAttention::attend_nsa(const AttentionInput& in, const Tensor& gates) const {
  std::vector<Tensor> outputs;
  for (const SequenceGroup& group : batch_.groups) {
    const BlockSparseInput rows = input_of(in, group);
    const Tensor gate = gates.narrow(0, group.first_row, group.n_rows());
    const Tensor selected = block_sparse_attention(rows, options_.blocks, {false, true}).sparse;
    outputs.push_back(gate.slice(-1, 0, 1) *
                          compressed_attention(rows, options_.blocks.block_size) +
                      gate.slice(-1, 1, 2) * selected +
                      gate.slice(-1, 2, 3) * window_attention(rows, options_.window));
  }
  return joined(outputs);
}

Tensor StreamAttention::attend_streams(int64_t layer,
                                       const AttentionInput& in,
                                       const Tensor& gate) {
  const auto index = static_cast<size_t>(layer);
  const bool feeds_full = streams_[index] == Stream::kFull, aligns = options_.aligns();
  Outputs out = attend_groups(in, feeds_full || aligns, !feeds_full || aligns);
  for (Tensor* stream : {&out.full, &out.sparse}) {
    if (stream->defined() && gate.defined()) {
      *stream = *stream * gate;
    }
  }
  layer_loss_ = Tensor();
  if (aligns) {
    layer_loss_ = alignment_of(out.full, out.sparse, options_.alignment) /
                  static_cast<double>(in.q.size(1) * in.q.size(2));
    kept_[index] = out.kept.detach().mean();
  }
  return feeds_full ? out.full : out.sparse;
}

Tensor StreamAttention::take_layer_loss() {
  return std::exchange(layer_loss_, Tensor());
}

Tensor StreamAttention::kept() const {
  std::vector<Tensor> there;
  for (const Tensor& each : kept_) {
    if (each.defined()) {
      there.push_back(each);
    }
  }
  return there.empty() ? Tensor() : torch::stack(there).mean();
}

}  // namespace ssa
