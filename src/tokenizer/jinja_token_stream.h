// The tokens of a template, read one by one by the two parsers.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/jinja_lexer.h"

namespace ssa {

class JinjaTokenStream {
 public:
  explicit JinjaTokenStream(std::vector<JinjaToken> tokens) : tokens_(std::move(tokens)) {}

  const JinjaToken& current() const { return tokens_[at_]; }
  const JinjaToken& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  int line() const { return current().line; }

  bool at(JinjaTokenKind kind) const { return current().kind == kind; }
  bool at_symbol(std::string_view symbol) const {
    return at(JinjaTokenKind::Symbol) && current().text == symbol;
  }
  bool at_name(std::string_view name) const {
    return at(JinjaTokenKind::Name) && current().text == name;
  }

  /// Returns the current token and moves on; the last one, End, stays.
  JinjaToken take() {
    JinjaToken token = current();
    at_ += at_ + 1 < tokens_.size() ? 1 : 0;
    return token;
  }
  bool skip_symbol(std::string_view symbol) { return at_symbol(symbol) && (take(), true); }
  bool skip_name(std::string_view name) { return at_name(name) && (take(), true); }

  /// Throw Error unless the wanted token comes next.
  void expect_symbol(std::string_view symbol);
  std::string expect_name();
  void expect(JinjaTokenKind kind, std::string_view what);

  template <class... Parts>
  [[noreturn]] void fail_here(const Parts&... parts) const {
    fail("chat template line ", line(), ": ", parts...);
  }
  /// "expected WHAT, got ..."
  [[noreturn]] void fail_expected(std::string_view what) const;

 private:
  std::vector<JinjaToken> tokens_;  // ends with End
  size_t at_ = 0;
};

}  // namespace ssa
