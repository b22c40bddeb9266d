#include "nn/low_rank.h"

#include <optional>

namespace ssa {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Blocks = std::vector<LowRank::Block>;

/// y += z B^T, block by block. z is scaled already.
void add_products(
    const Tensor& y, const Tensor& z, const Tensor& b, const Blocks& blocks, int64_t rank) {
  for (const LowRank::Block& block : blocks) {
    y.narrow(1, block.first_out, block.n_out)
        .addmm_(z.narrow(1, block.first_rank, rank), b.narrow(0, block.first_row, block.n_out).t());
  }
}

/// Base product and updates as one step of the graph: no gradient of W is made, and every gradient
/// is added up by the product that makes it.
class AdaptedLinear : public torch::autograd::Function<AdaptedLinear> {
 public:
  static Tensor forward(AutogradContext* context,
                        const Tensor& x,
                        const Tensor& weight,
                        const std::optional<Tensor>& bias,  // no graph takes undefined tensors
                        const Tensor& a,
                        const Tensor& b,
                        double scale,
                        const std::shared_ptr<const Blocks>& blocks) {
    const torch::NoGradGuard no_grad;
    const int64_t rank = b.size(1);
    Tensor y = torch::linear(x, weight, bias);
    const Tensor z = torch::mm(x, a.t()).mul_(scale);
    add_products(y, z, b, *blocks, rank);
    context->save_for_backward({x, weight, a, b, z});
    context->saved_data["scale"] = scale;
    context->saved_data["blocks"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(blocks));
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &a = saved[2], &b = saved[3], &z = saved[4];
    const auto holder =
        c10::static_intrusive_pointer_cast<Holder>(context->saved_data["blocks"].toCapsule());
    const Tensor dy = gradients[0].contiguous();
    const Tensor dz = torch::empty_like(z), db = torch::empty_like(b);
    for (const LowRank::Block& block : *holder->blocks) {
      const Tensor dy_part = dy.narrow(1, block.first_out, block.n_out);
      Tensor dz_part = dz.narrow(1, block.first_rank, b.size(1)),
             db_part = db.narrow(0, block.first_row, block.n_out);
      torch::mm_out(dz_part, dy_part, b.narrow(0, block.first_row, block.n_out));
      torch::mm_out(db_part, dy_part.t(), z.narrow(1, block.first_rank, b.size(1)));
    }
    dz.mul_(context->saved_data["scale"].toDouble());
    Tensor dx;
    if (context->needs_input_grad(0)) {
      dx = torch::mm(dy, weight).addmm_(dz, a);
    }
    return {dx, Tensor(), Tensor(), torch::mm(dz.t(), x), db, Tensor(), Tensor()};
  }

 private:
  struct Holder : torch::CustomClassHolder {
    explicit Holder(std::shared_ptr<const Blocks> of) : blocks(std::move(of)) {}
    std::shared_ptr<const Blocks> blocks;
  };
};

}  // namespace

LowRank::LowRank(const std::vector<Part>& parts,
                 int64_t n_in,
                 int64_t rank,
                 double scale,
                 const torch::TensorOptions& options,
                 std::shared_ptr<const LowRankSwitch> on)
    : rank_(rank), scale_(scale), switch_(std::move(on)) {
  int64_t first_out = 0, first_rank = 0, first_row = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t n_out = parts[i].n_out;
    if (parts[i].adapted) {
      blocks_.push_back({static_cast<int64_t>(i), first_out, n_out, first_rank, first_row});
      first_rank += rank;
      first_row += n_out;
    }
    first_out += n_out;
  }
  a = torch::zeros({first_rank, n_in}, options);
  b = torch::zeros({first_row, rank}, options);
}

Tensor LowRank::linear(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  if (torch::GradMode::is_enabled() && (x.requires_grad() || a.requires_grad())) {
    return AdaptedLinear::apply(x,
                                weight,
                                bias.defined() ? std::optional(bias) : std::nullopt,
                                a.to(x.scalar_type()),
                                b.to(x.scalar_type()),
                                scale_,
                                std::make_shared<const Blocks>(blocks_));
  }
  const Tensor y = torch::linear(x, weight, bias);
  add_to(y, x);
  return y;
}

Tensor LowRank::linear(const Tensor& x,
                       std::span<const PackedMatrix> weights,
                       const Tensor& bias) const {
  if (packed_ != nullptr && packed_->form() == PackedUpdate::Form::kInt8 && packed_->takes(x)) {
    return packed_linear(x, weights, bias, packed_.get());
  }
  const Tensor y = packed_linear(x, weights, bias);
  add_to(y, x);
  return y;
}

void LowRank::pack(torch::ScalarType dtype, PackedUpdate::Form form) {
  packed_ = std::make_shared<const PackedUpdate>(a, b, blocks_, scale_, dtype, form);
}

void LowRank::add_to(const Tensor& y, const Tensor& x) const {
  const torch::NoGradGuard no_grad;
  if (packed_ != nullptr && packed_->form() == PackedUpdate::Form::kPlain && packed_->takes(x)) {
    return packed_->add_to(y, x);
  }
  const Tensor z = torch::mm(x, a.to(x.scalar_type()).t()).mul_(scale_);
  add_products(y, z, b.to(x.scalar_type()), blocks_, rank_);
}

const LowRank::Block& LowRank::block_of(size_t part) const {
  for (const Block& block : blocks_) {
    if (block.part == static_cast<int64_t>(part)) {
      return block;
    }
  }
  TORCH_CHECK(false, "layer ", part, " of those that share an input is not adapted");
}

Tensor LowRank::a_of(size_t part) const {
  return a.narrow(0, block_of(part).first_rank, rank_);
}

Tensor LowRank::b_of(size_t part) const {
  const Block& block = block_of(part);
  return b.narrow(0, block.first_row, block.n_out);
}

}  // namespace ssa
