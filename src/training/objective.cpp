#include "training/objective.h"

#include <torch/autograd.h>
#include <algorithm>
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

OutputRows output_of(const CausalLM& model) {
  return {model.output_weight(), model.output_tail()};
}

Tensor cross_entropy(const CausalLM& model, const Tensor& hidden, const Batch& batch) {
  return linear_cross_entropy(
      hidden.index_select(0, batch.target_rows), output_of(model), batch.target_ids);
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

/// Sparse attention alone, with a budget of its own where n_blocks is above 0.
SparseSparseOptions sparse_mode(SparseSparseOptions options, int64_t n_blocks) {
  options.alignment = Alignment::kNone;
  if (n_blocks > 0) {
    options.blocks.n_blocks = n_blocks;
  }
  return options;
}

}  // namespace

BatchCounts count(const Batch& batch) {
  return {static_cast<double>(batch.n_targets()),
          static_cast<double>(batch.in_suffix.sum().item<int64_t>()),
          static_cast<double>(batch.n_sequences),
          static_cast<double>(batch.n_raw)};
}

struct Objective::Pass {
  Tensor hidden;        // [n_rows, hidden_size]
  Tensor layer_losses;  // [n_layers]; 0 where a layer has none
  Tensor route;         // sum over sequences of the mean over layers; undefined if there is none
  std::vector<Tensor> layers;  // each layer's output, if asked for
};

Objective::Objective(CausalLM& model,
                     std::shared_ptr<CausalLM> teacher,
                     const ObjectiveOptions& options,
                     std::shared_ptr<LowRankSwitch> adapter)
    : model_(model),
      teacher_(std::move(teacher)),
      adapter_(std::move(adapter)),
      options_(options) {}

Objective::Pass Objective::forward(const Batch& batch,
                                   const TrainingAttentionOptions& attention,
                                   bool keeps_hidden) {
  Pass pass = forward(batch, std::make_shared<TrainingAttention>(batch, attention), keeps_hidden);
  const int64_t n_layers = pass.layer_losses.size(0);
  if (attention.routes && n_layers > 1) {  // layer 0 has none
    pass.route = pass.layer_losses.sum() / static_cast<double>(n_layers - 1);
  }
  return pass;
}

/// Layers computed again in the backward pass need the context as long as the graph lives.
Objective::Pass Objective::forward(const Batch& batch,
                                   const std::shared_ptr<TrainingContext>& context,
                                   bool keeps_hidden) {
  Pass pass;
  std::vector<Tensor> losses;
  const bool recomputes = options_.recompute_layers && torch::GradMode::is_enabled();
  const WrappedLayers wrapped(
      model_, [&](int64_t, const Tensor& x, const CausalLM::LayerFn& layer) {
        const LayerRun run = [context, layer](const Tensor& in) -> std::pair<Tensor, Tensor> {
          const Tensor out = layer(in);
          const Tensor loss = context->take_layer_loss();
          return {out, loss.defined() ? loss : zero_like(out)};
        };
        Tensor y, loss;
        if (recomputes) {
          // Behind a frozen embedding the first layer's input asks for no gradient, and its inside
          // would not be visited.
          const Tensor in = x.requires_grad() ? x : x.detach().requires_grad_(true);
          const variable_list outputs = RecomputedLayer::apply(in, std::make_shared<LayerRun>(run));
          y = outputs[0];
          loss = outputs[1];
        } else {
          std::tie(y, loss) = run(x);
        }
        losses.push_back(loss);
        if (keeps_hidden) {
          pass.layers.push_back(y);
        }
        return y;
      });
  pass.hidden = model_.forward(batch.ids, batch.positions, *context);
  pass.layer_losses = torch::stack(losses);
  return pass;
}

Tensor Objective::run_streams(const Batch& raw, const BatchCounts& counts, Losses& losses) {
  const SparseSparseOptions& sparse = options_.sparse;
  const std::vector<Stream> streams =
      draw_streams(sparse, raw.row_number, model_.config().n_layers);
  const auto context = std::make_shared<StreamAttention>(raw, sparse, streams);
  const Pass pass = forward(raw, context, false);
  const double targets = std::max(counts.targets, 1.0), tokens = std::max(counts.raw_tokens, 1.0);
  Tensor total = cross_entropy(model_, pass.hidden, raw) / targets;
  losses.ce = total.detach();
  if (std::all_of(streams.begin(), streams.end(), [&](Stream s) { return s == streams[0]; })) {
    const bool full = streams[0] == Stream::kFull;
    (full ? losses.full : losses.sparse) = losses.ce;
    (full ? losses.full_targets : losses.sparse_targets) =
        static_cast<double>(raw.n_targets()) / targets;
  }
  if (sparse.aligns()) {
    const Tensor alignment = pass.layer_losses.mean() / tokens;
    losses.alignment = alignment.detach();
    losses.kept = context->kept() * (static_cast<double>(raw.n_raw) / tokens);
    total = total + alignment * sparse.alignment_weight;
  }
  return total;
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
  const TrainingAttentionOptions full{TrainingMode::kFull, options_.rule, {}, false};
  const TrainingAttentionOptions gists{TrainingMode::kGists, options_.rule, {}, weights.route > 0};
  const TrainingAttentionOptions unfolding{
      TrainingMode::kUnfold, options_.rule, options_.selection, false};
  const bool distills = weights.distill > 0;
  std::optional<Batch> raw;
  if (weights.lm > 0 || weights.align > 0 || distills || weights.sparse_sparse > 0) {
    raw = raw_only(batch);
  }
  if (weights.sparse_sparse > 0) {
    graph.push_back(run_streams(*raw, counts, losses) * weights.sparse_sparse);
  }

  Pass raw_pass;
  if (weights.lm > 0 || weights.align > 0) {
    raw_pass = forward(*raw, full, weights.align > 0);
    // With alignment both passes' cross entropies count alike.
    const double weight = weights.lm > 0 ? weights.lm : 1.0;
    add(losses.lm, weight, cross_entropy(model_, raw_pass.hidden, *raw), counts.targets);
  }
  Tensor teacher_rows, student_rows;
  std::optional<OutputRows> teacher_output;
  if (distills) {
    const torch::NoGradGuard no_grad;
    const SwitchedOff base(teacher_ ? nullptr : adapter_);
    CausalLM& teacher = teacher_ ? *teacher_ : model_;
    TrainingAttention context(*raw, full);
    const Tensor hidden = teacher.forward(raw->ids, raw->positions, context);
    teacher_output = output_of(teacher);
    teacher_rows = hidden.index_select(0, batch.raw_rows.masked_select(batch.in_suffix));
    student_rows = batch.target_rows.masked_select(batch.in_suffix);
  }
  const auto add_distillation = [&](const Tensor& hidden) {
    add(losses.distill,
        weights.distill,
        linear_distillation(
            hidden.index_select(0, student_rows), output_of(model_), teacher_rows, *teacher_output),
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
  const bool sparse = attention.mode == TrainingMode::kSparse;
  const bool is_raw = sparse || attention.mode == TrainingMode::kFull;
  const Batch raw = is_raw ? raw_only(batch) : Batch();
  const Batch& read = is_raw ? raw : batch;
  std::unique_ptr<TrainingContext> context;
  if (sparse) {
    const std::vector<Stream> streams(static_cast<size_t>(model_.config().n_layers),
                                      Stream::kSparse);
    context = std::make_unique<StreamAttention>(
        read, sparse_mode(options_.sparse, attention.n_blocks), streams);
  } else {
    context = std::make_unique<TrainingAttention>(read, attention);
  }
  const Tensor hidden = model_.forward(read.ids, read.positions, *context);
  const Tensor rows = read.target_rows.masked_select(read.in_suffix),
               ids = read.target_ids.masked_select(read.in_suffix);
  const Tensor nll = linear_cross_entropy(hidden.index_select(0, rows), output_of(model_), ids);
  return torch::stack({nll.to(torch::kFloat64),
                       torch::full_like(nll, static_cast<double>(ids.numel()), torch::kFloat64)});
}

}  // namespace ssa
