// Which machine and GPU a process has, so that two on one GPU are found before NCCL hangs.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ssa {

/// What each process tells the others when it arrives.
struct ProcessIdentity {
  std::string host;
  std::string gpu;      ///< empty on the CPU
  std::string problem;  ///< why it cannot take part; empty if it can

  std::string to_text() const;
  /// Throws Error for a text of another program.
  static ProcessIdentity from_text(const std::string& text);
};

/// Throws Error naming the first rank that cannot take part, or two ranks on one GPU.
void check_identities(const std::vector<ProcessIdentity>& by_rank);

/// The physical GPU behind CUDA's device `index`: its entry in CUDA_VISIBLE_DEVICES, or the index.
std::string visible_gpu(int index, const std::optional<std::string>& cuda_visible_devices);

/// Why local rank `local_rank` cannot use GPU `index` of `gpus`; empty if it can.
std::string gpu_problem(int index, int local_rank, int local_size, int gpus);

}  // namespace ssa
