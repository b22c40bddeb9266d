#include "selection/cpu/top_k_select.h"
#include "selection/cpu/top_k_tables.h"

namespace ssa::cpu {
namespace {

struct PortableOps {
  static int64_t count(const float* x, int64_t n, float threshold) {
    int32_t reached =
        0;  // as wide as a score, so that the compiler compares and adds whole registers
    for (int64_t i = 0; i < n; ++i) {
      reached += x[i] >= threshold ? 1 : 0;
    }
    return reached;
  }

  static int64_t keep(const float* x, int64_t n, float threshold, float* out) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i) {
      out[kept] = x[i];
      kept += x[i] >= threshold ? 1 : 0;
    }
    return kept;
  }

  static Comparison compare(const float* x, float value) {
    Comparison found = {};
    for (int64_t i = 0; i < 64; ++i) {
      found.above |= uint64_t{x[i] > value} << i;
      found.equal |= uint64_t{x[i] == value} << i;
    }
    return found;
  }
};

}  // namespace

const TopKKernels kPortableTopKKernels = {top_k<PortableOps>};

}  // namespace ssa::cpu
