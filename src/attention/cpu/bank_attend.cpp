#include "attention/cpu/bank_attend.h"

#include <vector>

#include "attention/cpu/bank_attend_tables.h"

namespace ssa::cpu {

const BankAttendKernels& bank_attend_kernels(InstructionSet set) {
#if defined(__x86_64__)
  switch (set) {
    case InstructionSet::kAvx512:
      return kAvx512BankAttendKernels;
    case InstructionSet::kAvx2:
      return kAvx2BankAttendKernels;
    case InstructionSet::kPortable:
      break;
  }
#else
  static_cast<void>(set);
#endif
  return kPortableBankAttendKernels;
}

float* bank_attend_scratch(int64_t n) {
  struct alignas(64) CacheLine {
    float floats[16];
  };
  thread_local std::vector<CacheLine> lines;
  const auto needed = static_cast<size_t>(n + 15) / 16;
  if (lines.size() < needed) {
    lines.resize(needed);
  }
  return lines.data()->floats;
}

}  // namespace ssa::cpu
