#include "training/run_log.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace ssa {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78U : 0U);
    }
    table[i] = crc;
  }
  return table;
}

template <class T>
std::string little_endian(T value) {
  static_assert(std::endian::native == std::endian::little);
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// Protobuf: a field is its number and type, then its value.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) {
    bytes.push_back(static_cast<char>(value | 0x80));
  }
  bytes.push_back(static_cast<char>(value));
  return bytes;
}
std::string field(int number, int type) {
  return varint(static_cast<uint64_t>(number) << 3 | static_cast<uint64_t>(type));
}
std::string message_field(int number, const std::string& bytes) {
  return field(number, 2) + varint(bytes.size()) + bytes;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// TFRecord's mask, so that a checksum of data with checksums in it is not degenerate.
uint32_t masked_crc(const std::string& bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8U;
}

}  // namespace

uint32_t crc32c(const std::string& bytes) {
  static constexpr std::array<uint32_t, 256> kTable = make_crc_table();
  uint32_t crc = 0xFFFFFFFFU;
  for (const char c : bytes) {
    crc = kTable[(crc ^ static_cast<uint8_t>(c)) & 0xFF] ^ (crc >> 8);
  }
  return ~crc;
}

EventFile::EventFile(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const std::filesystem::path path =
      folder / concat("events.out.tfevents.", static_cast<int64_t>(now()), ".ssa");
  file_.reset(std::fopen(path.c_str(), "ab"));
  check(file_ != nullptr, path.string(), ": cannot be written: ", std::strerror(errno));
  write_record(field(1, 1) + little_endian(now()) + message_field(3, "brain.Event:2"));
}

void EventFile::scalars(int64_t step, const NamedValues& values) {
  std::string summary;
  for (const auto& [name, value] : values) {
    summary += message_field(
        1, message_field(1, name) + field(2, 5) + little_endian(static_cast<float>(value)));
  }
  write_record(field(1, 1) + little_endian(now()) + field(2, 0) +
               varint(static_cast<uint64_t>(step)) + message_field(5, summary));
}

void EventFile::write_record(const std::string& event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  const std::string record =
      length + little_endian(masked_crc(length)) + event + little_endian(masked_crc(event));
  check(std::fwrite(record.data(), 1, record.size(), file_.get()) == record.size() &&
            std::fflush(file_.get()) == 0,
        "the TensorBoard file cannot be written: ",
        std::strerror(errno));
}

CsvFile::CsvFile(const std::filesystem::path& path, std::vector<std::string> columns)
    : path_(path), columns_(std::move(columns)) {
  const std::string header = join(columns_, ",") + "\n";
  if (is_present(path_) && read_file(path_).starts_with(header)) {
    return;
  }
  write_file(path_, header);
}

void CsvFile::row(const NamedValues& values) {
  std::vector<std::string> cells;
  for (const std::string& column : columns_) {
    const auto found = std::find_if(
        values.begin(), values.end(), [&](const auto& each) { return each.first == column; });
    char text[40] = "";
    if (found != values.end()) {
      std::snprintf(text, sizeof text, "%.9g", found->second);
    }
    cells.emplace_back(text);
  }
  std::FILE* file = std::fopen(path_.c_str(), "a");
  check(file != nullptr, path_.string(), ": cannot be written: ", std::strerror(errno));
  const std::string line = join(cells, ",") + "\n";
  const bool ok = std::fwrite(line.data(), 1, line.size(), file) == line.size();
  check(
      std::fclose(file) == 0 && ok, path_.string(), ": cannot be written: ", std::strerror(errno));
}

}  // namespace ssa
