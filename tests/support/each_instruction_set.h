// A test's body under every instruction set of the machine.
#pragma once

#include <gtest/gtest.h>

#include "base/cpu_features.h"

namespace ssa {

/// Leaves the best one chosen.
class EachInstructionSet {
 public:
  ~EachInstructionSet() { set_instruction_set(available_instruction_sets().back()); }
  template <class Fn>
  void run(const Fn& fn) {
    for (const InstructionSet set : available_instruction_sets()) {
      SCOPED_TRACE(instruction_set_name(set));
      set_instruction_set(set);
      fn();
    }
  }
};

}  // namespace ssa
