// What bank_attend.cpp shares with the files of the instruction sets.
#pragma once

#include <cstdint>

#include "attention/cpu/bank_attend.h"

namespace ssa::cpu {

extern const BankAttendKernels kPortableBankAttendKernels;
extern const BankAttendKernels kAvx2BankAttendKernels;
extern const BankAttendKernels kAvx512BankAttendKernels;

/// At least n floats for the calling thread, 64-byte aligned, of any content; the thread keeps them
/// for its next call.
float* bank_attend_scratch(int64_t n);

}  // namespace ssa::cpu
