// Which instruction set the kernels of this run use.
#pragma once

#include <string>
#include <vector>

namespace ssa {

/// Each is a superset of the one before. Every folder of kernels has a table of functions for each
/// of them.
enum class InstructionSet {
  kPortable,  // whatever the compiler's baseline is
  kAvx2,      // AVX2, FMA, F16C
  kAvx512,    // AVX-512 F, BW, VL, DQ, VNNI and BF16
};

/// "portable", "avx2", "avx512".
const char* instruction_set_name(InstructionSet set);

/// Those that this processor has, least first. Never empty.
std::vector<InstructionSet> available_instruction_sets();

/// The one in use: the best available, unless set_instruction_set() or the environment variable
/// SSA_ISA chose another. Throws Error, naming what there is, where SSA_ISA names one that is
/// unknown or not available.
InstructionSet instruction_set();

/// Chooses one for all later calls, for tests and comparisons. Not thread-safe. Throws Error where
/// it is not available.
void set_instruction_set(InstructionSet set);

}  // namespace ssa
