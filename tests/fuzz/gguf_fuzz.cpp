// Any bytes as a GGUF file: refused with an Error, or a checkpoint whose every tensor and tokenizer
// can be read.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_checkpoint.h"

namespace {

/// Reads every byte, so that the sanitizer sees one that lies outside.
unsigned sum_of(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte byte : bytes) {
    sum += std::to_integer<unsigned>(byte);
  }
  return sum;
}

template <class Fn>
void expect_only_errors(Fn fn) {
  try {
    fn();
  } catch (const ssa::Error&) {
  }
}

void read_model(const std::shared_ptr<const ssa::GgufFile>& file) {
  const ssa::GgufCheckpoint model(file);
  for (const std::string& name : model.tensor_names()) {
    expect_only_errors([&] {
      const ssa::HostTensor tensor = model.tensor(name);
      if (sum_of(tensor.bytes) > 255 * tensor.bytes.size()) {
        std::abort();
      }
    });
  }
  model.format();
  model.generation_config();
  expect_only_errors([&] { ssa::dump_json(model.tokenizer_json()); });
  expect_only_errors([&] { ssa::dump_json(model.tokenizer_config()); });
  expect_only_errors([&] { model.chat_template(); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  expect_only_errors([&] {
    const auto file = std::make_shared<const ssa::GgufFile>(bytes, "fuzz");
    for (const ssa::GgufTensor& tensor : file->tensors()) {
      if (sum_of(tensor.bytes) > 255 * tensor.bytes.size()) {
        std::abort();
      }
    }
    read_model(file);
  });
  return 0;
}
