// What one rendering of a template may spend: templates come from files, and must not hang, eat the
// memory or overflow the stack.
#pragma once

#include <cstddef>

#include "base/error.h"

namespace ssa {

/// Counts the work of one rendering. Every evaluated expression is a step; so is every item made,
/// and every 64 bytes of text made or searched, which bounds time (a second or two) and memory
/// (some hundred MiB) together.
class JinjaBudget {
 public:
  static constexpr size_t kMaxSteps = 10'000'000;
  static constexpr int kMaxNesting = 1000;

  /// Throws Error once the limit is passed.
  void spend(size_t steps) {
    left_ -= steps < left_ ? steps : left_;
    check(left_ > 0, "rendering takes more than ", kMaxSteps, " steps");
  }
  void spend_bytes(size_t bytes) { spend(1 + bytes / 64); }

  /// Lives as long as one level of recursion; throws Error if there are more than kMaxNesting.
  class Level {
   public:
    explicit Level(JinjaBudget& budget) : nesting_(budget.nesting_) {
      check(nesting_ < kMaxNesting, "calls are nested deeper than ", kMaxNesting);
      ++nesting_;
    }
    ~Level() { --nesting_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    int& nesting_;
  };

 private:
  size_t left_ = kMaxSteps;
  int nesting_ = 0;
};

}  // namespace ssa
