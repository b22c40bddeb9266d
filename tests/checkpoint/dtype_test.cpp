#include "checkpoint/dtype.h"

#include "hf_fixtures.h"

namespace ssa {
namespace {

TEST(DType, NamesAndSizesGoBothWays) {
  const std::pair<const char*, size_t> kExpected[] = {{"F64", 8},
                                                      {"F32", 4},
                                                      {"F16", 2},
                                                      {"BF16", 2},
                                                      {"I64", 8},
                                                      {"I32", 4},
                                                      {"I16", 2},
                                                      {"I8", 1},
                                                      {"U64", 8},
                                                      {"U32", 4},
                                                      {"U16", 2},
                                                      {"U8", 1},
                                                      {"BOOL", 1}};
  for (const auto& [name, size] : kExpected) {
    EXPECT_EQ(dtype_name(parse_dtype(name)), name);
    EXPECT_EQ(dtype_size(parse_dtype(name)), size) << name;
  }
}

TEST(DType, UnknownNameListsTheKnown) {
  expect_error([] { parse_dtype("F8_E4M3"); }, {"'F8_E4M3'", "F64", "BF16", "BOOL"});
  expect_error([] { parse_dtype("f32"); }, {"'f32'"});
}

TEST(DType, ConfigNames) {
  EXPECT_EQ(config_dtype_name(DType::kBF16), "bfloat16");
  EXPECT_EQ(config_dtype_name(DType::kF64), "float64");
  expect_error([] { config_dtype_name(DType::kI8); }, {"I8"});
}

}  // namespace
}  // namespace ssa
