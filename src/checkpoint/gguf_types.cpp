#include "checkpoint/gguf_types.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"

namespace ssa {
namespace {

struct TypeRow {
  GgufType type;
  std::string_view name;
  size_t block_size;
  size_t block_bytes;
  std::optional<uint32_t> file_type;
  std::optional<DType> dtype;
};

constexpr std::array<TypeRow, 14> kGgufTypes = {{
    {GgufType::kF32, "F32", 1, 4, 0, DType::kF32},
    {GgufType::kF16, "F16", 1, 2, 1, DType::kF16},
    {GgufType::kBF16, "BF16", 1, 2, 32, DType::kBF16},
    {GgufType::kF64, "F64", 1, 8, {}, DType::kF64},
    {GgufType::kQ4_0, "Q4_0", 32, 18, 2, {}},
    {GgufType::kQ4_1, "Q4_1", 32, 20, 3, {}},
    {GgufType::kQ5_0, "Q5_0", 32, 22, 8, {}},
    {GgufType::kQ5_1, "Q5_1", 32, 24, 9, {}},
    {GgufType::kQ8_0, "Q8_0", 32, 34, 7, {}},
    {GgufType::kQ2_K, "Q2_K", 256, 84, 10, {}},
    {GgufType::kQ3_K, "Q3_K", 256, 110, 12, {}},
    {GgufType::kQ4_K, "Q4_K", 256, 144, 15, {}},
    {GgufType::kQ5_K, "Q5_K", 256, 176, 17, {}},
    {GgufType::kQ6_K, "Q6_K", 256, 210, 18, {}},
}};

// Types that exist but are not read; their names make a better message than their numbers.
constexpr std::array<std::pair<uint32_t, std::string_view>, 21> kUnreadable = {{
    {9, "Q8_1"},    {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"}, {24, "I8"},      {25, "I16"},
    {26, "I32"},    {27, "I64"},   {29, "IQ1_M"},   {34, "TQ1_0"},  {35, "TQ2_0"},   {39, "MXFP4"},
    {40, "NVFP4"},  {41, "Q1_0"},  {42, "Q2_0"},
}};

const TypeRow* find_row(uint32_t number) {
  const auto found = std::find_if(kGgufTypes.begin(), kGgufTypes.end(), [&](const TypeRow& row) {
    return static_cast<uint32_t>(row.type) == number;
  });
  return found == kGgufTypes.end() ? nullptr : &*found;
}

const TypeRow& row(GgufType type) {
  return *find_row(static_cast<uint32_t>(type));
}

}  // namespace

std::optional<GgufType> find_gguf_type(uint32_t number) {
  const TypeRow* found = find_row(number);
  return found == nullptr ? std::nullopt : std::optional(found->type);
}

std::string gguf_type_name(uint32_t number) {
  if (const TypeRow* found = find_row(number)) {
    return std::string(found->name);
  }
  for (const auto& [unreadable, name] : kUnreadable) {
    if (unreadable == number) {
      return std::string(name);
    }
  }
  return concat("type ", number);
}

std::string readable_gguf_types() {
  std::string names;
  for (const TypeRow& type : kGgufTypes) {
    names.append(names.empty() ? "" : " ").append(type.name);
  }
  return names;
}

size_t gguf_block_size(GgufType type) {
  return row(type).block_size;
}

size_t gguf_block_bytes(GgufType type) {
  return row(type).block_bytes;
}

std::optional<DType> plain_dtype(GgufType type) {
  return row(type).dtype;
}

std::optional<uint32_t> gguf_file_type(GgufType type) {
  return row(type).file_type;
}

}  // namespace ssa
