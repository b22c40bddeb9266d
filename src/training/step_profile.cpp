#include "training/step_profile.h"

#include <torch/csrc/autograd/profiler_kineto.h>
#include <torch/cuda.h>

#include <set>

namespace ssa {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

StepProfile::StepProfile(torch::Device device) {
  std::set<ActivityType> activities{ActivityType::CPU};
  if (device.is_cuda()) {
    activities.insert(ActivityType::CUDA);
  }
  const profiler::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
}

StepProfile::~StepProfile() {
  if (is_open_) {
    profiler::disableProfiler();
  }
}

void StepProfile::save(const std::filesystem::path& path) {
  if (torch::cuda::is_available()) {
    torch::cuda::synchronize();
  }
  is_open_ = false;
  profiler::disableProfiler()->save(path.string());
}

}  // namespace ssa
