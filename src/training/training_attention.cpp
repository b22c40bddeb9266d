#include "training/training_attention.h"

#include <ATen/ops/_flash_attention_forward.h>

#include <algorithm>
#include <numeric>

#include "attention/gist_mask_attention.h"
#include "attention/visible_attention.h"
#include "attention/window_part.h"
#include "selection/unfold_mask.h"
#include "training/route_loss.h"

namespace ssa {
namespace {

/// Rows of one group, for every sequence.
AttentionInput rows_of(const AttentionInput& in, int64_t first, int64_t n) {
  return {in.q.narrow(0, first, n), in.k.narrow(0, first, n), in.v.narrow(0, first, n), in.scale};
}

/// Plain causal attention of sequences of equal length.
Tensor attend_fully(const AttentionInput& in, int64_t n_sequences) {
  const auto heads = [&](const Tensor& x) {
    return x.unflatten(0, {n_sequences, -1}).transpose(1, 2);
  };
  const int64_t group = in.q.size(1) / in.k.size(1);
  if (in.q.is_cuda() && in.q.scalar_type() == torch::kBFloat16) {
    const auto result = at::_scaled_dot_product_cudnn_attention(heads(in.q),
                                                                heads(in.k),
                                                                heads(in.v),
                                                                {},
                                                                /*compute_log_sumexp=*/true,
                                                                0.0,
                                                                /*is_causal=*/true,
                                                                false,
                                                                in.scale);
    return std::get<0>(result).transpose(1, 2).flatten(0, 1);
  }
  const auto shared = [&](const Tensor& x) { return heads(x).repeat_interleave(group, 1); };
  return torch::scaled_dot_product_attention(
             heads(in.q), shared(in.k), shared(in.v), {}, 0.0, /*is_causal=*/true, in.scale)
      .transpose(1, 2)
      .flatten(0, 1);
}

/// The same of sequences of many lengths, on CUDA: cuDNN would prepare itself for each.
Tensor attend_fully_at_once(const AttentionInput& in, const Batch& batch) {
  return std::get<0>(at::_flash_attention_forward(in.q,
                                                  in.k,
                                                  in.v,
                                                  batch.offsets,
                                                  batch.offsets,
                                                  batch.longest,
                                                  batch.longest,
                                                  /*dropout_p=*/0.0,
                                                  /*is_causal=*/true,
                                                  /*return_debug_mask=*/false,
                                                  in.scale));
}

/// Attention under a mask, [n_kv_heads, n_rows, n_keys] bool. q: [n_rows, n_heads, head_dim]; k, v:
/// [n_keys, n_kv_heads, head_dim].
Tensor attend_under(const AttentionInput& in, const Tensor& visible) {
  const int64_t group = in.q.size(1) / in.k.size(1);
  const auto heads = [](const Tensor& x) { return x.transpose(0, 1).unsqueeze(0); };
  const auto shared = [&](const Tensor& x) { return heads(x.repeat_interleave(group, 1)); };
  const Tensor out = visible_attention(heads(in.q),
                                       shared(in.k),
                                       shared(in.v),
                                       visible.repeat_interleave(group, 0).unsqueeze(0),
                                       in.scale);
  return out.squeeze(0).transpose(0, 1);
}

/// The suffix of one sequence, over what it unfolds.
Tensor unfold_suffix(const AttentionInput& in, const SequenceGroup& group, const UnfoldMask& mask) {
  const int64_t prefix = group.layout.prefix_end();
  const Tensor q = in.q.narrow(0, prefix, group.layout.n_tokens() - prefix);
  const Tensor visible = mask.attended(q.detach(), in.k.transpose(0, 1).detach());
  return attend_under({q, in.k, in.v, in.scale}, visible);
}

/// One sequence's prefix under the gist mask.
Tensor attend_prefix(const AttentionInput& in, const SequenceGroup& group) {
  const AttentionInput prefix = rows_of(in, 0, group.layout.prefix_end());
  return gist_mask_attention(prefix.q, prefix.k, prefix.v, group.prefix, in.scale);
}

bool has_suffix_to_unfold(const SequenceGroup& group) {
  return group.prefix && group.layout.prefix_end() > 0 &&
         group.layout.prefix_end() < group.layout.n_tokens();
}

}  // namespace

TrainingAttention::TrainingAttention(const Batch& batch, const TrainingAttentionOptions& options)
    : batch_(batch), options_(options) {}

Tensor TrainingAttention::attend(int64_t layer, const AttentionInput& in) {
  route_loss_ = Tensor();
  if (options_.routes && layer > 0 && !batch_.routes.levels.empty()) {
    route_loss_ = route_loss(in, batch_.routes);
  }
  if (options_.mode == TrainingMode::kFull && batch_.groups.size() > 1 && in.q.is_cuda() &&
      in.q.scalar_type() == torch::kBFloat16) {
    return attend_fully_at_once(in, batch_);
  }
  const bool unfolds = options_.mode == TrainingMode::kUnfold && layer > 0;
  Tensor together;  // all rows under the gist mask, where the device attends them at once
  if (options_.mode != TrainingMode::kFull && batch_.together &&
      serves_windows(in.q, options_.rule.sink)) {
    together = gist_mask_attention(in.q, in.k, in.v, batch_.together, in.scale);
    if (!unfolds) {
      return together;
    }
  }
  std::vector<Tensor> outputs;
  for (const SequenceGroup& group : batch_.groups) {
    const AttentionInput rows = rows_of(in, group.first_row, group.n_rows());
    if (options_.mode == TrainingMode::kFull) {
      outputs.push_back(attend_fully(rows, group.n_sequences));
    } else if (unfolds && has_suffix_to_unfold(group)) {
      const UnfoldMask& mask = mask_of(group, in);
      const int64_t n = group.layout.n_tokens(), prefix = group.layout.prefix_end();
      for (int64_t i = 0; i < group.n_sequences; ++i) {
        const AttentionInput sequence = rows_of(rows, i * n, n);
        outputs.push_back(together.defined() ? together.narrow(0, group.first_row + i * n, prefix)
                                             : attend_prefix(sequence, group));
        outputs.push_back(unfold_suffix(sequence, group, mask));
      }
    } else if (together.defined()) {
      outputs.push_back(together.narrow(0, group.first_row, group.n_rows()));
    } else {
      outputs.push_back(gist_mask_attention(rows.q, rows.k, rows.v, group.plan, in.scale));
    }
  }
  return outputs.size() == 1 ? outputs[0] : torch::cat(outputs);
}

const UnfoldMask& TrainingAttention::mask_of(const SequenceGroup& group, const AttentionInput& in) {
  std::unique_ptr<UnfoldMask>& mask = masks_[group.first_row];
  if (!mask) {
    const int64_t n = group.layout.n_tokens();
    mask = std::make_unique<UnfoldMask>(ChunkView{group.layout, true},
                                        options_.rule,
                                        options_.selection,
                                        SuffixQueries{{group.layout.prefix_end(), n}, n},
                                        in.q.size(1) / in.k.size(1),
                                        in.q.device());
  }
  return *mask;
}

Tensor TrainingAttention::take_layer_loss() {
  return std::exchange(route_loss_, Tensor());
}

}  // namespace ssa
