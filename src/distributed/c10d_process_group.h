// ProcessGroup over a backend of c10d.
#pragma once

#include <memory>

#include "distributed/process_group.h"
#include "distributed/store.h"

namespace ssa {

/// Joins the job of `environment`, which has more than one process; see
/// ProcessGroup::from_environment.
std::shared_ptr<ProcessGroup> join_c10d_group(const LaunchEnvironment& environment,
                                              torch::Device device,
                                              const ProcessGroupOptions& options);

}  // namespace ssa
