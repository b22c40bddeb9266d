#include "selection/selection_options.h"

#include <algorithm>
#include <cmath>

namespace ssa {

int64_t top_k_of_level(const SelectionOptions& options,
                       int level,
                       int64_t n_tokens,
                       int64_t n_gists,
                       int64_t group_size,
                       std::span<const int64_t> chunk_sizes) {
  const int64_t c0 = chunk_sizes[0];
  if (options.budget) {
    return level <= 1 ? std::max<int64_t>(1, *options.budget / (group_size * c0))
                      : options.upper_top_k;
  }
  const int64_t own_ratio = chunk_sizes.size() > 1 ? c0 * chunk_sizes[1] : c0;
  const double ratio = options.ratio.value_or(static_cast<double>(own_ratio));
  const double share = static_cast<double>(n_tokens) / ratio / static_cast<double>(group_size) /
                       static_cast<double>(c0);
  const int64_t top_k =
      level <= 1 ? static_cast<int64_t>(std::floor(share)) + 1 : options.upper_top_k;
  return std::min(top_k, std::max<int64_t>(1, n_gists / 4));
}

}  // namespace ssa
