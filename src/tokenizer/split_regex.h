// Regular expressions that split text, run by PCRE2 with its just-in-time compiler.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace ssa {

struct TextRange {
  size_t begin, end;  // bytes; half-open
};

/// A compiled pattern. Immutable, safe from many threads, move-only.
class SplitRegex {
 public:
  /// `pattern` as Oniguruma reads it. Throws Error naming the pattern and what is wrong with it.
  static SplitRegex from_pattern(std::string_view pattern);
  /// Matches `text` itself.
  static SplitRegex from_literal(std::string_view text);
  /// Matches one number character, as Rust's char::is_numeric has them.
  static SplitRegex digits();

 private:
  friend class RegexMatcher;
  explicit SplitRegex(pcre2_real_code_8* code) : code_(code) {}
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, Free> code_;
};

/// Finds the matches of one pattern in one text after another. Keeps references to both. Not
/// thread-safe.
class RegexMatcher {
 public:
  explicit RegexMatcher(const SplitRegex& regex);

  /// Begins with a new text (well-formed UTF-8).
  void start(std::string_view text);
  /// The next match that does not overlap the last; an empty one never touches the end of the last,
  /// as the Hugging Face library has it. Throws Error if matching takes too much time or memory.
  std::optional<TextRange> next();

 private:
  std::optional<TextRange> search(size_t from);
  struct Free {
    void operator()(pcre2_real_match_data_8* data) const;
    void operator()(pcre2_real_match_context_8* context) const;
    void operator()(pcre2_real_jit_stack_8* stack) const;
  };

  const pcre2_real_code_8* code_;
  std::unique_ptr<pcre2_real_match_data_8, Free> data_;
  std::unique_ptr<pcre2_real_match_context_8, Free> context_;
  std::unique_ptr<pcre2_real_jit_stack_8, Free>
      stack_;  // only once the machine stack was too small
  std::string_view text_;
  size_t at_ = 0;                   // where the next search begins
  std::optional<size_t> last_end_;  // of the last match
};

}  // namespace ssa
