#include "base/json.h"

#include <gtest/gtest.h>

#include <chrono>

#include "support/expect_error.h"

namespace ssa {
namespace {

TEST(Json, KeepsOrderAndTypes) {
  const std::string text = R"({"z":[1,-2,3.5,"x",null,true,{}],"a":{"k":[[]]},"":""})";
  EXPECT_EQ(dump_json(parse_json(text, "t")), text);
  EXPECT_EQ(parse_json(" 7 ", "t").get<int>(), 7);
  EXPECT_TRUE(parse_json("18446744073709551615", "t").is_number_unsigned());
}

TEST(Json, BrokenTextIsAnErrorNamingTheSource) {
  expect_error([] { parse_json("{\"a\":}", "file.json"); }, "file.json: parse error at column 6: ");
  expect_error([] { parse_json("{\n\"a\":}", "f"); }, "f: parse error at line 2, column 5: ");
  expect_error([] { parse_json("[\"a\xFF\xFE\"]", "f"); }, "last read: '\"a\\xff'");
  expect_error([] { parse_json("", "f"); }, "f: ");
  expect_error([] { parse_json("[1] 2", "f"); }, "f: ");
  expect_error([] { parse_json("\"\xFF\"", "f"); }, "f: ");
  expect_error([] { parse_json("1e999", "f"); }, "f: ");
  expect_error([] { parse_json(R"({"a":1,"b":2,"a":3})", "f"); }, "f: key 'a' stands twice");
  expect_error([] { parse_json(std::string(300, '['), "f"); }, "f: nested deeper than 256 levels");
  EXPECT_NO_THROW(parse_json(std::string(256, '[') + std::string(256, ']'), "f"));
}

TEST(Json, LargeObjectsTakeLinearTime) {
  std::string text = "{\"k\":0";
  for (int i = 0; i < 150'000; ++i) {
    text += ",\"token" + std::to_string(i) + "\":" + std::to_string(i);
  }
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(parse_json(text + '}', "t").size(), 150'001u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace ssa
