// Many strings, looked for in text at once.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace ssa {

/// Lookups are safe from many threads.
class TextTrie {
 public:
  struct Match {
    size_t begin, end;
    size_t value;
  };

  /// `text` must not be empty; false if it is there already, which leaves its value.
  bool insert(std::string_view text, size_t value);
  /// The first match that begins at `from` or behind, and the longest of those that begin there.
  std::optional<Match> find(std::string_view text, size_t from) const;

 private:
  struct Node {
    std::vector<std::pair<char, uint32_t>> children;  // byte, node
    std::optional<size_t> value;
  };
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t child(uint32_t node, char byte) const;

  std::vector<Node> nodes_{1};        // the root first
  std::array<bool, 256> is_first_{};  // some string begins with this byte
};

}  // namespace ssa
