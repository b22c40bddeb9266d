#include "checkpoint/dtype.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace ssa {
namespace {

struct DTypeRow {
  DType dtype;
  size_t size;
  std::string_view name;
  std::string_view config_name;  // empty: no weight type
};

// In the order of DType's enumerators.
constexpr std::array<DTypeRow, 13> kDTypes = {{
    {DType::kF64, 8, "F64", "float64"},
    {DType::kF32, 4, "F32", "float32"},
    {DType::kF16, 2, "F16", "float16"},
    {DType::kBF16, 2, "BF16", "bfloat16"},
    {DType::kI64, 8, "I64", ""},
    {DType::kI32, 4, "I32", ""},
    {DType::kI16, 2, "I16", ""},
    {DType::kI8, 1, "I8", ""},
    {DType::kU64, 8, "U64", ""},
    {DType::kU32, 4, "U32", ""},
    {DType::kU16, 2, "U16", ""},
    {DType::kU8, 1, "U8", ""},
    {DType::kBool, 1, "BOOL", ""},
}};

static_assert([] {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (static_cast<size_t>(kDTypes[i].dtype) != i) return false;
  }
  return true;
}());

const DTypeRow& row(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)];
}

}  // namespace

size_t dtype_size(DType dtype) {
  return row(dtype).size;
}

std::string_view dtype_name(DType dtype) {
  return row(dtype).name;
}

DType parse_dtype(std::string_view name) {
  const auto found = std::find_if(
      kDTypes.begin(), kDTypes.end(), [&](const DTypeRow& r) { return r.name == name; });
  if (found == kDTypes.end()) {
    std::string known;
    for (const DTypeRow& type : kDTypes) {
      known.append(known.empty() ? "" : " ").append(type.name);
    }
    fail("element type '", name.substr(0, 32), "' is not supported (known: ", known, ")");
  }
  return found->dtype;
}

std::string_view config_dtype_name(DType dtype) {
  const std::string_view name = row(dtype).config_name;
  check(!name.empty(), "weights cannot have the type ", dtype_name(dtype));
  return name;
}

}  // namespace ssa
