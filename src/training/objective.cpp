#include "training/objective.h"

#include <utility>
#include <vector>

#include "training/linear_loss.h"

namespace ssa {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A layer and what it adds to the routing loss: {hidden states, loss or zero}.
using LayerRun = std::function<std::pair<Tensor, Tensor>(const Tensor&)>;

/// Forward without a graph; backward runs the layer again with one (arXiv 1604.06174).
class RecomputedLayer : public torch::autograd::Function<RecomputedLayer> {
 public:
  static variable_list forward(AutogradContext* context,
                               const Tensor& x,
                               const std::shared_ptr<LayerRun>& run) {
    const torch::NoGradGuard no_grad;
    auto [y, loss] = (*run)(x);
    context->save_for_backward({x});
    context->saved_data["run"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(run));
    return {y, loss};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor x = context->get_saved_variables()[0].detach().requires_grad_(true);
    const auto holder =
        c10::static_intrusive_pointer_cast<Holder>(context->saved_data["run"].toCapsule());
    {
      const torch::AutoGradMode with_grad(true);
      auto [y, loss] = (*holder->run)(x);
      variable_list outputs{y}, wanted{gradients[0]};
      if (loss.requires_grad()) {
        outputs.push_back(loss);
        wanted.push_back(gradients[1]);
      }
      torch::autograd::backward(outputs, wanted);
    }
    return {x.grad(), Tensor()};
  }

 private:
  struct Holder : torch::CustomClassHolder {
    explicit Holder(std::shared_ptr<LayerRun> of) : run(std::move(of)) {}
    std::shared_ptr<LayerRun> run;
  };
};

Tensor zero_like(const Tensor& x) {
  return torch::zeros({},
                      x.options().dtype(torch::promote_types(x.scalar_type(), torch::kFloat32)));
}

/// Layers run as they are again at the end of a pass.
class WrappedLayers {
 public:
  WrappedLayers(CausalLM& model, CausalLM::LayerWrapper wrapper) : model_(model) {
    model_.wrap_layers(std::move(wrapper));
  }
  ~WrappedLayers() { model_.wrap_layers({}); }
  WrappedLayers(const WrappedLayers&) = delete;
  WrappedLayers& operator=(const WrappedLayers&) = delete;

 private:
  CausalLM& model_;
};

Tensor cross_entropy(const CausalLM& model, const Tensor& hidden, const Batch& batch) {
  return linear_cross_entropy(
      hidden.index_select(0, batch.target_rows), model.output_weight(), batch.target_ids);
}

/// Rows of raw tokens, in their order.
Tensor raw_rows_of(const Batch& batch) {
  std::vector<int64_t> rows;
  for (const SequenceGroup& group : batch.groups) {
    for (int64_t i = 0; i < group.n_rows(); ++i) {
      if (group.layout.levels()[static_cast<size_t>(i % group.layout.n_tokens())] == kRawLevel) {
        rows.push_back(group.first_row + i);
      }
    }
  }
  return torch::tensor(rows, torch::kInt64).to(batch.ids.device());
}

/// Mean over layers of the smooth L1 distance, summed over features, averaged over raw tokens
/// (spec, section 5).
Tensor alignment(const std::vector<Tensor>& raw,
                 const std::vector<Tensor>& gist,
                 const Tensor& gist_rows) {
  Tensor sum;
  for (size_t i = 0; i < raw.size(); ++i) {
    const Tensor a =
        raw[i].detach().to(torch::promote_types(raw[i].scalar_type(), torch::kFloat32));
    const Tensor b = gist[i].index_select(0, gist_rows).to(a.scalar_type());
    const Tensor distance = torch::smooth_l1_loss(b, a, at::Reduction::Sum);
    sum = sum.defined() ? sum + distance : distance;
  }
  return sum / static_cast<double>(raw.size());
}

}  // namespace

BatchCounts count(const Batch& batch) {
  return {static_cast<double>(batch.n_targets()),
          static_cast<double>(batch.in_suffix.sum().item<int64_t>()),
          static_cast<double>(batch.n_sequences),
          static_cast<double>(batch.n_raw)};
}

struct Objective::Pass {
  Tensor hidden;  // [n_rows, hidden_size]
  Tensor route;   // sum over sequences of the mean over layers; undefined if there is none
  std::vector<Tensor> layers;  // each layer's output, if asked for
};

Objective::Objective(CausalLM& model,
                     std::shared_ptr<CausalLM> teacher,
                     const ObjectiveOptions& options)
    : model_(model), teacher_(std::move(teacher)), options_(options) {}

Objective::Pass Objective::forward(const Batch& batch,
                                   const TrainingAttentionOptions& attention,
                                   bool keeps_hidden) {
  // Layers computed again in the backward pass need the context as long as the graph lives.
  const auto context = std::make_shared<TrainingAttention>(batch, attention);
  Pass pass;
  std::vector<Tensor> route;
  const bool recomputes = options_.recompute_layers && torch::GradMode::is_enabled();
  const WrappedLayers wrapped(
      model_, [&](int64_t, const Tensor& x, const CausalLM::LayerFn& layer) {
        const LayerRun run = [context, layer](const Tensor& in) -> std::pair<Tensor, Tensor> {
          const Tensor out = layer(in);
          const Tensor loss = context->take_route_loss();
          return {out, loss.defined() ? loss : zero_like(out)};
        };
        Tensor y, loss;
        if (recomputes) {
          const variable_list outputs = RecomputedLayer::apply(x, std::make_shared<LayerRun>(run));
          y = outputs[0];
          loss = outputs[1];
        } else {
          std::tie(y, loss) = run(x);
        }
        route.push_back(loss);
        if (keeps_hidden) {
          pass.layers.push_back(y);
        }
        return y;
      });
  pass.hidden = model_.forward(batch.ids, batch.positions, *context);
  if (attention.route_queries > 0 && route.size() > 1) {  // layer 0 has none
    pass.route = torch::stack(route).sum() / static_cast<double>(route.size() - 1);
  }
  return pass;
}

Losses Objective::run(const Batch& batch, const BatchCounts& counts) {
  const ObjectiveWeights& weights = options_.weights;
  Losses losses;
  std::vector<Tensor> graph;  // what total is the sum of
  const auto add = [&](Tensor& kept, double weight, const Tensor& loss, double divisor) {
    const Tensor mean = loss / std::max(divisor, 1.0);
    kept = mean.detach();
    graph.push_back(mean * weight);
  };
  const TrainingAttentionOptions full{TrainingMode::kFull, options_.rule, {}, 0};
  const TrainingAttentionOptions gists{
      TrainingMode::kGists, options_.rule, {}, weights.route > 0 ? options_.route_queries : 0};
  const TrainingAttentionOptions unfolding{
      TrainingMode::kUnfold, options_.rule, options_.selection, 0};
  const bool distills = weights.distill > 0;
  std::optional<Batch> raw;
  if (weights.lm > 0 || weights.align > 0 || distills) {
    raw = raw_only(batch);
  }

  Pass raw_pass;
  if (weights.lm > 0 || weights.align > 0) {
    raw_pass = forward(*raw, full, weights.align > 0);
    // With alignment both passes' cross entropies count alike.
    const double weight = weights.lm > 0 ? weights.lm : 1.0;
    add(losses.lm, weight, cross_entropy(model_, raw_pass.hidden, *raw), counts.targets);
  }
  Tensor teacher_rows, student_rows;
  if (distills) {
    const torch::NoGradGuard no_grad;
    TrainingAttention context(*raw, full);
    const Tensor hidden =
        (teacher_ ? *teacher_ : model_).forward(raw->ids, raw->positions, context);
    teacher_rows = hidden.index_select(0, batch.raw_rows.masked_select(batch.in_suffix));
    student_rows = batch.target_rows.masked_select(batch.in_suffix);
  }
  const auto add_distillation = [&](const Tensor& hidden) {
    const Tensor& weight = model_.output_weight();
    add(losses.distill,
        weights.distill,
        linear_distillation(hidden.index_select(0, student_rows),
                            weight,
                            teacher_rows,
                            teacher_ ? teacher_->output_weight() : weight),
        counts.suffix_targets);
  };
  const bool gist_student = distills && !options_.distill_unfolds,
             unfolding_student = distills && options_.distill_unfolds;
  if (weights.cpt > 0 || weights.route > 0 || weights.align > 0 || gist_student) {
    const Pass pass = forward(batch, gists, weights.align > 0);
    if (weights.cpt > 0) {
      add(losses.cpt, weights.cpt, cross_entropy(model_, pass.hidden, batch), counts.targets);
    }
    if (pass.route.defined()) {
      add(losses.route, weights.route, pass.route, counts.sequences);
    }
    if (weights.align > 0) {
      add(losses.align,
          weights.align,
          alignment(raw_pass.layers, pass.layers, raw_rows_of(batch)),
          counts.raw_tokens);
    }
    if (gist_student) {
      add_distillation(pass.hidden);
    }
  }
  if (weights.sft > 0 || unfolding_student) {
    const Pass pass = forward(batch, unfolding, false);
    if (weights.sft > 0) {
      add(losses.sft, weights.sft, cross_entropy(model_, pass.hidden, batch), counts.targets);
    }
    if (unfolding_student) {
      add_distillation(pass.hidden);
    }
  }
  Tensor total = zero_like(model_.output_weight().detach());
  for (const Tensor& part : graph) {
    total = total + part;
  }
  if (total.requires_grad()) {  // sequences without gists have nothing to route
    total.backward();
  }
  losses.total = total.detach();
  return losses;
}

Tensor Objective::evaluate(const Batch& batch, const TrainingAttentionOptions& attention) {
  const torch::NoGradGuard no_grad;
  const Batch raw = attention.mode == TrainingMode::kFull ? raw_only(batch) : Batch();
  const Batch& read = attention.mode == TrainingMode::kFull ? raw : batch;
  TrainingAttention context(read, attention);
  const Tensor hidden = model_.forward(read.ids, read.positions, context);
  const Tensor rows = read.target_rows.masked_select(read.in_suffix),
               ids = read.target_ids.masked_select(read.in_suffix);
  const Tensor nll =
      linear_cross_entropy(hidden.index_select(0, rows), model_.output_weight(), ids);
  return torch::stack({nll.to(torch::kFloat64),
                       torch::full_like(nll, static_cast<double>(ids.numel()), torch::kFloat64)});
}

}  // namespace ssa
