#include "cli/thread_waiting.h"

#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>

namespace ssa {
namespace {

/// On idle cores as good as any number up to the default, beside other programs the best of those
/// tried (docs/performance.md).
constexpr const char* kSpins = "1000";

}  // namespace

void shorten_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) {
    return;
  }
  // By its own name: started as /proc/self/exe it would be called "exe" in lists of processes.
  std::array<char, PATH_MAX> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (length <= 0 || setenv("GOMP_SPINCOUNT", kSpins, /*overwrite=*/0) != 0) {
    return;
  }
  execv(path.data(), argv);
}

}  // namespace ssa
