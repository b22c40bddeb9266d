// What a run reports: a line, a CSV row and TensorBoard scalars a step.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ssa {

using NamedValues = std::vector<std::pair<std::string, double>>;

/// A TensorBoard event file: TFRecord frames of Event protobufs with scalar summaries. Flushed at
/// every step.
class EventFile {
 public:
  /// Makes FOLDER/events.out.tfevents.TIME.ssa. Throws Error naming the path.
  explicit EventFile(const std::filesystem::path& folder);
  void scalars(int64_t step, const NamedValues& values);

 private:
  void write_record(const std::string& event);
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
};

/// "a,b,c" rows under a header, appended to if the file exists with the same header.
class CsvFile {
 public:
  CsvFile(const std::filesystem::path& path, std::vector<std::string> columns);
  /// Columns without a value stay empty.
  void row(const NamedValues& values);

 private:
  std::filesystem::path path_;
  std::vector<std::string> columns_;
};

/// CRC-32C (Castagnoli), as TFRecord wants it.
uint32_t crc32c(const std::string& bytes);

}  // namespace ssa
