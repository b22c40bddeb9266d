// What torchrun, or `ssa train --spawn N`, tells a process about the job it belongs to.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace ssa {

/// A process's place among those that train together. Ranks count from 0 over all machines, local
/// ranks over the processes of one machine.
struct LaunchEnvironment {
  int rank = 0;
  int size = 1;
  int local_rank = 0;
  int local_size = 1;
  std::string master_address;  ///< where the store listens; empty for one process
  uint16_t master_port = 0;
  /// torchrun hosts the store in its own process; otherwise rank 0 does.
  bool launcher_hosts_store = false;
  int restart = 0;  ///< how often torchrun has started the job anew
};

/// Gives a variable's value, or nothing if it is not set.
using Variables = std::function<std::optional<std::string>(const char* name)>;

/// Reads RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT. One process
/// if WORLD_SIZE is absent or 1; the others are then not looked at. Throws Error naming the
/// variables that are missing, or one that is not a number or out of range.
LaunchEnvironment read_launch_environment(const Variables& variables);
/// The same from the process's own environment.
LaunchEnvironment read_launch_environment();

}  // namespace ssa
