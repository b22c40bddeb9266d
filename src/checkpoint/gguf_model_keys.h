// The metadata keys that begin with the architecture's name.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/model_config.h"

namespace ssa {

/// The keys of one architecture, named without it: "block_count" is "llama.block_count". Refers to
/// the file, which must outlive it. What a key holds is read, and errors are thrown, as by
/// GgufFile.
class GgufModelKeys {
 public:
  GgufModelKeys(const GgufFile& file, Architecture architecture)
      : file_(file), prefix_(std::string(architecture_name(architecture)) + ".") {}

  std::string name(std::string_view key) const { return prefix_ + std::string(key); }
  std::optional<int64_t> integer(std::string_view key) const { return file_.integer(name(key)); }
  std::optional<double> number(std::string_view key) const { return file_.number(name(key)); }
  std::optional<bool> boolean(std::string_view key) const { return file_.boolean(name(key)); }
  std::optional<std::string_view> string(std::string_view key) const {
    return file_.string(name(key));
  }

  int64_t required_integer(std::string_view key) const { return file_.required_integer(name(key)); }

  /// Throws unless the key is missing or has this value.
  void expect(std::string_view key, int64_t expected) const {
    const int64_t value = integer(key).value_or(expected);
    check(value == expected,
          "key '",
          name(key),
          "': ",
          value,
          " is not supported here, expected ",
          expected);
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

}  // namespace ssa
