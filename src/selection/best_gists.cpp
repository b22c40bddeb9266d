#include "selection/best_gists.h"

#include <algorithm>
#include <limits>

namespace ssa {

Tensor best_gists(const Tensor& scores,
                  const Tensor& competing,
                  const Tensor& top_k,
                  int64_t largest_top_k) {
  const int64_t n = scores.size(3);
  if (n == 0) {
    return competing;
  }
  const Tensor eligible = competing.logical_and(scores.isnan().logical_not());
  const Tensor ranked =
      scores.masked_fill(eligible.logical_not(), -std::numeric_limits<double>::infinity());
  const Tensor best = std::get<0>(ranked.topk(std::min(n, largest_top_k), -1));
  const Tensor places = top_k.clamp_max(n);
  const Tensor last =
      best.gather(3, (places - 1).expand({scores.size(0), scores.size(1), scores.size(2), 1}));
  // Places that the better ones leave over go to the first of those that score as the last place.
  const Tensor better = ranked > last;
  const Tensor equal = eligible.logical_and(ranked == last);
  const Tensor left = places - better.sum(3, /*keepdim=*/true);
  return better.logical_or_(equal.logical_and(equal.cumsum(3, torch::kInt32) <= left));
}

}  // namespace ssa
