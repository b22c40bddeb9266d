#include "checkpoint/gguf_checkpoint.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_quants.h"
#include "checkpoint/gguf_tokenizer.h"

namespace ssa {
namespace {

HostTensor allocate(DType dtype, std::vector<int64_t> shape, size_t n_bytes) {
  auto buffer = std::make_shared_for_overwrite<std::byte[]>(n_bytes);
  const std::span<const std::byte> bytes(buffer.get(), n_bytes);
  return {dtype, std::move(shape), bytes, std::move(buffer)};
}

/// The bytes of a tensor that allocate() has just made.
std::span<std::byte> writable(const HostTensor& tensor) {
  return {const_cast<std::byte*>(tensor.bytes.data()), tensor.bytes.size()};
}

bool is_aligned(std::span<const std::byte> bytes, size_t alignment) {
  return reinterpret_cast<uintptr_t>(bytes.data()) % alignment == 0;
}

HostTensor dequantized(const GgufTensor& stored) {
  const size_t n_weights =
      stored.bytes.size() / gguf_block_bytes(stored.type) * gguf_block_size(stored.type);
  HostTensor tensor = allocate(DType::kF32, stored.shape, n_weights * sizeof(float));
  auto* out = reinterpret_cast<float*>(writable(tensor).data());
  dequantize(stored.type, stored.bytes, {out, n_weights});
  return tensor;
}

}  // namespace

GgufCheckpoint::GgufCheckpoint(std::shared_ptr<const GgufFile> file)
    : file_(std::move(file)), config_(read_gguf_config(*file_)) {
  for (const GgufTensor& tensor : file_->tensors()) {
    if (const auto name = hf_tensor_name(tensor.name)) {
      tensors_.emplace(*name, &tensor);
    } else {
      check(tensor.name == kRopeFreqsName,
            file_->name(),
            ": tensor ",
            printable(tensor.name),
            " belongs to no supported model");
    }
  }
}

std::string GgufCheckpoint::format() const {
  std::map<std::string, uint64_t> bytes_by_type;
  for (const GgufTensor& tensor : file_->tensors()) {
    if (tensor.shape.size() > 1) {  // norms and biases are F32 in every file
      bytes_by_type[gguf_type_name(tensor.type)] += tensor.bytes.size();
    }
  }
  std::vector<std::string> types;
  for (const auto& [type, n_bytes] : bytes_by_type) {
    types.push_back(type);
  }
  std::sort(types.begin(), types.end(), [&](const std::string& a, const std::string& b) {
    return bytes_by_type[a] > bytes_by_type[b];
  });
  return "GGUF " + join(types, ", ");
}

std::vector<std::string> GgufCheckpoint::tensor_names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) {
    names.push_back(name);
  }
  return names;
}

std::vector<int64_t> GgufCheckpoint::tensor_shape(const std::string& name) const {
  return stored_tensor(name).shape;
}

DType GgufCheckpoint::tensor_dtype(const std::string& name) const {
  return plain_dtype(stored_tensor(name).type).value_or(DType::kF32);
}

const GgufTensor& GgufCheckpoint::stored_tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  check(found != tensors_.end(), file_->name(), ": there is no tensor '", name, "'");
  return *found->second;
}

HostTensor GgufCheckpoint::plain_tensor(const GgufTensor& stored) const {
  const auto dtype = plain_dtype(stored.type);
  if (!dtype) {
    return dequantized(stored);
  }
  if (is_aligned(stored.bytes, dtype_size(*dtype))) {
    return {*dtype, stored.shape, stored.bytes, file_};
  }
  HostTensor copy = allocate(*dtype, stored.shape, stored.bytes.size());
  std::copy(stored.bytes.begin(), stored.bytes.end(), writable(copy).begin());
  return copy;
}

HostTensor GgufCheckpoint::tensor(const std::string& name) const {
  const GgufTensor& stored = stored_tensor(name);
  return in_hf_order(name, stored, plain_tensor(stored));
}

std::optional<HostTensor> GgufCheckpoint::int8_blocks(const std::string& name) const {
  const GgufTensor& stored = stored_tensor(name);
  if (stored.type != GgufType::kQ8_0 || stored.shape.size() != 2) {
    return std::nullopt;
  }
  const auto row_bytes = static_cast<int64_t>(gguf_block_bytes(stored.type)) *
                         (stored.shape[1] / static_cast<int64_t>(gguf_block_size(stored.type)));
  return in_hf_order(name, stored, {DType::kU8, {stored.shape[0], row_bytes}, stored.bytes, file_});
}

HostTensor GgufCheckpoint::in_hf_order(const std::string& name,
                                       const GgufTensor& stored,
                                       const HostTensor& plain) const {
  const int64_t n_heads = interleaved_heads(config_, name);
  if (n_heads == 0) {
    return plain;
  }
  const int64_t n_rows = stored.shape.front();
  check(n_rows % (2 * n_heads) == 0,
        file_->name(),
        ": tensor '",
        stored.name,
        "' has ",
        n_rows,
        " rows, which ",
        n_heads,
        " heads cannot share evenly");
  HostTensor ordered = allocate(plain.dtype, plain.shape, plain.bytes.size());
  split_interleaved_heads(
      plain.bytes, writable(ordered), n_heads, plain.bytes.size() / static_cast<size_t>(n_rows));
  return ordered;
}

uint64_t GgufCheckpoint::tensor_bytes() const {
  uint64_t total = 0;
  for (const auto& [name, tensor] : tensors_) {
    total += tensor->bytes.size();
  }
  return total;
}

Json GgufCheckpoint::tokenizer_json() const {
  return read_gguf_tokenizer(*file_);
}

Json GgufCheckpoint::tokenizer_config() const {
  return read_gguf_tokenizer_config(*file_);
}

std::optional<std::string> GgufCheckpoint::chat_template() const {
  const auto text = file_->string("tokenizer.chat_template");
  return text ? std::optional<std::string>(*text) : std::nullopt;
}

Json GgufCheckpoint::generation_config() const {
  Json config = Json::object();
  if (config_.bos_token_id) {
    config["bos_token_id"] = *config_.bos_token_id;
  }
  if (!config_.eos_token_ids.empty()) {
    config["eos_token_id"] = config_.eos_token_ids.size() == 1 ? Json(config_.eos_token_ids[0])
                                                               : Json(config_.eos_token_ids);
  }
  return config.empty() ? Json() : config;
}

std::unique_ptr<Checkpoint> open_gguf_checkpoint(const std::filesystem::path& file) {
  return std::make_unique<GgufCheckpoint>(std::make_shared<const GgufFile>(file));
}

}  // namespace ssa
