#include "training/training_attention.h"

#include <ATen/ops/_flash_attention_forward.h>

#include <algorithm>
#include <numeric>

#include "attention/gist_mask_attention.h"
#include "attention/window_part.h"
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

std::vector<UnfoldedSequence> sequences_to_unfold(const Batch& batch) {
  std::vector<UnfoldedSequence> sequences;
  for (const SequenceGroup& group : batch.groups) {
    const int64_t n = group.layout.n_tokens(), prefix = group.layout.prefix_end();
    for (int64_t i = 0; prefix > 0 && prefix < n && i < group.n_sequences; ++i) {
      sequences.push_back({&group.layout, group.first_row + i * n});
    }
  }
  return sequences;
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
  if (options_.mode == TrainingMode::kFull) {
    return by_groups(in, [&](const AttentionInput& rows, const SequenceGroup& group) {
      return attend_fully(rows, group.n_sequences);
    });
  }
  const Tensor out =
      batch_.together && serves_windows(in.q, options_.rule.sink)
          ? gist_mask_attention(in.q, in.k, in.v, batch_.together, in.scale)
          : by_groups(in, [&](const AttentionInput& rows, const SequenceGroup& group) {
              return gist_mask_attention(rows.q, rows.k, rows.v, group.plan, in.scale);
            });
  return options_.mode == TrainingMode::kUnfold && layer > 0 ? unfolding(in).attend(in, out) : out;
}

template <class Fn>
Tensor TrainingAttention::by_groups(const AttentionInput& in, const Fn& attend_group) const {
  std::vector<Tensor> outputs;
  for (const SequenceGroup& group : batch_.groups) {
    outputs.push_back(attend_group(rows_of(in, group.first_row, group.n_rows()), group));
  }
  return outputs.size() == 1 ? outputs[0] : torch::cat(outputs);
}

const SuffixUnfolding& TrainingAttention::unfolding(const AttentionInput& in) {
  if (!unfolding_) {
    unfolding_ = std::make_unique<const SuffixUnfolding>(sequences_to_unfold(batch_),
                                                         options_.rule,
                                                         options_.selection,
                                                         in.k.size(1),
                                                         in.q.size(1) / in.k.size(1),
                                                         in.q.device());
  }
  return *unfolding_;
}

Tensor TrainingAttention::take_layer_loss() {
  return std::exchange(route_loss_, Tensor());
}

}  // namespace ssa
