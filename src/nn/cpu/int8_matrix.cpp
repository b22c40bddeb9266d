#include "nn/cpu/int8_matrix.h"

#include <cstring>

#include "base/error.h"

namespace ssa::cpu {

void pack_strip(const std::byte* rows, int64_t n_rows, int64_t n_blocks, std::byte* strip) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    std::byte* tile = strip + b * kTileBytes;
    for (int64_t row = 0; row < kStripRows; ++row) {
      std::byte block[kBlockBytes] = {};
      if (row < n_rows) {
        std::memcpy(block, rows + (row * n_blocks + b) * kBlockBytes, sizeof block);
      }
      std::memcpy(tile + kTileScales + row * 2, block, 2);
      for (int64_t i = 0; i < kBlockWeights; ++i) {
        tile[(i / 4 * kStripRows + row) * 4 + i % 4] =
            block[2 + i] ^ std::byte{0x80};  // signed + 128
      }
    }
  }
}

template <class T>
const Int8Kernels<T>& int8_kernels(InstructionSet set) {
  switch (set) {
    case InstructionSet::kPortable:
      return int8_kernels_portable<T>();
    case InstructionSet::kAvx2:
      return int8_kernels_avx2<T>();
    case InstructionSet::kAvx512:
      return int8_kernels_avx512<T>();
  }
  fail("int8 kernels: there is no instruction set ", static_cast<int>(set));
}

template const Int8Kernels<float>& int8_kernels(InstructionSet);
template const Int8Kernels<BF16>& int8_kernels(InstructionSet);

}  // namespace ssa::cpu
