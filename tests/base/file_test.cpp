#include "base/file.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"

namespace ssa {
namespace {
namespace fs = std::filesystem;

class File : public ::testing::Test {
 protected:
  void SetUp() override {
    // Tests run side by side: each has a folder of its own.
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(::testing::TempDir()) / (std::string("ssa_file_test_") + test->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(File, AtomicWriteLeavesNothingUnlessCommitted) {
  {
    AtomicFile file(folder_ / "a");
    file.write("half");
  }
  EXPECT_TRUE(fs::is_empty(folder_));
  write_file(folder_ / "a", "whole");
  EXPECT_EQ(read_file(folder_ / "a"), "whole");
  const MappedFile mapped(folder_ / "a");
  EXPECT_EQ(mapped.bytes().size(), 5u);
}

TEST_F(File, MissingFileIsNamed) {
  try {
    MappedFile file(folder_ / "nothing.bin");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("nothing.bin"), std::string::npos);
  }
}

TEST(Json, ErrorsNameTheSource) {
  EXPECT_THROW(parse_json("{\"a\": }", "x.json"), Error);
  EXPECT_THROW(parse_json(std::string(1000, '['), "deep"), Error);
  const Json object = parse_json(R"({"n": 3, "s": "x", "z": null})", "ok");
  EXPECT_EQ(get_or<int64_t>(object, "n", 0), 3);
  EXPECT_EQ(get_or<int64_t>(object, "z", 7), 7);
  EXPECT_THROW(get_or<int64_t>(object, "s", 0), Error);
}

}  // namespace
}  // namespace ssa
