#include "engine/cpu/team.h"

#include <omp.h>

namespace ssa::cpu {

void Team::barrier() const {
  if (size > 1) {
#pragma omp barrier
  }
}

void run_team(int n_threads, const std::function<void(const Team&)>& job) {
  if (n_threads <= 1 || omp_in_parallel() != 0) {
    job(Team{});
    return;
  }
#pragma omp parallel num_threads(n_threads)
  {
    Team team;
    team.rank = omp_get_thread_num();
    team.size = omp_get_num_threads();
    job(team);
  }
}

}  // namespace ssa::cpu
