// The tables of attend_*.cpp, each compiled for an instruction set of its own.
#pragma once

#include "attention/cpu/attend.h"

namespace ssa::cpu {

extern const AttendKernels kAttendPortable;
extern const AttendKernels kAttendAvx2;
extern const AttendKernels kAttendAvx512;

}  // namespace ssa::cpu
