// The objectives written out: one sequence at a time, dense masks, whole tables of logits. What the
// objectives do not differentiate is evaluated once, at the parameters of that moment, and constant
// from then on: so differences of this function are what the gradients must be.
#pragma once

#include <algorithm>
#include <vector>

#include "gist/mask.h"
#include "selection/unfold_mask.h"
#include "training/objective.h"
#include "training/tiny_training.h"

namespace ssa {

/// Attends under masks, and keeps what it saw.
class DenseAttention : public AttentionContext {
 public:
  /// What each layer's queries see: [n_heads or 1, n, n] bool. May look at the layer's input.
  using MaskFn = std::function<Tensor(int64_t layer, const AttentionInput& in)>;
  explicit DenseAttention(MaskFn mask) : mask_(std::move(mask)) {}

  Tensor attend(int64_t layer, const AttentionInput& in) override {
    inputs.push_back(in);
    masks.push_back(mask_(layer, in));
    const int64_t group = in.q.size(1) / in.k.size(1);
    const auto heads = [](const Tensor& x, int64_t times) {
      return x.transpose(0, 1).repeat_interleave(times, 0);
    };
    const Tensor scores =
        torch::matmul(heads(in.q, 1), heads(in.k, group).transpose(1, 2)) * in.scale;
    const Tensor weights = scores.masked_fill(masks.back().logical_not(), -INFINITY).softmax(-1);
    return torch::matmul(weights, heads(in.v, group)).transpose(0, 1);
  }

  std::vector<AttentionInput> inputs;  // by layer
  std::vector<Tensor> masks;

 private:
  MaskFn mask_;
};

/// Means of a batch; 0 where not asked for and not at hand.
struct ObjectiveTerms {
  double lm = 0, cpt = 0, sft = 0, distill = 0, route = 0, align = 0, total = 0;
};

class DenseObjective {
 public:
  /// Refers to model and sequences. `teacher`: for distillation; null: the model as it is now.
  DenseObjective(CausalLM& model,
                 CausalLM* teacher,
                 const std::vector<TrainingSequence>& sequences,
                 const ObjectiveOptions& options,
                 const BatchCounts& counts)
      : model_(model), sequences_(sequences), options_(options), counts_(counts) {
    const torch::NoGradGuard no_grad;
    for (const TrainingSequence& sequence : sequences) {
      stopped_.push_back(stop(sequence, teacher == nullptr ? model : *teacher));
    }
  }

  ObjectiveTerms operator()() const {
    const torch::NoGradGuard no_grad;
    ObjectiveTerms sums;
    for (size_t i = 0; i < sequences_.size(); ++i) {
      add(sums, sequences_[i], stopped_[i]);
    }
    const ObjectiveWeights& weights = options_.weights;
    sums.lm /= counts_.targets;
    sums.cpt /= counts_.targets;
    sums.sft /= counts_.targets;
    sums.distill /= counts_.suffix_targets;
    sums.route /= counts_.sequences;
    sums.align /= counts_.raw_tokens;
    // Alignment brings the raw pass's cross entropy with it.
    const double lm_weight = weights.lm == 0 && weights.align > 0 ? 1 : weights.lm;
    sums.total = lm_weight * sums.lm + weights.cpt * sums.cpt + weights.sft * sums.sft +
                 weights.distill * sums.distill + weights.route * sums.route +
                 weights.align * sums.align;
    return sums;
  }

 private:
  struct Pass {
    Tensor hidden;
    std::vector<Tensor> layers;
    std::vector<AttentionInput> inputs;
    std::vector<Tensor> masks;
  };
  /// What has no gradient, of one sequence.
  struct Stopped {
    Tensor gist_mask;                     // [1, n, n]; the same at any parameters
    std::vector<Tensor> unfold_masks;     // by layer
    Tensor teacher_log_p;                 // [n_suffix_targets, vocab_size]
    std::vector<Tensor> raw_layers;       // by layer
    std::vector<AttentionInput> queries;  // by layer: q of the gist pass
    std::vector<Tensor> shares;  // by layer: routing's teacher, [n_heads, n_asking, n_taught]
  };

  static Tensor ids_tensor(const std::vector<int64_t>& values) {
    return torch::tensor(values, torch::kInt64);
  }

  static std::vector<int64_t> raw_tokens(const GistLayout& layout) {
    std::vector<int64_t> rows;
    for (int64_t t = 0; t < layout.n_tokens(); ++t) {
      if (layout.levels()[static_cast<size_t>(t)] == kRawLevel) {
        rows.push_back(t);
      }
    }
    return rows;
  }

  static Pass forward(CausalLM& model,
                      const Tensor& ids,
                      const Tensor& positions,
                      const DenseAttention::MaskFn& mask) {
    DenseAttention attention(mask);
    Pass pass;
    model.wrap_layers([&](int64_t, const Tensor& x, const CausalLM::LayerFn& run) {
      pass.layers.push_back(run(x));
      return pass.layers.back();
    });
    pass.hidden = model.forward(ids, positions, attention);
    model.wrap_layers({});
    pass.inputs = attention.inputs;
    pass.masks = attention.masks;
    return pass;
  }

  static Pass raw_pass(CausalLM& model, const GistLayout& layout) {
    const Tensor rows = ids_tensor(raw_tokens(layout)),
                 n = torch::ones({rows.size(0), rows.size(0)}, torch::kBool).tril();
    return forward(model,
                   ids_tensor({layout.ids().begin(), layout.ids().end()}).index_select(0, rows),
                   torch::arange(rows.size(0)),
                   [&](int64_t, const AttentionInput&) { return n.unsqueeze(0); });
  }

  Pass gist_pass(const GistLayout& layout, const DenseAttention::MaskFn& mask) const {
    return forward(model_,
                   ids_tensor({layout.ids().begin(), layout.ids().end()}),
                   ids_tensor({layout.positions().begin(), layout.positions().end()}),
                   mask);
  }

  Tensor gist_mask(const GistLayout& layout) const {
    const int64_t n = layout.n_tokens();
    return torch::tensor(dense_mask(layout, options_.rule), torch::kUInt8)
        .view({1, n, n})
        .to(torch::kBool);
  }

  /// Layer 0 and the prefix under the gist mask, the suffix over what it unfolds.
  Tensor unfolding(int64_t layer, const AttentionInput& in, const GistLayout& layout) const {
    const Tensor mask = gist_mask(layout).expand({in.q.size(1), -1, -1}).clone();
    const int64_t begin = layout.prefix_end();
    if (layer > 0 && begin > 0 && begin < layout.n_tokens()) {
      const Tensor seen = unfold_mask(
          in.q.slice(0, begin), in.k.transpose(0, 1), layout, options_.rule, options_.selection);
      mask.slice(1, begin).copy_(seen.repeat_interleave(in.q.size(1) / in.k.size(1), 0));
    }
    return mask;
  }

  /// {rows, raw rows that predict the same, targets}
  struct Targets {
    std::vector<int64_t> rows, raw_rows, ids;
  };
  static Targets targets_of(const TrainingSequence& sequence, bool suffix_alone) {
    Targets found;
    int64_t n_raw = 0;
    for (int64_t t = 0; t < sequence.layout.n_tokens(); ++t) {
      n_raw += sequence.layout.levels()[static_cast<size_t>(t)] == kRawLevel;
      const int64_t target = sequence.targets[static_cast<size_t>(t)];
      if (target != kNoTarget && (!suffix_alone || t + 1 >= sequence.layout.prefix_end())) {
        found.rows.push_back(t);
        found.raw_rows.push_back(n_raw - 1);
        found.ids.push_back(target);
      }
    }
    return found;
  }

  static Tensor log_p(CausalLM& model, const Tensor& hidden, const std::vector<int64_t>& rows) {
    return model.logits(hidden.index_select(0, ids_tensor(rows))).log_softmax(-1);
  }

  double cross_entropy(const Tensor& hidden,
                       const std::vector<int64_t>& rows,
                       const std::vector<int64_t>& ids) const {
    return -log_p(model_, hidden, rows)
                .gather(1, ids_tensor(ids).unsqueeze(1))
                .sum()
                .item<double>();
  }

  struct Routing {
    std::vector<int64_t> asking, taught;
    bool possible = false;
  };
  Routing routing_of(const GistLayout& layout) const {
    Routing routing;
    const int64_t begin = layout.prefix_end(), n = layout.n_tokens() - begin,
                  taken = std::min(n, options_.route_queries);
    for (int64_t i = 0; begin > 0 && i < taken; ++i) {
      routing.asking.push_back(begin + (i + 1) * n / taken - 1);
    }
    for (const int64_t t : raw_tokens(layout)) {
      if (t >= sink_end(layout, options_.rule) && t < begin) {
        routing.taught.push_back(t);
      }
    }
    routing.possible = begin > 0 && n > 0 && !routing.taught.empty() && layout.n_gists(0) >= 2;
    return routing;
  }

  /// [n_heads, n_queries, n_keys]
  static Tensor scores(const Tensor& q,
                       const Tensor& k,
                       const std::vector<int64_t>& asking,
                       const std::vector<int64_t>& keys,
                       double scale) {
    const Tensor rows = q.index_select(0, ids_tensor(asking)).transpose(0, 1);
    const Tensor columns = k.index_select(0, ids_tensor(keys))
                               .transpose(0, 1)
                               .repeat_interleave(q.size(1) / k.size(1), 0);
    return torch::matmul(rows, columns.transpose(1, 2)) * scale;
  }

  double routing_loss(const GistLayout& layout,
                      const Routing& routing,
                      const Tensor& share,
                      const Tensor& q,
                      const AttentionInput& in) const {
    double sum = 0;
    int n_levels = 0;
    for (int level = 0; level < layout.n_levels() && layout.n_gists(level) >= 2;
         ++level, ++n_levels) {
      Tensor teacher =
          torch::zeros({share.size(0), share.size(1), layout.n_gists(level)}, torch::kFloat64);
      for (size_t i = 0; i < routing.taught.size(); ++i) {
        teacher.select(2, layout.chunk_of(level, routing.taught[i]))
            .add_(share.select(2, static_cast<int64_t>(i)));
      }
      const auto gists = layout.gists(level);
      const Tensor student =
          scores(q, in.k, routing.asking, {gists.begin(), gists.end()}, in.scale).log_softmax(-1);
      sum += (torch::xlogy(teacher, teacher) - teacher * student).sum(-1).mean().item<double>();
    }
    return sum / n_levels;
  }

  Stopped stop(const TrainingSequence& sequence, CausalLM& teacher) const {
    const GistLayout& layout = sequence.layout;
    Stopped stopped;
    stopped.gist_mask = gist_mask(layout);
    stopped.unfold_masks = gist_pass(layout, [&](int64_t layer, const AttentionInput& in) {
                             return unfolding(layer, in, layout);
                           }).masks;
    stopped.teacher_log_p =
        log_p(teacher, raw_pass(teacher, layout).hidden, targets_of(sequence, true).raw_rows);
    stopped.raw_layers = raw_pass(model_, layout).layers;
    stopped.queries =
        gist_pass(layout, [&](int64_t, const AttentionInput&) { return stopped.gist_mask; }).inputs;
    const Routing routing = routing_of(layout);
    for (const AttentionInput& in : stopped.queries) {
      stopped.shares.push_back(
          routing.possible
              ? scores(in.q, in.k, routing.asking, routing.taught, in.scale).softmax(-1)
              : Tensor());
    }
    return stopped;
  }

  void add(ObjectiveTerms& sums, const TrainingSequence& sequence, const Stopped& stopped) const {
    const GistLayout& layout = sequence.layout;
    const ObjectiveWeights& weights = options_.weights;
    const Targets all = targets_of(sequence, false), suffix = targets_of(sequence, true);
    const auto distilled = [&](const Pass& pass) {
      const Tensor student = log_p(model_, pass.hidden, suffix.rows);
      return (stopped.teacher_log_p.exp() * (stopped.teacher_log_p - student)).sum().item<double>();
    };
    if (weights.lm > 0 || weights.align > 0) {
      sums.lm += cross_entropy(raw_pass(model_, layout).hidden, all.raw_rows, all.ids);
    }
    if (weights.cpt > 0 || weights.route > 0 || weights.align > 0 ||
        (weights.distill > 0 && !options_.distill_unfolds)) {
      const Pass gists =
          gist_pass(layout, [&](int64_t, const AttentionInput&) { return stopped.gist_mask; });
      sums.cpt += cross_entropy(gists.hidden, all.rows, all.ids);
      sums.align += alignment(layout, gists, stopped);
      sums.route += routing(layout, gists, stopped);
      sums.distill += options_.distill_unfolds ? 0.0 : distilled(gists);
    }
    if (weights.sft > 0 || (weights.distill > 0 && options_.distill_unfolds)) {
      const Pass unfolded = gist_pass(layout, [&](int64_t layer, const AttentionInput&) {
        return stopped.unfold_masks[static_cast<size_t>(layer)];
      });
      sums.sft += cross_entropy(unfolded.hidden, all.rows, all.ids);
      sums.distill += options_.distill_unfolds ? distilled(unfolded) : 0.0;
    }
  }

  static double alignment(const GistLayout& layout, const Pass& gists, const Stopped& stopped) {
    const Tensor raw = ids_tensor(raw_tokens(layout));
    double sum = 0;
    for (size_t i = 0; i < gists.layers.size(); ++i) {
      const Tensor distance = (gists.layers[i].index_select(0, raw) - stopped.raw_layers[i]).abs();
      sum += torch::where(distance < 1, distance.square() / 2, distance - 0.5).sum().item<double>();
    }
    return sum / static_cast<double>(gists.layers.size());
  }

  double routing(const GistLayout& layout, const Pass& gists, const Stopped& stopped) const {
    const Routing routing = routing_of(layout);
    double sum = 0;
    for (size_t i = 1; routing.possible && i < gists.inputs.size(); ++i) {
      sum +=
          routing_loss(layout, routing, stopped.shares[i], stopped.queries[i].q, gists.inputs[i]);
    }
    return sum / static_cast<double>(gists.inputs.size() - 1);
  }

  CausalLM& model_;
  const std::vector<TrainingSequence>& sequences_;
  ObjectiveOptions options_;
  BatchCounts counts_;
  std::vector<Stopped> stopped_;
};

}  // namespace ssa
