#include "base/cpu_features.h"

#include <cstdlib>
#include <optional>
#include <string_view>

#include "base/error.h"

namespace ssa {
namespace {

bool has(InstructionSet set) {
#if defined(__x86_64__)
  switch (set) {
    case InstructionSet::kPortable:
      return true;
    case InstructionSet::kAvx2:
      // F16C, which clang 14 does not know by name, came before AVX2.
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case InstructionSet::kAvx512:
      return has(InstructionSet::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
             __builtin_cpu_supports("avx512bf16");
  }
#endif
  return set == InstructionSet::kPortable;
}

std::string names_of_available() {
  std::string names;
  for (const InstructionSet set : available_instruction_sets()) {
    names += std::string(names.empty() ? "" : ", ") + instruction_set_name(set);
  }
  return names;
}

InstructionSet initial() {
  const char* wanted = std::getenv("SSA_ISA");
  const std::vector<InstructionSet> available = available_instruction_sets();
  if (wanted == nullptr || *wanted == '\0') {
    return available.back();
  }
  for (const InstructionSet set : available) {
    if (std::string_view(wanted) == instruction_set_name(set)) {
      return set;
    }
  }
  fail("SSA_ISA=", wanted, ": this processor has ", names_of_available());
}

std::optional<InstructionSet> chosen;

}  // namespace

const char* instruction_set_name(InstructionSet set) {
  switch (set) {
    case InstructionSet::kPortable:
      return "portable";
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kAvx512:
      return "avx512";
  }
  return "?";
}

std::vector<InstructionSet> available_instruction_sets() {
  std::vector<InstructionSet> sets;
  for (const InstructionSet set :
       {InstructionSet::kPortable, InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    if (has(set)) {
      sets.push_back(set);
    }
  }
  return sets;
}

InstructionSet instruction_set() {
  static const InstructionSet best = initial();
  return chosen.value_or(best);
}

void set_instruction_set(InstructionSet set) {
  check(has(set),
        "instruction set ",
        instruction_set_name(set),
        ": this processor has ",
        names_of_available());
  chosen = set;
}

}  // namespace ssa
