#include "nn/packed_update.h"

#include <algorithm>

#include "base/error.h"
#include "nn/chained_loops.h"
#include "nn/number_type.h"

namespace ssa {
namespace {

int64_t n_strips(const LowRankBlock& block) {
  return (block.n_out + cpu::kUpdateStripRows - 1) / cpu::kUpdateStripRows;
}

/// [n_out, rank] -> [n_strips, rank, 16], 0 beyond the last row.
Tensor in_strips(const Tensor& b) {
  const int64_t missing = -b.size(0) & (cpu::kUpdateStripRows - 1);
  return torch::constant_pad_nd(b, {0, 0, 0, missing})
      .view({-1, cpu::kUpdateStripRows, b.size(1)})
      .transpose(1, 2)
      .contiguous();
}

/// The same in signed bytes, each strip's scales behind it: [n_strips, 16 * (rank + 2)] bytes.
Tensor in_int8_strips(const Tensor& b) {
  const Tensor wide = b.to(torch::kFloat32);
  check(torch::isfinite(wide).all().item<bool>(), "an adapter's weight is not finite");
  constexpr double kLargest = 127, kSmallestScale = 1e-30;
  const Tensor scales = (wide.abs().amax(1, /*keepdim=*/true) / kLargest)
                            .clamp_min(kSmallestScale)
                            .to(torch::kBFloat16);
  const Tensor numbers = (wide / scales.to(torch::kFloat32)).round().clamp(-kLargest, kLargest);
  const Tensor bytes = in_strips(numbers.to(torch::kInt8)).flatten(1).view(torch::kUInt8);
  const Tensor scale_bytes = in_strips(scales).flatten(1).view(torch::kUInt8);
  return torch::cat({bytes, scale_bytes}, 1);
}

}  // namespace

PackedUpdate::PackedUpdate(const Tensor& a,
                           const Tensor& b,
                           std::vector<LowRankBlock> blocks,
                           double scale,
                           torch::ScalarType dtype,
                           Form form)
    : form_(form),
      dtype_(dtype),
      n_in_(a.size(1)),
      n_ranks_(a.size(0)),
      rank_(b.size(1)),
      scale_(static_cast<float>(scale)),
      blocks_(std::move(blocks)) {
  const torch::NoGradGuard no_grad;
  TORCH_CHECK(has_number_type(dtype), "no packed updates in ", dtype);
  if (form == Form::kInt8) {
    packed_a_ = PackedMatrix::quantize(a.to(torch::kFloat32) * scale, dtype, "an adapter's A");
  } else {
    a_ = a.to(dtype, /*non_blocking=*/false, /*copy=*/true).contiguous();
  }
  for (const LowRankBlock& block : blocks_) {
    const Tensor rows = b.narrow(0, block.first_row, block.n_out);
    strips_.push_back(form == Form::kInt8 ? in_int8_strips(rows) : in_strips(rows.to(dtype)));
  }
}

bool PackedUpdate::takes(const Tensor& x) const {
  return !(torch::GradMode::is_enabled() && x.requires_grad()) && x.device().is_cpu() &&
         x.scalar_type() == dtype_ && x.dim() == 2 && x.size(0) > 0 && x.size(0) <= cpu::kMaxTokens;
}

template <class T>
cpu::UpdatedRows<T> PackedUpdate::rows_of(
    const LowRankBlock& block, const float* z, int64_t n_tokens, T* y, int64_t y_stride) const {
  return {.z = z + block.first_rank,
          .z_stride = n_ranks_,
          .n_tokens = n_tokens,
          .rank = rank_,
          .y = y + block.first_out,
          .y_stride = y_stride,
          .n_rows = block.n_out};
}

template <class T>
void PackedUpdate::add(int64_t part,
                       int64_t begin,
                       int64_t end,
                       const float* z,
                       int64_t n_tokens,
                       T* y,
                       int64_t y_stride) const {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].part == part) {
      cpu::low_rank_kernels<T>(instruction_set())
          .add_int8(const_data<std::byte>(strips_[i]),
                    rows_of(blocks_[i], z, n_tokens, y, y_stride),
                    begin,
                    end);
    }
  }
}

template void PackedUpdate::add(
    int64_t, int64_t, int64_t, const float*, int64_t, float*, int64_t) const;
template void PackedUpdate::add(
    int64_t, int64_t, int64_t, const float*, int64_t, cpu::BF16*, int64_t) const;

void PackedUpdate::add_to(const Tensor& y, const Tensor& x) const {
  with_number_type(dtype_, [&]<class T>(T*) { add_plain<T>(y, x.contiguous()); });
}

template <class T>
void PackedUpdate::add_plain(const Tensor& y, const Tensor& x) const {
  const cpu::LowRankKernels<T>& kernels = cpu::low_rank_kernels<T>(instruction_set());
  const int64_t n_tokens = x.size(0);
  std::vector<float> z(static_cast<size_t>(n_tokens * n_ranks_));
  int64_t n_work = 0;
  for (const LowRankBlock& block : blocks_) {
    n_work += n_strips(block);
  }
  constexpr int64_t kGrainBytes = int64_t{1} << 15;  // below, waking a thread takes longer
  const int64_t row_bytes = n_in_ * static_cast<int64_t>(sizeof(T));
  chained_loops(
      n_ranks_,
      n_work,
      std::max<int64_t>(1, kGrainBytes / row_bytes),
      [&](int64_t begin, int64_t end) {
        kernels.project(const_data<T>(a_),
                        const_data<T>(x),
                        n_tokens,
                        n_in_,
                        scale_,
                        begin,
                        end,
                        z.data(),
                        n_ranks_);
      },
      [](int64_t, int64_t) {},
      [&](int64_t begin, int64_t end) {
        int64_t strip = 0;
        for (size_t i = 0; i < blocks_.size(); ++i) {
          const int64_t n = n_strips(blocks_[i]);
          const int64_t from = std::max<int64_t>(begin - strip, 0), to = std::min(end - strip, n);
          if (from < to) {
            kernels.add(const_data<T>(strips_[i]),
                        rows_of(blocks_[i], z.data(), n_tokens, mutable_data<T>(y), y.stride(0)),
                        from,
                        to);
          }
          strip += n;
        }
      });
}

}  // namespace ssa
