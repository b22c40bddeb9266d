// What a run tells: log lines, log.csv, validation.csv and TensorBoard scalars (docs/training.md,
// "Outputs").
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "training/run_log.h"

namespace ssa {

/// The columns of losses, in order: the weighted total, then each objective, unweighted; of
/// sparse-sparse its cross entropy, that of either stream, alignment, and attention sparsity.
inline constexpr std::array kLossNames = {"loss",
                                          "lm",
                                          "cpt",
                                          "sft",
                                          "distill",
                                          "route",
                                          "align",
                                          "ce",
                                          "full",
                                          "sparse",
                                          "alignment",
                                          "kept"};

/// One logged step, and what has been done since the line before it.
struct StepReport {
  int64_t step = 0;
  std::array<double, kLossNames.size()> losses = {};  // 0: not asked for
  double grad_norm = 0, lr = 0;
  double seconds = 0;
  double raw_tokens = 0;  // of all processes
  double flops = 0;       // of this process
  double peak_flops = 0;  // of its device a second; 0: not known, and then no share of it is told
  uint64_t memory_bytes = 0;  // peak
};

class RunReport {
 public:
  /// Opens the files in `folder`, made if it is missing. `modes`: columns of validation.csv; empty:
  /// no validation. Throws Error naming the file that cannot be written.
  RunReport(const std::filesystem::path& folder,
            const std::vector<std::string>& modes,
            bool tensorboard,
            std::function<void(const std::string& line)> on_line);

  void step(const StepReport& report);
  /// Perplexities in the order of the modes.
  void validation(int64_t step, const std::vector<double>& perplexities);

 private:
  std::vector<std::string> modes_;
  std::function<void(const std::string& line)> on_line_;  // may be empty
  CsvFile log_;
  std::optional<CsvFile> validation_;
  std::optional<EventFile> events_;
};

}  // namespace ssa
