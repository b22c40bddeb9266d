#include "tokenizer/text_trie.h"

namespace ssa {

uint32_t TextTrie::child(uint32_t node, char byte) const {
  for (const auto& [label, next] : nodes_[node].children) {
    if (label == byte) {
      return next;
    }
  }
  return kNone;
}

bool TextTrie::insert(std::string_view text, size_t value) {
  uint32_t node = 0;
  for (const char byte : text) {
    uint32_t next = child(node, byte);
    if (next == kNone) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, next);
      nodes_.emplace_back();
    }
    node = next;
  }
  if (nodes_[node].value) {
    return false;
  }
  nodes_[node].value = value;
  is_first_[static_cast<unsigned char>(text.front())] = true;
  return true;
}

std::optional<TextTrie::Match> TextTrie::find(std::string_view text, size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!is_first_[static_cast<unsigned char>(text[begin])]) {
      continue;
    }
    std::optional<Match> longest;
    uint32_t node = 0;
    for (size_t end = begin; end < text.size();) {
      node = child(node, text[end]);
      if (node == kNone) {
        break;
      }
      ++end;
      if (nodes_[node].value) {
        longest = {begin, end, *nodes_[node].value};
      }
    }
    if (longest) {
      return longest;
    }
  }
  return std::nullopt;
}

}  // namespace ssa
