#include "checkpoint/fingerprint.h"

#include <cstdio>

#include "base/checksum.h"

namespace ssa {

std::string fingerprint(const Checkpoint& checkpoint) {
  uint64_t sum = 0;
  const auto take = [&](const std::string& text) {
    sum = checksum(std::as_bytes(std::span(text)), sum);
  };
  const ModelConfig& config = checkpoint.config();
  const std::string last_layer = "model.layers." + std::to_string(config.n_layers - 1) + ".";
  take(std::to_string(config.rope.theta));
  for (const std::string& name : checkpoint.tensor_names()) {
    const std::vector<int64_t> shape = checkpoint.tensor_shape(name);
    take(name);
    for (const int64_t size : shape) {
      take(std::to_string(size));
    }
    if (shape.size() == 1 || name.starts_with(last_layer)) {
      const HostTensor tensor = checkpoint.tensor(name);
      sum = checksum(tensor.bytes, sum);
    }
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(sum));
  return text;
}

}  // namespace ssa
