// CSV, and TensorBoard's event files read back.
#include "training/run_log.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <map>

#include "base/file.h"
#include "base/list_folder.h"
#include "training/run_folder.h"

namespace ssa {
namespace {

TEST(Crc32c, IsCastagnolis) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720, B.4
}

TEST(CsvFile, AppendsUnderItsHeader) {
  const RunFolder folder;
  const std::filesystem::path path = folder / "log.csv";
  CsvFile(path, {"step", "loss", "mfu"}).row({{"step", 1}, {"loss", 0.123456789123}, {"other", 4}});
  CsvFile(path, {"step", "loss", "mfu"}).row({{"mfu", 50}, {"step", 2000000}});
  EXPECT_EQ(read_file(path), "step,loss,mfu\n1,0.123456789,\n2000000,,50\n");
  CsvFile(path, {"step", "loss"}).row({{"step", 3}});
  EXPECT_EQ(read_file(path), "step,loss\n3,\n");
}

/// Reads what protobuf calls a message: fields by number, in order; lengths and numbers alike as
/// bytes.
class Message {
 public:
  explicit Message(const std::string& bytes) {
    for (size_t at = 0; at < bytes.size();) {
      const uint64_t key = varint(bytes, at);
      const size_t size = (key & 7) == 2   ? varint(bytes, at)
                          : (key & 7) == 1 ? 8
                          : (key & 7) == 5 ? 4
                                           : 0;
      if (size == 0 && (key & 7) == 0) {
        const uint64_t value = varint(bytes, at);
        fields_.emplace(static_cast<int>(key >> 3), std::to_string(value));
        continue;
      }
      fields_.emplace(static_cast<int>(key >> 3), bytes.substr(at, size));
      at += size;
    }
  }
  std::vector<std::string> all(int number) const {
    const auto [begin, end] = fields_.equal_range(number);
    std::vector<std::string> values;
    for (auto it = begin; it != end; ++it) {
      values.push_back(it->second);
    }
    return values;
  }
  std::string one(int number) const {
    const auto values = all(number);
    EXPECT_EQ(values.size(), 1U) << "field " << number;
    return values.empty() ? "" : values[0];
  }

 private:
  static uint64_t varint(const std::string& bytes, size_t& at) {
    uint64_t value = 0;
    for (int shift = 0; at < bytes.size(); shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes[at++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) {
        break;
      }
    }
    return value;
  }
  std::multimap<int, std::string> fields_;
};

template <class T>
T read_number(const std::string& bytes, size_t at = 0) {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

uint32_t masked(const std::string& bytes) {
  const uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xA282EAD8U;
}

/// Records of a TFRecord file, their checksums checked.
std::vector<std::string> read_records(const std::string& file) {
  std::vector<std::string> records;
  for (size_t at = 0; at < file.size();) {
    const auto size = read_number<uint64_t>(file, at);
    EXPECT_EQ(read_number<uint32_t>(file, at + 8), masked(file.substr(at, 8)));
    records.push_back(file.substr(at + 12, size));
    EXPECT_EQ(read_number<uint32_t>(file, at + 12 + size), masked(records.back()));
    at += size + 16;
  }
  return records;
}

TEST(EventFile, IsWhatTensorBoardReads) {
  const RunFolder folder;
  EventFile events(folder / "tensorboard");
  events.scalars(7, {{"loss", 2.5}, {"validation/gists", -1e-3}});
  events.scalars(70000, {{"loss", 2.25}});
  const auto entry = list_folder(folder / "tensorboard").at(0);
  EXPECT_TRUE(entry.filename().string().starts_with("events.out.tfevents."));
  const std::vector<std::string> records =
      read_records(read_file(entry));  // it is flushed: the file is still open
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(Message(records[0]).one(3), "brain.Event:2");
  EXPECT_GT(read_number<double>(Message(records[0]).one(1)), 1.6e9);

  const Message first(records[1]);
  EXPECT_EQ(first.one(2), "7");
  const std::vector<std::string> values = Message(first.one(5)).all(1);
  ASSERT_EQ(values.size(), 2U);
  EXPECT_EQ(Message(values[0]).one(1), "loss");
  EXPECT_EQ(read_number<float>(Message(values[0]).one(2)), 2.5F);
  EXPECT_EQ(Message(values[1]).one(1), "validation/gists");
  EXPECT_EQ(read_number<float>(Message(values[1]).one(2)), -1e-3F);
  EXPECT_EQ(Message(records[2]).one(2), "70000");
}

}  // namespace
}  // namespace ssa
