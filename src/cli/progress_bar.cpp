#include "cli/progress_bar.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/log.h"

namespace ssa {
namespace {

constexpr std::chrono::milliseconds kFirstDraw{500}, kRedraw{100};
constexpr std::chrono::seconds kLineInterval{10};

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

ProgressBar::ProgressBar(std::string label, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      terminal_(isatty(STDERR_FILENO) == 1),
      begin_(std::chrono::steady_clock::now()),
      last_(begin_) {}

ProgressBar::~ProgressBar() {
  if (drawn_ && terminal_) {
    std::fputs("\r\x1b[K", stderr);
  }
}

void ProgressBar::update(int64_t done, int64_t total) {
  const auto now = std::chrono::steady_clock::now();
  const auto interval = !terminal_ ? std::chrono::milliseconds(kLineInterval)
                        : drawn_   ? kRedraw
                                   : kFirstDraw;
  if (total <= 0 || now - last_ < interval) {
    return;
  }
  last_ = now;
  drawn_ = true;
  draw(static_cast<double>(done) / static_cast<double>(total), rate_of(done));
}

/// ", 12.3 items/s"
std::string ProgressBar::rate_of(int64_t done) const {
  const std::chrono::duration<double> seconds = last_ - begin_;
  if (unit_.empty() || seconds.count() <= 0) {
    return {};
  }
  char number[32];
  std::snprintf(number, sizeof number, ", %.3g ", static_cast<double>(done) / seconds.count());
  return number + unit_ + "/s";
}

ProgressFn ProgressBar::callback() {
  return [this](int64_t done, int64_t total) { update(done, total); };
}

void ProgressBar::draw(double share, const std::string& rate) {
  char percent[16];
  std::snprintf(percent, sizeof percent, "%3.0f%%", 100 * share);
  if (!terminal_) {
    log_info(label_, " ", percent, rate);
    return;
  }
  // label + " [" + bar + "] " + "100%" + rate, never wider than the terminal: a wrapped bar cannot
  // be wiped.
  const int room = terminal_width() - static_cast<int>(label_.size() + rate.size()) - 9;
  const int width = std::clamp(room, 0, 40);
  const auto filled = static_cast<size_t>(share * width);
  const std::string bar =
      std::string(filled, '#') + std::string(static_cast<size_t>(width) - filled, '.');
  std::fprintf(stderr, "\r%s [%s] %s%s\x1b[K", label_.c_str(), bar.c_str(), percent, rate.c_str());
}

}  // namespace ssa
