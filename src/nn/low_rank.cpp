#include "nn/low_rank.h"

#include <torch/autograd.h>
#include <optional>
#include <tuple>

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

/// A and B as products take them: in x's dtype, ranks filled up with zeros to what a GPU's matrix
/// units take at once, and B of all layers one matrix.
struct Factors {
  Tensor a;  // [width, n_in]
  Tensor b;  // [n_out, width]: scale * B of each layer in its own rows and columns, 0 elsewhere
};

Factors factors_of(const Tensor& a,
                   const Tensor& b,
                   const Blocks& blocks,
                   double scale,
                   int64_t n_out,
                   torch::ScalarType dtype) {
  constexpr int64_t kUnit = 8;
  const int64_t n_ranks = a.size(0), width = (n_ranks + kUnit - 1) / kUnit * kUnit;
  const Tensor narrow = a.to(dtype);
  Factors factors{
      width == n_ranks ? narrow : torch::constant_pad_nd(narrow, {0, 0, 0, width - n_ranks}),
      torch::zeros({n_out, width}, narrow.options())};
  const Tensor factor = torch::scalar_tensor(scale, torch::kFloat64);
  for (const LowRank::Block& block : blocks) {
    Tensor own =
        factors.b.narrow(0, block.first_out, block.n_out).narrow(1, block.first_rank, b.size(1));
    torch::mul_out(own, b.narrow(0, block.first_row, block.n_out), factor);
  }
  return factors;
}

/// Base product and updates as one step of the graph: no gradient of W is made, and passes over
/// rows, which cost more than the products' arithmetic, are few.
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
    const Factors factors = factors_of(a, b, *blocks, scale, weight.size(0), x.scalar_type());
    const auto [y, rows, z] = product(x, weight, bias, factors);
    context->save_for_backward({rows, weight, factors.a, factors.b, z});
    context->saved_data["shape"] = c10::IValue::make_capsule(c10::make_intrusive<Shape>(
        blocks, scale, a.sizes().vec(), b.sizes().vec(), a.scalar_type()));
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &z = saved[4];
    const Factors factors{saved[2], saved[3]};
    const auto shape =
        c10::static_intrusive_pointer_cast<Shape>(context->saved_data["shape"].toCapsule());
    const Tensor dy = gradients[0].contiguous(), dz = torch::mm(dy, factors.b);
    Tensor dx;
    if (context->needs_input_grad(0)) {
      // W + scale B A, rounded as W is: the sum of two products would pass over dx once more. What
      // the rounding takes from B A is as small beside W as W's own.
      dx = torch::mm(dy, torch::addmm(weight, factors.b, factors.a));
    }
    return {dx,
            Tensor(),
            Tensor(),
            torch::mm(dz.t(), x).narrow(0, 0, shape->a[0]).to(shape->dtype),
            shape->gather_b(torch::mm(dy.t(), z)),
            Tensor(),
            Tensor()};
  }

 private:
  struct Shape : torch::CustomClassHolder {
    Shape(std::shared_ptr<const Blocks> of,
          double by,
          std::vector<int64_t> sizes_a,
          std::vector<int64_t> sizes_b,
          torch::ScalarType held)
        : blocks(std::move(of)),
          scale(by),
          a(std::move(sizes_a)),
          b(std::move(sizes_b)),
          dtype(held) {}

    /// From the gradient of Factors::b that of B.
    Tensor gather_b(const Tensor& d_factor) const {
      const Tensor d_b = torch::empty(b, d_factor.options().dtype(dtype));
      const Tensor factor = torch::scalar_tensor(scale, torch::kFloat64);
      for (const LowRank::Block& block : *blocks) {
        Tensor part = d_b.narrow(0, block.first_row, block.n_out);
        torch::mul_out(
            part,
            d_factor.narrow(0, block.first_out, block.n_out).narrow(1, block.first_rank, b[1]),
            factor);
      }
      return d_b;
    }

    std::shared_ptr<const Blocks> blocks;
    double scale;
    std::vector<int64_t> a, b;  // sizes
    torch::ScalarType dtype;    // of A and B
  };

  /// {y, x as it is to be kept, z = x A^T}. Where y is wider than x it is one product, [x z] times
  /// [W B]^T: to copy x costs less than to read and write y again.
  static std::tuple<Tensor, Tensor, Tensor> product(const Tensor& x,
                                                    const Tensor& weight,
                                                    const std::optional<Tensor>& bias,
                                                    const Factors& factors) {
    const int64_t n_in = x.size(1), width = factors.a.size(0);
    if (weight.size(0) <= n_in) {
      const Tensor y = torch::linear(x, weight, bias), z = torch::mm(x, factors.a.t());
      return {y.addmm_(z, factors.b.t()), x, z};
    }
    const Tensor both = torch::empty({x.size(0), n_in + width}, x.options());
    const Tensor rows = both.narrow(1, 0, n_in);
    Tensor z = both.narrow(1, n_in, width);
    rows.copy_(x);
    torch::mm_out(z, x, factors.a.t());
    return {torch::linear(both, torch::cat({weight, factors.b}, 1), bias), rows, z};
  }
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
                                a,
                                b,
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
