#include "nn/packed_matrix.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/error.h"
#include "checkpoint/gguf_quants.h"
#include "nn/chained_loops.h"
#include "nn/number_type.h"
#include "nn/packed_update.h"

namespace ssa {
namespace {

/// Memory for up to eight quantised tokens.
class TokenBuffer {
 public:
  TokenBuffer(int64_t n_tokens, int64_t n_blocks)
      : n_(static_cast<size_t>(n_tokens * n_blocks)),
        scales_(std::make_unique_for_overwrite<float[]>(n_)),
        offsets_(std::make_unique_for_overwrite<int32_t[]>(n_)),
        numbers_(std::make_unique_for_overwrite<int16_t[]>(n_ * cpu::kBlockWeights)) {}
  cpu::QuantizedTokens view() const { return {numbers_.get(), scales_.get(), offsets_.get()}; }

 private:
  size_t n_;
  std::unique_ptr<float[]> scales_;
  std::unique_ptr<int32_t[]> offsets_;
  std::unique_ptr<int16_t[]> numbers_;
};

/// Calls fn(number of the matrix, its first row among all, begin, end) for each matrix that has
/// some of the strips [begin, end) of all, with those.
template <class Fn>
void for_each_share(std::span<const PackedMatrix> matrices,
                    int64_t begin,
                    int64_t end,
                    const Fn& fn) {
  int64_t strip = 0, row = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const int64_t n = matrices[i].view().n_strips();
    const int64_t from = std::max<int64_t>(begin - strip, 0), to = std::min(end - strip, n);
    if (from < to) {
      fn(i, row, from, to);
    }
    strip += n;
    row += matrices[i].n_rows();
  }
}

template <class T>
Tensor multiply_few(const Tensor& x,
                    std::span<const PackedMatrix> matrices,
                    int64_t n_out,
                    const Tensor& bias,
                    const PackedUpdate* update) {
  const cpu::Int8Kernels<T>& kernels = cpu::int8_kernels<T>(instruction_set());
  const int64_t n_tokens = x.size(0);
  const cpu::Int8MatrixView first = matrices.front().view(),
                            a = update != nullptr ? update->a().view() : cpu::Int8MatrixView{};
  const TokenBuffer tokens(n_tokens, first.n_blocks());
  kernels.quantize(const_data<T>(x), n_tokens, first.n_columns, tokens.view());
  int64_t n_strips = 0;
  for (const PackedMatrix& matrix : matrices) {
    n_strips += matrix.view().n_strips();
  }
  Tensor out = torch::empty({n_tokens, n_out}, x.options());
  T* out_data = mutable_data<T>(out);
  const T* bias_data = const_data<T>(bias);
  const auto z = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(n_tokens * a.n_rows));
  const auto project = [&](int64_t begin, int64_t end) {
    cpu::int8_kernels<float>(instruction_set())
        .multiply(a, tokens.view(), n_tokens, begin, end, nullptr, z.get(), a.n_rows);
  };
  const auto multiply = [&](int64_t begin, int64_t end) {
    for_each_share(matrices, begin, end, [&](size_t i, int64_t row, int64_t from, int64_t to) {
      kernels.multiply(matrices[i].view(),
                       tokens.view(),
                       n_tokens,
                       from,
                       to,
                       bias_data == nullptr ? nullptr : bias_data + row,
                       out_data + row,
                       n_out);
    });
  };
  const auto add_update = [&](int64_t begin, int64_t end) {
    if (update != nullptr) {
      for_each_share(matrices, begin, end, [&](size_t i, int64_t, int64_t from, int64_t to) {
        update->add(static_cast<int64_t>(i), from, to, z.get(), n_tokens, out_data, n_out);
      });
    }
  };
  constexpr int64_t kGrainBytes = int64_t{1}
                                  << 15;  // below, waking a thread takes longer than the work
  const int64_t grain = std::max<int64_t>(1, kGrainBytes / first.strip_bytes());
  chained_loops(a.n_strips(), n_strips, grain, project, multiply, add_update);
  return out;
}

Tensor multiply_many(const Tensor& x,
                     std::span<const PackedMatrix> matrices,
                     int64_t n_out,
                     const Tensor& bias) {
  const Tensor weights = torch::empty({n_out, x.size(-1)}, x.options());
  int64_t row = 0;
  for (const PackedMatrix& matrix : matrices) {
    matrix.unpack(weights.narrow(0, row, matrix.n_rows()));
    row += matrix.n_rows();
  }
  return torch::linear(x, weights, bias);
}

}  // namespace

PackedMatrix::PackedMatrix(int64_t n_rows,
                           int64_t n_columns,
                           torch::ScalarType dtype,
                           const Tensor& memory)
    : n_rows_(n_rows),
      n_columns_(n_columns),
      dtype_(dtype),
      strips_(memory.defined()
                  ? memory
                  : torch::empty({static_cast<int64_t>(bytes(n_rows, n_columns))}, torch::kUInt8)) {
  TORCH_CHECK(strips_.is_contiguous() && strips_.nbytes() == bytes(n_rows, n_columns),
              "a matrix of ",
              n_rows,
              " x ",
              n_columns,
              " does not live in ",
              strips_.nbytes(),
              " bytes");
}

cpu::Int8MatrixView PackedMatrix::view() const {
  return {const_data<std::byte>(strips_), n_rows_, n_columns_};
}

uint64_t PackedMatrix::bytes(int64_t n_rows, int64_t n_columns) {
  const cpu::Int8MatrixView shape{nullptr, n_rows, n_columns};
  return static_cast<uint64_t>(shape.n_strips() * shape.strip_bytes());
}

template <class Fill>
void PackedMatrix::pack(const Fill& fill) {
  const cpu::Int8MatrixView shape = view();
  auto* strips = mutable_data<std::byte>(strips_);
  at::parallel_for(0, shape.n_strips(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t strip = begin; strip < end; ++strip) {
      const int64_t first = strip * cpu::kStripRows, n = std::min(cpu::kStripRows, n_rows_ - first);
      cpu::pack_strip(fill(first, n), n, shape.n_blocks(), strips + strip * shape.strip_bytes());
    }
  });
}

PackedMatrix PackedMatrix::from_blocks(const HostTensor& blocks,
                                       torch::ScalarType dtype,
                                       const Tensor& memory) {
  const int64_t n_rows = blocks.shape.at(0), row_bytes = blocks.shape.at(1);
  TORCH_CHECK(
      row_bytes % cpu::kBlockBytes == 0, "rows of ", row_bytes, " bytes are not 8-bit blocks");
  PackedMatrix matrix(n_rows, row_bytes / cpu::kBlockBytes * cpu::kBlockWeights, dtype, memory);
  matrix.pack([&](int64_t first, int64_t) { return blocks.bytes.data() + first * row_bytes; });
  return matrix;
}

PackedMatrix PackedMatrix::quantize(const Tensor& weights,
                                    torch::ScalarType dtype,
                                    const std::string& name,
                                    const Tensor& memory) {
  PackedMatrix matrix(weights.size(0), weights.size(1), dtype, memory);
  const int64_t n_columns = matrix.n_columns_,
                n_padded = matrix.view().n_blocks() * cpu::kBlockWeights;
  matrix.pack([&](int64_t first, int64_t n) {
    static thread_local std::vector<std::byte> blocks;
    Tensor rows = weights.narrow(0, first, n).to(torch::kFloat32);
    if (n_padded > n_columns) {
      rows = torch::constant_pad_nd(rows, {0, n_padded - n_columns});
    }
    rows = rows.contiguous();
    blocks.resize(static_cast<size_t>(rows.numel() / cpu::kBlockWeights * cpu::kBlockBytes));
    const std::span<const float> numbers(rows.const_data_ptr<float>(),
                                         static_cast<size_t>(rows.numel()));
    check(quantize_q8_0(numbers, blocks),
          name,
          ": a weight is not finite, or too large for 8-bit weights");
    return static_cast<const std::byte*>(blocks.data());
  });
  return matrix;
}

Tensor PackedMatrix::rows(const Tensor& ids) const {
  const Tensor wanted = ids.contiguous();
  const Tensor out = torch::empty({ids.numel(), n_columns_}, dtype_);
  with_number_type(dtype_, [&]<class T>(T*) {
    const cpu::Int8Kernels<T>& kernels = cpu::int8_kernels<T>(instruction_set());
    for (int64_t i = 0; i < ids.numel(); ++i) {
      const int64_t row = wanted.const_data_ptr<int64_t>()[i];
      TORCH_CHECK_INDEX(row >= 0 && row < n_rows_, "row ", row, " of ", n_rows_);
      kernels.unpack(view(), row, row + 1, mutable_data<T>(out) + i * n_columns_);
    }
  });
  return out;
}

void PackedMatrix::unpack(Tensor out) const {
  TORCH_INTERNAL_ASSERT(out.is_contiguous() && out.scalar_type() == dtype_);
  with_number_type(dtype_, [&]<class T>(T*) {
    const cpu::Int8Kernels<T>& kernels = cpu::int8_kernels<T>(instruction_set());
    T* data = mutable_data<T>(out);
    at::parallel_for(0, view().n_strips(), 4, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * cpu::kStripRows,
                    last = std::min(end * cpu::kStripRows, n_rows_);
      kernels.unpack(view(), first, last, data + first * n_columns_);
    });
  });
}

Tensor packed_linear(const Tensor& x,
                     std::span<const PackedMatrix> matrices,
                     const Tensor& bias,
                     const PackedUpdate* update) {
  int64_t n_out = 0;
  for (const PackedMatrix& matrix : matrices) {
    n_out += matrix.n_rows();
  }
  const bool wants_gradient = torch::GradMode::is_enabled() && x.requires_grad();
  const bool few = x.dim() == 2 && x.size(0) > 0 && x.size(0) <= cpu::kMaxTokens;
  if (wants_gradient || !few) {
    TORCH_CHECK(update == nullptr, "an update in 8 bits is for a few tokens without gradients");
    return multiply_many(x, matrices, n_out, bias);
  }
  return with_number_type(x.scalar_type(), [&]<class T>(T*) {
    return multiply_few<T>(x.contiguous(), matrices, n_out, bias, update);
  });
}

}  // namespace ssa
