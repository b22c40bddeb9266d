// The records of text files and JSON-lines files, one by one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace ssa {

/// A line of a .jsonl file, or a document of any other file.
struct InputRecord {
  std::string_view text;
  bool is_json = false;
  std::string where;    // "FILE line 3", "FILE document 3", "FILE"
  uint64_t n_read = 0;  // bytes of all files up to its end
};

/// Goes through files in the order given. Files are mapped, so they may be larger than memory;
/// records stay valid as long as the reader. Not thread-safe.
class InputRecords {
 public:
  /// Text files hold documents with `separator` between them; without it a NUL byte separates, and
  /// a file without any is one document. Lines of white space alone are passed over. Throws Error
  /// naming a file that cannot be opened, or ends in .json.
  InputRecords(const std::vector<std::filesystem::path>& files,
               const std::optional<std::string>& separator);

  /// The next record; nothing at the end.
  std::optional<InputRecord> next();
  uint64_t total_bytes() const { return total_bytes_; }

 private:
  std::string_view take_record(std::string_view separator);

  std::vector<MappedFile> files_;
  std::string separator_;
  uint64_t total_bytes_ = 0;
  size_t file_ = 0;        // being read
  size_t offset_ = 0;      // in it
  uint64_t number_ = 0;    // records taken from it
  uint64_t n_behind_ = 0;  // bytes of the files before
};

}  // namespace ssa
