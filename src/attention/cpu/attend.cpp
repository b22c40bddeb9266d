#include "attention/cpu/attend.h"

#include "attention/cpu/attend_tables.h"

namespace ssa::cpu {

const AttendKernels& attend_kernels(InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx512:
      return kAttendAvx512;
    case InstructionSet::kAvx2:
      return kAttendAvx2;
    case InstructionSet::kPortable:
      break;
  }
  return kAttendPortable;
}

}  // namespace ssa::cpu
