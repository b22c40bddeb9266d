#include "base/atomic_folder.h"

#include <fstream>

#include "base/file.h"
#include "base/interrupt.h"
#include "support/expect_error.h"
#include "support/folder_test.h"

namespace ssa {
namespace {

using AtomicFolderTest = FolderTest;

TEST_F(AtomicFolderTest, IsThereWholeOrNotAtAll) {
  {
    AtomicFolder left(folder_ / "out");
    write_file(left.path() / "a", "half");
  }
  EXPECT_EQ(file_names(), std::vector<std::string>{});
  AtomicFolder folder(folder_ / "out/");
  write_file(folder.path() / "a", "whole");
  EXPECT_FALSE(is_present(folder_ / "out"));
  folder.commit();
  EXPECT_EQ(file_names(), std::vector<std::string>{"out"});
  EXPECT_EQ(read_file(folder_ / "out/a"), "whole");
}

TEST_F(AtomicFolderTest, TakesThePlaceOfAnEmptyFolderAlone) {
  std::filesystem::create_directory(folder_ / "empty");
  AtomicFolder(folder_ / "empty").commit();
  write_file(folder_ / "file", "x");
  expect_error([&] { AtomicFolder(folder_ / "file"); }, "not an empty folder");
  expect_error([&] { AtomicFolder{folder_}; }, "not an empty folder");
  expect_error([&] { AtomicFolder(folder_ / "no/out"); }, "no/out");
  EXPECT_EQ(file_names(), (std::vector<std::string>{"empty", "file"}));
}

TEST_F(AtomicFolderTest, InterruptionLeavesNothing) {
  AtomicFolder folder(folder_ / "out");
  // More than the slots for files, and more than one read of the directory gives.
  for (int i = 0; i < 400; ++i) {
    std::ofstream(folder.path() / concat("a-rather-long-name-to-fill-the-directory-", i)) << "x";
  }
  AtomicFile unfinished(folder.path() / "unfinished");
  unfinished.write("half");
  remove_interrupted_files();
  EXPECT_EQ(file_names(), std::vector<std::string>{});
}

}  // namespace
}  // namespace ssa
