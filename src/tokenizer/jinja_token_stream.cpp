#include "tokenizer/jinja_token_stream.h"

#include "base/error.h"

namespace ssa {
namespace {

std::string describe(const JinjaToken& token) {
  switch (token.kind) {
    case JinjaTokenKind::Data:
      return "text";
    case JinjaTokenKind::PrintBegin:
      return "'{{'";
    case JinjaTokenKind::PrintEnd:
      return "'}}'";
    case JinjaTokenKind::BlockBegin:
      return "'{%'";
    case JinjaTokenKind::BlockEnd:
      return "'%}'";
    case JinjaTokenKind::Text:
      return "a string";
    case JinjaTokenKind::End:
      return "the end of the template";
    default:
      return "'" + token.text + "'";
  }
}

}  // namespace

void JinjaTokenStream::expect_symbol(std::string_view symbol) {
  if (!skip_symbol(symbol)) {
    fail_expected(concat("'", symbol, "'"));
  }
}

std::string JinjaTokenStream::expect_name() {
  if (!at(JinjaTokenKind::Name)) {
    fail_expected("a name");
  }
  return take().text;
}

void JinjaTokenStream::expect(JinjaTokenKind kind, std::string_view what) {
  if (!at(kind)) {
    fail_expected(what);
  }
  take();
}

void JinjaTokenStream::fail_expected(std::string_view what) const {
  fail_here("expected ", what, ", got ", describe(current()));
}

}  // namespace ssa
