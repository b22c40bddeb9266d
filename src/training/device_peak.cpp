#include "training/device_peak.h"

#include <dlfcn.h>

#include <algorithm>
#include <vector>

namespace ssa {
namespace {

struct DevicePeak {
  std::vector<std::string_view> words;  // all in the name
  double tflops;
};

/// From data sheets. A model's variants stand before it.
const std::vector<DevicePeak>& known_peaks() {
  static const std::vector<DevicePeak> kPeaks = {
      {{"H100", "PCIe"}, 756},
      {{"H100", "NVL"}, 835},
      {{"H100"}, 989},
      {{"H200", "NVL"}, 835},
      {{"H200"}, 989},
      {{"GH200"}, 989},
      {{"B200"}, 2250},
      {{"A100"}, 312},
      {{"L40S"}, 362},
      {{"L4"}, 121},
      {{"RTX", "3090"}, 71},
      {{"RTX", "4090"}, 165},
      {{"RTX", "5090"}, 209},
  };
  return kPeaks;
}

/// Words that name a smaller device than the rest of the name does.
constexpr std::string_view kLess[] = {"MIG", "Laptop", "D"};

/// "NVIDIA A100-SXM4-80GB": NVIDIA, A100, SXM4, 80GB.
std::vector<std::string_view> words_of(std::string_view name) {
  std::vector<std::string_view> words;
  while (!name.empty()) {
    const size_t end = std::min(name.find_first_of(" -"), name.size());
    words.push_back(name.substr(0, end));
    name.remove_prefix(std::min(end + 1, name.size()));
  }
  return words;
}

/// The driver's own functions: LibTorch for the CPU has no CUDA headers, and no driver need be
/// there.
class Driver {
 public:
  Driver() : library_(dlopen("libcuda.so.1", RTLD_LAZY)) {}
  ~Driver() {
    if (library_ != nullptr) {
      dlclose(library_);
    }
  }
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  std::string device_name(int index) const {
    const auto initialise = find<int(unsigned)>("cuInit");
    const auto get_device = find<int(int*, int)>("cuDeviceGet");
    const auto get_name = find<int(char*, int, int)>("cuDeviceGetName");
    int device = 0;
    char name[256] = {};
    const bool found = initialise != nullptr && get_device != nullptr && get_name != nullptr &&
                       initialise(0) == 0 && get_device(&device, index) == 0 &&
                       get_name(name, sizeof name - 1, device) == 0;
    return found ? name : "";
  }

 private:
  template <class Function>
  Function* find(const char* name) const {
    return library_ == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(library_, name));
  }

  void* library_;
};

}  // namespace

double peak_flops_of(std::string_view device_name) {
  const std::vector<std::string_view> words = words_of(device_name);
  const auto has = [&](std::string_view word) {
    return std::ranges::find(words, word) != words.end();
  };
  if (std::ranges::any_of(kLess, has)) {
    return 0;
  }
  for (const DevicePeak& peak : known_peaks()) {
    if (std::ranges::all_of(peak.words, has)) {
      return peak.tflops * 1e12;
    }
  }
  return 0;
}

std::string cuda_device_name(int index) {
  return Driver().device_name(index);
}

}  // namespace ssa
