#include "checkpoint/convert.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_save.h"
#include "checkpoint/hf_save.h"

namespace ssa {
namespace fs = std::filesystem;
namespace {

constexpr std::array<std::string_view, 5> kTargetTypes = {"", "f32", "bf16", "f16", "q8_0"};

/// The element type of safetensors for a type's name; absent for "".
std::optional<DType> safetensors_dtype(const std::string& type, const fs::path& out) {
  if (type.empty()) return std::nullopt;
  if (type == "f32") return DType::kF32;
  if (type == "bf16") return DType::kBF16;
  if (type == "f16") return DType::kF16;
  fail("type ", type, " is for GGUF only; ", out.string(), " does not end in .gguf");
}

}  // namespace

void convert_checkpoint(const Checkpoint& source,
                        const fs::path& out,
                        const ConvertOptions& options) {
  check(std::find(kTargetTypes.begin(), kTargetTypes.end(), options.type) != kTargetTypes.end(),
        "type '",
        options.type,
        "' is not supported (known: f32, bf16, f16, q8_0)");
  if (out.extension() == ".gguf") {
    save_gguf_checkpoint(source, out, {.type = options.type, .progress = options.progress});
    return;
  }
  HfSaveOptions hf{.shard_bytes = options.shard_bytes, .progress = options.progress};
  hf.dtype = safetensors_dtype(options.type, out);
  save_hf_checkpoint(source, out, hf);
}

void convert_checkpoint(const fs::path& in, const fs::path& out, const ConvertOptions& options) {
  std::error_code ignored;
  check(!fs::equivalent(in, out, ignored), "cannot convert ", in.string(), " onto itself");
  convert_checkpoint(*open_checkpoint(in), out, options);
}

}  // namespace ssa
