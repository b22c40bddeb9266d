#include "checkpoint/gguf_save.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/expected_tensors.h"
#include "checkpoint/float_convert.h"
#include "checkpoint/gguf_checkpoint.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_quants.h"
#include "checkpoint/gguf_rope.h"
#include "checkpoint/gguf_tokenizer.h"

namespace ssa {
namespace {

constexpr size_t kChunkWeights = 1 << 16;  // converted at a time; a multiple of every block size

/// A tensor's bytes in the order of rows that GGUF wants, in the type the source has them in.
struct SourceTensor {
  GgufType type = GgufType::kF32;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

struct PlannedTensor {
  std::string hf_name;  // empty: rope_freqs.weight
  std::string gguf_name;
  GgufType type = GgufType::kF32;
  std::vector<int64_t> shape;
  uint64_t n_bytes = 0;
};

GgufType type_of(DType dtype, const std::string& name) {
  switch (dtype) {
    case DType::kF64:
      return GgufType::kF64;
    case DType::kF32:
      return GgufType::kF32;
    case DType::kF16:
      return GgufType::kF16;
    case DType::kBF16:
      return GgufType::kBF16;
    default:
      fail("tensor '",
           name,
           "' has the type ",
           dtype_name(dtype),
           "; weights are F64, F32, F16 or BF16");
  }
}

/// The type that all matrices become; nothing for "".
std::optional<GgufType> parse_save_type(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, GgufType>, 4> kNames = {{
      {"f32", GgufType::kF32},
      {"f16", GgufType::kF16},
      {"bf16", GgufType::kBF16},
      {"q8_0", GgufType::kQ8_0},
  }};
  if (name.empty()) {
    return std::nullopt;
  }
  for (const auto& [known, type] : kNames) {
    if (name == known) {
      return type;
    }
  }
  fail("GGUF type '", name, "' cannot be written (known: f32, f16, bf16, q8_0)");
}

HostTensor interleaved(const HostTensor& tensor, int64_t n_heads) {
  auto buffer = std::make_shared<std::vector<std::byte>>(tensor.bytes.size());
  const size_t row_bytes = tensor.bytes.size() / static_cast<size_t>(tensor.shape.front());
  interleave_heads(tensor.bytes, *buffer, n_heads, row_bytes);
  return {tensor.dtype, tensor.shape, *buffer, buffer};
}

class GgufSaver {
 public:
  GgufSaver(const Checkpoint& source, const std::string& type)
      : source_(source),
        gguf_(dynamic_cast<const GgufCheckpoint*>(&source)),
        type_(parse_save_type(type)) {
    check_tensors(source);
    plan();
  }

  void write(const std::filesystem::path& path, const ProgressFn& progress) const {
    AtomicFile file(path);
    file.write(header(path.stem().string()).bytes());
    uint64_t total = 0;
    for (const PlannedTensor& planned : plan_) {
      total += planned.n_bytes;
    }
    uint64_t done = 0;
    for (const PlannedTensor& planned : plan_) {
      write_tensor(planned, file);
      file.write(std::string(gguf_padding(planned.n_bytes), '\0'));
      done += planned.n_bytes;
      if (progress) {
        progress(static_cast<int64_t>(done), static_cast<int64_t>(total));
      }
    }
    file.commit();
  }

 private:
  void plan() {
    const ModelConfig& config = source_.config();
    if (config.rope.type == RopeType::kLlama3) {
      const int64_t n = config.head_dim / 2;
      add({"", std::string(kRopeFreqsName), GgufType::kF32, {n}, 0});
    }
    for (const ExpectedTensor& expected : expected_tensors(config)) {
      const auto name = gguf_tensor_name(expected.name);
      check(name.has_value(), "tensor '", expected.name, "' has no name in GGUF");
      add({expected.name, *name, target_type(expected), expected.shape, 0});
    }
  }

  void add(PlannedTensor planned) {
    uint64_t n_weights = 1;
    for (const int64_t size : planned.shape) {
      n_weights *= static_cast<uint64_t>(size);
    }
    planned.n_bytes = n_weights / gguf_block_size(planned.type) * gguf_block_bytes(planned.type);
    plan_.push_back(std::move(planned));
  }

  GgufType stored_type(const std::string& hf_name) const {
    return gguf_ != nullptr ? gguf_->stored_tensor(hf_name).type
                            : type_of(source_.tensor_dtype(hf_name), hf_name);
  }

  GgufType target_type(const ExpectedTensor& expected) const {
    if (expected.shape.size() < 2) {
      return GgufType::kF32;  // llama.cpp computes with norms and biases in no other type
    }
    const GgufType type = type_ ? *type_ : stored_type(expected.name);
    const bool rows_fit = static_cast<uint64_t>(expected.shape.back()) % gguf_block_size(type) == 0;
    return type == GgufType::kF64 || !rows_fit ? GgufType::kF32 : type;
  }

  SourceTensor load(const PlannedTensor& planned) const {
    if (planned.hf_name.empty()) {
      return rope_divisors();
    }
    if (gguf_ != nullptr) {  // same architecture, so the same order of rows
      const GgufTensor& stored = gguf_->stored_tensor(planned.hf_name);
      return {stored.type, stored.bytes, nullptr};
    }
    HostTensor tensor = source_.tensor(planned.hf_name);
    if (tensor.dtype == DType::kF64) {
      tensor = convert_floats(tensor, DType::kF32, planned.hf_name.c_str());
    }
    const int64_t n_heads = interleaved_heads(source_.config(), planned.hf_name);
    if (n_heads > 0) {
      tensor = interleaved(tensor, n_heads);
    }
    return {type_of(tensor.dtype, planned.hf_name), tensor.bytes, tensor.owner};
  }

  SourceTensor rope_divisors() const {
    if (gguf_ != nullptr) {
      if (const GgufTensor* stored = gguf_->file().find_tensor(kRopeFreqsName)) {
        return {stored->type, stored->bytes, nullptr};
      }
    }
    const ModelConfig& config = source_.config();
    const auto divisors =
        std::make_shared<std::vector<float>>(llama3_rope_divisors(config.rope, config.head_dim));
    return {GgufType::kF32, std::as_bytes(std::span(*divisors)), divisors};
  }

  void write_tensor(const PlannedTensor& planned, AtomicFile& file) const;

  GgufHeader header(const std::string& default_name) const {
    GgufHeader header;
    header.add_string("general.architecture", architecture_name(source_.config().architecture));
    header.add_string("general.type", "model");
    const auto name = gguf_ != nullptr ? gguf_->file().string("general.name") : std::nullopt;
    header.add_string("general.name", name.value_or(default_name));
    if (const auto type = file_type()) {
      header.add_uint32("general.file_type", *type);
    }
    header.add_uint32("general.quantization_version", 2);
    write_gguf_config(source_.config(), header);
    write_gguf_tokenizer(tokenizer(), source_.config().vocab_size, header);
    for (const PlannedTensor& planned : plan_) {
      header.add_tensor(planned.gguf_name, planned.type, planned.shape, planned.n_bytes);
    }
    return header;
  }

  /// The source's own where its blocks are kept, else that of the type most bytes have.
  std::optional<int64_t> file_type() const {
    if (gguf_ != nullptr && !type_) {
      return gguf_->file().integer("general.file_type");
    }
    std::map<GgufType, uint64_t> bytes_by_type;
    for (const PlannedTensor& planned : plan_) {
      bytes_by_type[planned.type] += planned.n_bytes;
    }
    const auto most = std::max_element(
        bytes_by_type.begin(), bytes_by_type.end(), [](const auto& a, const auto& b) {
          return a.second < b.second;
        });
    return gguf_file_type(most->first);
  }

  TokenizerParts tokenizer() const {
    const std::vector<int64_t>& eos = source_.config().eos_token_ids;
    return {.tokenizer_json = source_.tokenizer_json(),
            .tokenizer_config = source_.tokenizer_config(),
            .chat_template = source_.chat_template(),
            .bos_token_id = source_.config().bos_token_id,
            .eos_token_id = eos.empty() ? std::nullopt : std::optional(eos.front())};
  }

  const Checkpoint& source_;
  const GgufCheckpoint* gguf_;  // source_, if it is one
  std::optional<GgufType> type_;
  std::vector<PlannedTensor> plan_;
};

/// Rounds to 16-bit floats; throws if a finite weight becomes infinite.
template <uint16_t (*round)(float), float (*widen)(uint16_t)>
void pack_16_bit(std::span<const float> weights, std::byte* packed, const std::string& name) {
  bool overflowed = false;
  for (size_t i = 0; i < weights.size(); ++i) {
    const uint16_t rounded = round(weights[i]);
    overflowed |= std::isinf(widen(rounded)) && !std::isinf(weights[i]);
    std::memcpy(packed + i * sizeof rounded, &rounded, sizeof rounded);
  }
  check(!overflowed, "tensor '", name, "' holds a weight beyond the type's range");
}

/// Packs weights as one of the types that parse_save_type gives.
void pack(GgufType type,
          std::span<const float> weights,
          std::span<std::byte> packed,
          const std::string& name) {
  switch (type) {
    case GgufType::kF32:
      std::memcpy(packed.data(), weights.data(), weights.size_bytes());
      return;
    case GgufType::kF16:
      return pack_16_bit<f32_to_f16, f16_to_f32>(weights, packed.data(), name);
    case GgufType::kBF16:
      return pack_16_bit<f32_to_bf16, bf16_to_f32>(weights, packed.data(), name);
    case GgufType::kQ8_0:
      check(quantize_q8_0(weights, packed),
            "tensor '",
            name,
            "' holds a weight that is not finite or too large for Q8_0");
      return;
    default:
      fail("tensor '", name, "': ", gguf_type_name(type), " cannot be written");
  }
}

void GgufSaver::write_tensor(const PlannedTensor& planned, AtomicFile& file) const {
  const SourceTensor source = load(planned);
  if (source.type == planned.type) {
    file.write(source.bytes);
    return;
  }
  const auto bytes_of = [](GgufType type, size_t n_weights) {
    return n_weights / gguf_block_size(type) * gguf_block_bytes(type);
  };
  const size_t n_weights =
      source.bytes.size() / gguf_block_bytes(source.type) * gguf_block_size(source.type);
  std::vector<float> weights(std::min(kChunkWeights, n_weights));
  std::vector<std::byte> packed(bytes_of(planned.type, weights.size()));
  for (size_t begin = 0; begin < n_weights; begin += weights.size()) {
    const size_t n = std::min(weights.size(), n_weights - begin);
    const auto chunk = std::span(weights).first(n);
    const auto out = std::span(packed).first(bytes_of(planned.type, n));
    dequantize(source.type,
               source.bytes.subspan(bytes_of(source.type, begin), bytes_of(source.type, n)),
               chunk);
    pack(planned.type, chunk, out, planned.gguf_name);
    file.write(out);
  }
}

}  // namespace

void save_gguf_checkpoint(const Checkpoint& source,
                          const std::filesystem::path& file,
                          const GgufSaveOptions& options) {
  GgufSaver(source, options.type).write(file, options.progress);
}

}  // namespace ssa
