#include "tokenizer/split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/oniguruma.h"
#include "tokenizer/unicode_tables.h"

namespace ssa {
namespace {

// Steps of backtracking within one match.
constexpr uint32_t kMatchLimit = 10'000'000;
// Memory of PCRE2's interpreter, where its compiler is not to be had.
constexpr uint32_t kHeapLimitKiB = 256 * 1024;
// Bytes of stack for the compiled pattern; mapped whole, but touched only as needed.
constexpr size_t kFirstStack = 32 * 1024;
constexpr size_t kLargestStack = 64 * 1024 * 1024;

std::string message_of(int error) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

/// `shown` is the pattern as the file has it.
pcre2_code* compile(std::string_view pattern, uint32_t options, std::string_view shown) {
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  size_t offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                                   pattern.size(),
                                   options | PCRE2_UTF,
                                   &error,
                                   &offset,
                                   context.get());
  check(code != nullptr, "pattern '", shown, "': ", message_of(error));
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it fails, matching is slower
  return code;
}

}  // namespace

SplitRegex SplitRegex::from_pattern(std::string_view pattern) {
  check(is_valid_utf8(pattern), "pattern is not UTF-8");
  return SplitRegex(compile(oniguruma_to_pcre2(pattern), PCRE2_UCP, pattern));
}

SplitRegex SplitRegex::from_literal(std::string_view text) {
  check(is_valid_utf8(text), "pattern is not UTF-8");
  return SplitRegex(compile(text, PCRE2_LITERAL, text));
}

SplitRegex SplitRegex::digits() {
  std::string pattern = R"([\p{N})";
  for (const CharacterRange& range : new_numerals()) {
    append_utf8(pattern, range.first);
    pattern += '-';
    append_utf8(pattern, range.last);
  }
  return from_pattern(pattern + ']');
}

void SplitRegex::Free::operator()(pcre2_code* code) const {
  pcre2_code_free(code);
}

RegexMatcher::RegexMatcher(const SplitRegex& regex)
    : code_(regex.code_.get()),
      data_(pcre2_match_data_create(1, nullptr)),
      context_(pcre2_match_context_create(nullptr)) {
  pcre2_set_match_limit(context_.get(), kMatchLimit);
  pcre2_set_heap_limit(context_.get(), kHeapLimitKiB);
}

void RegexMatcher::Free::operator()(pcre2_match_data* data) const {
  pcre2_match_data_free(data);
}
void RegexMatcher::Free::operator()(pcre2_match_context* context) const {
  pcre2_match_context_free(context);
}
void RegexMatcher::Free::operator()(pcre2_jit_stack* stack) const {
  pcre2_jit_stack_free(stack);
}

void RegexMatcher::start(std::string_view text) {
  text_ = text;
  at_ = 0;
  last_end_.reset();
}

std::optional<TextRange> RegexMatcher::next() {
  while (at_ <= text_.size()) {
    const std::optional<TextRange> match = search(at_);
    if (!match) {
      at_ = text_.size() + 1;
      break;
    }
    at_ = match->end;
    if (match->begin == match->end && last_end_ == match->end) {
      // Empty, and behind the last match: pass over one character.
      if (at_ < text_.size()) {
        next_code_point(text_, at_);
      } else {
        ++at_;
      }
      continue;
    }
    last_end_ = match->end;
    return match;
  }
  return std::nullopt;
}

std::optional<TextRange> RegexMatcher::search(size_t from) {
  const auto match = [&] {
    return pcre2_match(code_,
                       reinterpret_cast<PCRE2_SPTR>(text_.data()),
                       text_.size(),
                       from,
                       PCRE2_NO_UTF_CHECK,
                       data_.get(),
                       context_.get());
  };
  int result = match();
  if (result == PCRE2_ERROR_JIT_STACKLIMIT && !stack_) {
    stack_.reset(pcre2_jit_stack_create(kFirstStack, kLargestStack, nullptr));
    pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
    result = match();
  }
  if (result == PCRE2_ERROR_NOMATCH) {
    return std::nullopt;
  }
  check(result >= 0, "splitting the text failed at byte ", from, ": ", message_of(result));
  const size_t* bounds = pcre2_get_ovector_pointer(data_.get());
  return TextRange{bounds[0], bounds[1]};
}

}  // namespace ssa
