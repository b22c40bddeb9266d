#include "training/run_report.h"

#include <cstdio>
#include <limits>

#include "base/error.h"
#include "base/text.h"

namespace ssa {
namespace {

std::filesystem::path made(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  return folder;
}

std::vector<std::string> log_columns() {
  std::vector<std::string> columns = {"step"};
  columns.insert(columns.end(), kLossNames.begin(), kLossNames.end());
  for (const char* name :
       {"grad_norm", "lr", "tokens_per_second", "mfu", "memory_gib", "seconds"}) {
    columns.emplace_back(name);
  }
  return columns;
}

template <class... Values>
std::string formatted(const char* format, const Values&... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

double gibibytes(uint64_t bytes) {
  return static_cast<double>(bytes) / (1 << 30);
}

double percent_of_peak(const StepReport& report) {
  return report.peak_flops > 0 ? 100 * report.flops / report.seconds / report.peak_flops
                               : std::numeric_limits<double>::quiet_NaN();
}

std::string log_line_of(const StepReport& report) {
  std::string line =
      formatted("step: %lld  loss: %.4f ", static_cast<long long>(report.step), report.losses[0]);
  for (size_t i = 1; i < kLossNames.size(); ++i) {
    if (report.losses[i] != 0) {
      line += formatted(" %s: %.4f", kLossNames[i], report.losses[i]);
    }
  }
  line += formatted("  grad_norm: %.4f  lr: %.3g  memory: %s  tps: %.0f",
                    report.grad_norm,
                    report.lr,
                    format_bytes(report.memory_bytes).c_str(),
                    report.raw_tokens / report.seconds);
  if (report.peak_flops > 0) {
    line += formatted("  tflops: %.1f  mfu: %.1f%%",
                      report.flops / report.seconds / 1e12,
                      percent_of_peak(report));
  }
  return line;
}

}  // namespace

RunReport::RunReport(const std::filesystem::path& folder,
                     const std::vector<std::string>& modes,
                     bool tensorboard,
                     std::function<void(const std::string& line)> on_line)
    : modes_(modes), on_line_(std::move(on_line)), log_(made(folder) / "log.csv", log_columns()) {
  if (!modes_.empty()) {
    std::vector<std::string> columns = {"step"};
    columns.insert(columns.end(), modes_.begin(), modes_.end());
    validation_.emplace(folder / "validation.csv", columns);
  }
  if (tensorboard) {
    events_.emplace(folder / "tensorboard");
  }
}

void RunReport::step(const StepReport& report) {
  const double speed = report.raw_tokens / report.seconds, memory = gibibytes(report.memory_bytes);
  NamedValues values = {{"step", static_cast<double>(report.step)}};
  for (size_t i = 0; i < kLossNames.size(); ++i) {
    if (i == 0 || report.losses[i] != 0) {
      values.emplace_back(kLossNames[i], report.losses[i]);
    }
  }
  const NamedValues rest = {{"grad_norm", report.grad_norm},
                            {"lr", report.lr},
                            {"tokens_per_second", speed},
                            {"mfu", percent_of_peak(report)},
                            {"memory_gib", memory},
                            {"seconds", report.seconds}};
  values.insert(values.end(), rest.begin(), rest.end());
  log_.row(values);
  if (events_) {
    events_->scalars(report.step,
                     {{"loss_metrics/global_avg_loss", report.losses[0]},
                      {"grad_norm", report.grad_norm},
                      {"lr", report.lr},
                      {"throughput(tps)", speed},
                      {"memory/max_active(GiB)", memory}});
  }
  if (on_line_) {
    on_line_(log_line_of(report));
  }
}

void RunReport::validation(int64_t step, const std::vector<double>& perplexities) {
  NamedValues values = {{"step", static_cast<double>(step)}}, scalars;
  std::string line = concat("validation at step ", step, ", perplexity of suffixes:");
  for (size_t mode = 0; mode < modes_.size(); ++mode) {
    values.emplace_back(modes_[mode], perplexities[mode]);
    scalars.emplace_back("validation_metrics/perplexity/" + modes_[mode], perplexities[mode]);
    line += formatted(" %s %.3f", modes_[mode].c_str(), perplexities[mode]);
  }
  validation_->row(values);
  if (events_) {
    events_->scalars(step, scalars);
  }
  if (on_line_) {
    on_line_(line);
  }
}

}  // namespace ssa
