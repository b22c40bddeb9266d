// ssa eval sparsity.
#pragma once

#include "cli/command.h"

namespace ssa {

void add_sparsity_command(CLI::App& eval);

}  // namespace ssa
