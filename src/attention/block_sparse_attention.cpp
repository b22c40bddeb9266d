#include "attention/block_sparse_attention.h"

#include <torch/autograd.h>
#include <algorithm>
#include <vector>

#include "attention/block_rows.h"
#include "attention/partial_attention.h"
#include "selection/block_selection.h"

namespace ssa {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A score of a padded or later key is never looked at by a row that is.
Tensor hidden_bias(const Tensor& chosen,  // [n_batch, n_rows, n_places]
                   int64_t first,         // row 0's token, a multiple of the block size
                   int64_t block_size,
                   torch::ScalarType dtype) {
  const int64_t n_batch = chosen.size(0), n_rows = chosen.size(1);
  const int64_t n_blocks = (first + n_rows) / block_size;
  // Places without a block mark one that is not there.
  const Tensor places = chosen.to(torch::kInt64);
  const Tensor blocks = torch::full({n_batch, n_rows, n_blocks + 1},
                                    kHiddenScore,
                                    torch::dtype(dtype).device(chosen.device()))
                            .scatter_(2, torch::where(places < 0, n_blocks, places), 0.0)
                            .narrow(2, 0, n_blocks);
  Tensor bias = blocks.unsqueeze(3).expand({n_batch, n_rows, n_blocks, block_size}).contiguous();
  // Own blocks, the only ones that hold later keys: [n_batch, block_size, block_size, n_own].
  const Tensor own = bias.view({n_batch, n_rows / block_size, block_size, n_blocks, block_size})
                         .diagonal(first / block_size, 1, 3);
  const Tensor later =
      torch::ones({block_size, block_size}, chosen.options().dtype(torch::kBool)).triu(1);
  own.masked_fill_(later.unsqueeze(2), kHiddenScore);
  return bias.view({n_batch, 1, n_rows, n_blocks * block_size});
}

/// Queries of one forward or backward pass by pieces, so that what a piece holds is bounded.
struct Piece {
  int64_t begin, end;
};

std::vector<Piece> pieces_of(const BlockRows& rows, bool is_cuda) {
  // On CUDA a piece should occupy the device, and yet leave out keys behind it.
  const int64_t wanted = is_cuda ? (rows.n_batch() * rows.group < 32 ? 2048 : 1024) : 256;
  const int64_t length = (wanted + rows.unit - 1) / rows.unit * rows.unit;
  std::vector<Piece> pieces;
  for (int64_t begin = 0; begin < rows.n_padded; begin += length) {
    pieces.push_back({begin, std::min(rows.n_padded, begin + length)});
  }
  return pieces;
}

/// Attention of one piece over the blocks that it has chosen.
PartialInput sparse_problem(const Tensor& q,
                            const Tensor& k,
                            const Tensor& v,
                            const Tensor& chosen,
                            const Piece& piece,
                            int64_t block_size,
                            double scale) {
  const int64_t n = piece.end - piece.begin;
  return {.q = q.narrow(2, piece.begin, n),
          .k = k.narrow(2, 0, piece.end),
          .v = v.narrow(2, 0, piece.end),
          .bias = hidden_bias(
              chosen.narrow(1, piece.begin, n), piece.begin, block_size, q.scalar_type()),
          .scale = scale,
          .bias_is_finite = true};
}

PartialInput full_problem(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  return {.q = q, .k = k, .v = v, .bias = {}, .is_causal = true, .scale = scale};
}

PartialOutput sparse_forward(const BlockRows& rows,
                             const Tensor& q,
                             const Tensor& k,
                             const Tensor& v,
                             const Tensor& chosen,
                             double scale) {
  const std::vector<Piece> pieces = pieces_of(rows, q.is_cuda());
  std::vector<Tensor> out, lse;
  for (const Piece& piece : pieces) {
    const PartialOutput part =
        partial_attention(sparse_problem(q, k, v, chosen, piece, rows.block_size, scale));
    out.push_back(part.out);
    lse.push_back(part.lse);
  }
  return {torch::cat(out, 2), torch::cat(lse, 2)};
}

/// Gradients of keys and values add up over pieces and streams, in float32 or better.
class Gradients {
 public:
  Gradients(const Tensor& q, const Tensor& k) {
    const auto wide = k.options().dtype(torch::promote_types(k.scalar_type(), torch::kFloat32));
    k_ = torch::zeros(k.sizes(), wide);
    v_ = torch::zeros(k.sizes(), wide);
    q_ = torch::zeros(q.sizes(), wide);
  }

  /// Of queries from `first_row` on, and of the keys [0, ...).
  void add(int64_t first_row, const PartialGradients& part) {
    q_.narrow(2, first_row, part.q.size(2)).add_(part.q);
    k_.narrow(2, 0, part.k.size(2)).add_(part.k);
    v_.narrow(2, 0, part.v.size(2)).add_(part.v);
  }

  const Tensor& q() const { return q_; }
  const Tensor& k() const { return k_; }
  const Tensor& v() const { return v_; }

 private:
  Tensor q_, k_, v_;
};

/// Outputs {full, sparse, kept}; those not asked for are empty.
class BlockSparseFunction : public torch::autograd::Function<BlockSparseFunction> {
 public:
  static variable_list forward(AutogradContext* context,
                               const Tensor& q_given,
                               const Tensor& k_given,
                               const Tensor& v_given,
                               const BlockRows& rows,
                               double scale,
                               const BlockOptions& options,
                               const BlockSparseStreams& streams) {
    const Tensor q = rows.fold_queries(q_given), k = rows.fold_keys(k_given),
                 v = rows.fold_keys(v_given);
    const auto none = [&] { return torch::empty({0}, q.options()); };
    PartialOutput full{none(), none()}, sparse{none(), none()};
    Tensor chosen = none(), kept = none();
    if (streams.full) {
      full = partial_attention(full_problem(q, k, v, scale));
    }
    if (streams.sparse) {
      chosen = choose_folded(rows, q, k, scale, options).to(torch::kInt32);
      sparse = sparse_forward(rows, q, k, v, chosen, scale);
    }
    if (streams.full && streams.sparse) {
      kept = rows.unfold((sparse.lse - full.lse).exp().clamp_max(1.0).unsqueeze(-1)).squeeze(-1);
    }
    context->save_for_backward({q, k, v, full.out, full.lse, sparse.out, sparse.lse, chosen});
    context->saved_data["scale"] = scale;
    context->saved_data["n_sequences"] = rows.n_sequences;
    context->saved_data["n"] = rows.n;
    context->saved_data["block_size"] = rows.block_size;
    context->set_materialize_grads(false);
    context->mark_non_differentiable({kept});
    return {streams.full ? rows.unfold(full.out) : none(),
            streams.sparse ? rows.unfold(sparse.out) : none(),
            kept};
  }

  static variable_list backward(AutogradContext* context, const variable_list& d_outputs) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &chosen = saved[7];
    const PartialOutput full{saved[3], saved[4]}, sparse{saved[5], saved[6]};
    const double scale = context->saved_data["scale"].toDouble();
    const int64_t n_sequences = context->saved_data["n_sequences"].toInt();
    const BlockRows rows(n_sequences,
                         context->saved_data["n"].toInt(),
                         k.size(0) / n_sequences,
                         q.size(1),
                         context->saved_data["block_size"].toInt(),
                         q.is_cuda());
    Gradients gradients(q, k);
    if (full.out.numel() > 0 && d_outputs[0].defined()) {
      gradients.add(0,
                    partial_attention_backward(
                        full_problem(q, k, v, scale), full, rows.fold_queries(d_outputs[0])));
    }
    if (sparse.out.numel() > 0 && d_outputs[1].defined()) {
      const Tensor d_out = rows.fold_queries(d_outputs[1]);
      for (const Piece& piece : pieces_of(rows, q.is_cuda())) {
        const auto cut = [&](const Tensor& x) {
          return x.narrow(2, piece.begin, piece.end - piece.begin).contiguous();
        };
        gradients.add(piece.begin,
                      partial_attention_backward(
                          sparse_problem(q, k, v, chosen, piece, rows.block_size, scale),
                          {cut(sparse.out), cut(sparse.lse)},
                          cut(d_out)));
      }
    }
    return {rows.unfold(gradients.q().to(q.scalar_type())),
            rows.unfold(gradients.k().to(k.scalar_type())),
            rows.unfold(gradients.v().to(v.scalar_type())),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor()};
  }
};

BlockRows rows_of(const BlockSparseInput& in, int64_t block_size) {
  TORCH_CHECK(in.q.dim() == 3 && in.k.dim() == 3 && in.k.sizes() == in.v.sizes() &&
                  in.q.size(0) == in.k.size(0) && in.n_sequences > 0 &&
                  in.q.size(0) % in.n_sequences == 0 && in.q.size(1) % in.k.size(1) == 0,
              "block-sparse attention: q ",
              in.q.sizes(),
              ", k ",
              in.k.sizes(),
              ", v ",
              in.v.sizes(),
              " of ",
              in.n_sequences,
              " sequences");
  return {in.n_sequences,
          in.q.size(0) / in.n_sequences,
          in.k.size(1),
          in.q.size(1) / in.k.size(1),
          block_size,
          in.q.is_cuda()};
}

}  // namespace

BlockSparseOutput block_sparse_attention(const BlockSparseInput& in,
                                         const BlockOptions& options,
                                         const BlockSparseStreams& streams) {
  check_block_options(options);
  const BlockRows rows = rows_of(in, options.block_size);
  const variable_list outputs =
      BlockSparseFunction::apply(in.q, in.k, in.v, rows, in.scale, options, streams);
  return {streams.full ? outputs[0] : Tensor(),
          streams.sparse ? outputs[1] : Tensor(),
          streams.full && streams.sparse ? outputs[2] : Tensor()};
}

Tensor chosen_blocks(const BlockSparseInput& in, const BlockOptions& options) {
  const torch::NoGradGuard no_grad;
  check_block_options(options);
  const BlockRows rows = rows_of(in, options.block_size);
  return choose_folded(rows, rows.fold_queries(in.q), rows.fold_keys(in.k), in.scale, options)
      .narrow(1, 0, rows.n);
}

}  // namespace ssa
