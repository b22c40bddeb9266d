#include "training/step_cost.h"

#include <c10/core/CachingDeviceAllocator.h>

#include "base/memory.h"
#include "training/device_peak.h"

namespace ssa {

double peak_flops(torch::Device device, double tflops) {
  if (!device.is_cuda()) {
    return 0;
  }
  return tflops > 0 ? tflops * 1e12 : peak_flops_of(cuda_device_name(device.index()));
}

uint64_t peak_memory(torch::Device device) {
  if (device.is_cpu()) {
    return peak_resident_bytes();
  }
  const auto stats = at::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return static_cast<uint64_t>(stats.allocated_bytes[0].peak);
}

double flops_of(const Batch& batch, const ModelConfig& config, double n_weights, bool has_gists) {
  double pairs = 0;
  for (const SequenceGroup& group : batch.groups) {
    const auto n = static_cast<double>(group.layout.n_tokens());
    double of_one = n * n / 2;
    if (has_gists && group.plan->prefix_end > 0) {
      const auto suffix = static_cast<double>(group.plan->n_suffix());
      of_one = static_cast<double>(group.plan->n_slots) *
                   static_cast<double>(group.plan->prefix_end - group.plan->far_begin) / 2 +
               suffix * (suffix / 2 + static_cast<double>(group.plan->rect_keys.numel()));
    }
    pairs += of_one * static_cast<double>(group.n_sequences);
  }
  const auto width = static_cast<double>(config.n_heads * config.head_dim);
  return 6 * n_weights * static_cast<double>(batch.n_rows()) +
         12 * width * static_cast<double>(config.n_layers) * pairs;
}

}  // namespace ssa
