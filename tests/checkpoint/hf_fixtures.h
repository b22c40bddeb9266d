// What the tests of the Hugging Face side share: tiny models, and the text of an error.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoint/expected_tensors.h"
#include "checkpoint/safetensors_writer.h"
#include "support/folder_test.h"

namespace ssa {

/// The Error's message; "" if fn throws none.
template <class Fn>
std::string error_of(Fn fn) {
  try {
    fn();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Expects an Error of one line that holds all of `parts`.
template <class Fn>
void expect_error(Fn fn, const std::vector<std::string>& parts) {
  const std::string message = error_of(fn);
  EXPECT_NE(message, "") << "no error, expected one with " << ::testing::PrintToString(parts);
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
  }
}

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(SSA_GOLDEN_DIR) / name;
}

template <class T>
HostTensor make_tensor(DType dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  auto bytes = std::make_shared<std::vector<std::byte>>(values.size() * sizeof(T));
  if (!values.empty()) {
    std::memcpy(bytes->data(), values.data(), bytes->size());
  }
  return {dtype, std::move(shape), *bytes, bytes};
}

inline Json tiny_config() {
  return parse_json(R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 16,
    "max_position_embeddings": 64, "rope_theta": 500.0, "torch_dtype": "float32"})",
                    "tiny config");
}

/// Every tensor that `config` needs, as F32 whose values count up across the model: 0, 1/8, 2/8,
/// ...
inline std::vector<NamedTensor> tiny_tensors(const Json& config) {
  std::vector<NamedTensor> tensors;
  float value = 0;
  for (const ExpectedTensor& expected : expected_tensors(parse_hf_config(config, nullptr))) {
    size_t n = 1;
    for (const int64_t size : expected.shape) n *= static_cast<size_t>(size);
    std::vector<float> values(n);
    for (float& v : values) v = (value += 0.125F);
    tensors.push_back({expected.name, make_tensor(DType::kF32, expected.shape, values)});
  }
  return tensors;
}

inline void write_tiny_model(const std::filesystem::path& folder,
                             const Json& config = tiny_config()) {
  std::filesystem::create_directories(folder);
  write_file(folder / "config.json", dump_json(config));
  write_safetensors(folder / "model.safetensors", tiny_tensors(config));
}

}  // namespace ssa
