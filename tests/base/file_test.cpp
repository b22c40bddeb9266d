#include "base/file.h"

#include "base/error.h"
#include "base/json.h"
#include "support/folder_test.h"

namespace ssa {
namespace {
namespace fs = std::filesystem;

using File = FolderTest;

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

TEST_F(File, LinksAndDevicesStayWhatTheyAre) {
  write_file(folder_ / "target", "old");
  fs::create_symlink("target", folder_ / "link");
  write_file(folder_ / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_file(folder_ / "target"), "new");
  fs::create_symlink("/dev/null", folder_ / "nowhere");
  write_file(folder_ / "nowhere", "text");
  EXPECT_TRUE(fs::is_symlink(folder_ / "nowhere"));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
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
