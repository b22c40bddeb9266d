#include "distributed/backends.h"

#ifdef SSA_WITH_NCCL
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#else
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "base/error.h"
#endif

namespace ssa {

#ifdef SSA_WITH_NCCL

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const Store& store,
                                                    const LaunchEnvironment& environment,
                                                    std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(
      store.c10d_store(), environment.rank, environment.size, options);
  backend->enableCollectivesTiming();
  return backend;
}

#else

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const Store&,
                                                    const LaunchEnvironment&,
                                                    std::chrono::milliseconds) {
  fail(
      "this build cannot train with several processes on CUDA: it was made without NCCL's headers");
}

#endif

}  // namespace ssa
