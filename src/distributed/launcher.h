// `--spawn N`: the same command N times on this machine, for those without torchrun. Knows no
// tensor: nothing of LibTorch may run in a process before it forks.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ssa {

struct LaunchOptions {
  int processes = 1;
  std::vector<std::string> command;  ///< program (looked up in PATH) and arguments
  /// How long the others may take to end after one has failed, before they are killed.
  std::chrono::milliseconds grace{15000};
  /// Told, one line each, which rank failed and how.
  std::function<void(const std::string& line)> report;
};

/// Starts options.processes copies of the command with the variables of launch_environment.h set,
/// and a share of the cores each (OMP_NUM_THREADS, unless set), and waits for all. SIGTERM,
/// SIGINT and SIGHUP go on to the children unless this process ignores them, which the children
/// then do, too. When one fails the others get SIGTERM, and SIGKILL after the grace. Children die
/// with this process. Returns 0 if all ended well, else the exit code of the first that failed, or
/// 128 + its signal. Throws Error if processes is not in [1, 1024] or they cannot be started. One
/// call at a time.
int launch_processes(const LaunchOptions& options);

/// A TCP port of this machine that was free a moment ago.
uint16_t find_free_port();

}  // namespace ssa
