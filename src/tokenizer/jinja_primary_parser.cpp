// The part of the expression parser that reads single values, and the attributes, calls, filters
// and tests behind them.
#include <charconv>
#include <string>
#include <utility>

#include "tokenizer/jinja_expression_parser.h"

namespace ssa {

JinjaExpressionPtr JinjaExpressionParser::parse_primary() {
  switch (tokens_.current().kind) {
    case JinjaTokenKind::Name:
      return parse_name();
    case JinjaTokenKind::Text:
      return parse_string();
    case JinjaTokenKind::Integer:
    case JinjaTokenKind::Real:
      return parse_number();
    default:
      if (tokens_.at_symbol("(")) return parse_bracket();
      if (tokens_.at_symbol("[")) return parse_list();
      if (tokens_.at_symbol("{")) return parse_dict();
      tokens_.fail_expected("a value");
  }
}

JinjaExpressionPtr JinjaExpressionParser::parse_name() {
  const JinjaToken name = tokens_.take();
  if (name.text == "true" || name.text == "True") {
    return make(LiteralExpression{JinjaValue::boolean(true)}, name.line);
  }
  if (name.text == "false" || name.text == "False") {
    return make(LiteralExpression{JinjaValue::boolean(false)}, name.line);
  }
  if (name.text == "none" || name.text == "None") {
    return make(LiteralExpression{JinjaValue()}, name.line);
  }
  return make(NameExpression{name.text}, name.line);
}

JinjaExpressionPtr JinjaExpressionParser::parse_number() {
  const bool real = tokens_.at(JinjaTokenKind::Real);
  const int line = tokens_.line();
  const std::string& digits = tokens_.current().text;
  JinjaValue value;
  bool ok = false;
  if (real) {
    double number = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    ok = result.ec == std::errc() && result.ptr == digits.data() + digits.size();
    value = JinjaValue::real(number);
  } else {
    const char prefix =
        digits.size() > 2 && digits[0] == '0' ? static_cast<char>(digits[1] | 0x20) : '0';
    const int base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 10;
    int64_t number = 0;
    const char* begin = digits.data() + (base == 10 ? 0 : 2);
    const auto result = std::from_chars(begin, digits.data() + digits.size(), number, base);
    ok = result.ec == std::errc() && result.ptr == digits.data() + digits.size();
    value = JinjaValue::integer(number);
  }
  if (!ok) {
    tokens_.fail_here("'", digits, "' is no number of 64 bits");
  }
  tokens_.take();
  return make(LiteralExpression{std::move(value)}, line);
}

JinjaExpressionPtr JinjaExpressionParser::parse_string() {
  const int line = tokens_.line();
  std::string text;
  while (tokens_.at(JinjaTokenKind::Text)) {  // 'a' 'b' is 'ab'
    text += tokens_.take().text;
  }
  return make(LiteralExpression{JinjaValue::literal(text)}, line);
}

JinjaExpressionPtr JinjaExpressionParser::parse_bracket() {
  const int line = tokens_.take().line;
  if (tokens_.skip_symbol(")")) {
    return make(SequenceExpression{SequenceKind::Tuple, {}}, line);
  }
  JinjaExpressionPtr value = parse_tuple();
  tokens_.expect_symbol(")");
  return value;
}

JinjaExpressionPtr JinjaExpressionParser::parse_list() {
  const int line = tokens_.take().line;
  SequenceExpression list{SequenceKind::List, {}};
  while (!tokens_.at_symbol("]")) {
    if (!list.items.empty()) {
      tokens_.expect_symbol(",");
    }
    if (!tokens_.at_symbol("]")) {
      list.items.push_back(parse());
    }
  }
  tokens_.expect_symbol("]");
  return make(std::move(list), line);
}

JinjaExpressionPtr JinjaExpressionParser::parse_dict() {
  const int line = tokens_.take().line;
  MappingExpression dict;
  while (!tokens_.at_symbol("}")) {
    if (!dict.entries.empty()) {
      tokens_.expect_symbol(",");
    }
    if (!tokens_.at_symbol("}")) {
      JinjaExpressionPtr key = parse();
      tokens_.expect_symbol(":");
      dict.entries.emplace_back(std::move(key), parse());
    }
  }
  tokens_.expect_symbol("}");
  return make(std::move(dict), line);
}

JinjaExpressionPtr JinjaExpressionParser::parse_postfix(JinjaExpressionPtr object) {
  while (true) {
    if (tokens_.at_symbol(".")) {
      object = parse_attribute(std::move(object));
    } else if (tokens_.at_symbol("[")) {
      object = parse_subscript(std::move(object));
    } else if (tokens_.at_symbol("(")) {
      object = parse_call(std::move(object));
    } else {
      return object;
    }
  }
}

JinjaExpressionPtr JinjaExpressionParser::parse_attribute(JinjaExpressionPtr object) {
  const int line = tokens_.take().line;
  if (tokens_.at(JinjaTokenKind::Integer)) {
    return make(SubscriptExpression{std::move(object), parse_number()}, line);
  }
  return make(AttributeExpression{std::move(object), tokens_.expect_name()}, line);
}

JinjaExpressionPtr JinjaExpressionParser::parse_subscript(JinjaExpressionPtr object) {
  const int line = tokens_.take().line;
  JinjaExpressionPtr index;
  if (!tokens_.at_symbol(":")) {
    index = parse();
  }
  if (tokens_.at_symbol(":")) {
    return parse_slice(std::move(object), std::move(index));
  }
  tokens_.expect_symbol("]");
  return make(SubscriptExpression{std::move(object), std::move(index)}, line);
}

JinjaExpressionPtr JinjaExpressionParser::parse_slice(JinjaExpressionPtr object,
                                                      JinjaExpressionPtr start) {
  SliceExpression slice;
  slice.object = std::move(object);
  slice.start = std::move(start);
  const int line = tokens_.take().line;
  if (!tokens_.at_symbol(":") && !tokens_.at_symbol("]")) {
    slice.stop = parse();
  }
  if (tokens_.skip_symbol(":") && !tokens_.at_symbol("]")) {
    slice.step = parse();
  }
  tokens_.expect_symbol("]");
  return make(std::move(slice), line);
}

JinjaExpressionPtr JinjaExpressionParser::parse_call(JinjaExpressionPtr callee) {
  const int line = tokens_.line();
  return make(CallExpression{std::move(callee), parse_arguments()}, line);
}

JinjaArguments JinjaExpressionParser::parse_arguments() {
  JinjaArguments arguments;
  tokens_.expect_symbol("(");
  for (bool first = true; !tokens_.at_symbol(")"); first = false) {
    if (!first) {
      tokens_.expect_symbol(",");
      if (tokens_.at_symbol(")")) {
        break;
      }
    }
    if (tokens_.at_symbol("*") || tokens_.at_symbol("**")) {
      tokens_.fail_here("arguments by '*' and '**' are not supported");
    }
    const JinjaToken& ahead = tokens_.ahead();
    if (tokens_.at(JinjaTokenKind::Name) && ahead.kind == JinjaTokenKind::Symbol &&
        ahead.text == "=") {
      std::string name = tokens_.take().text;
      tokens_.take();
      arguments.named.emplace_back(std::move(name), parse());
    } else if (arguments.named.empty()) {
      arguments.positional.push_back(parse());
    } else {
      tokens_.fail_here("an argument without a name follows one with a name");
    }
  }
  tokens_.expect_symbol(")");
  return arguments;
}

JinjaExpressionPtr JinjaExpressionParser::parse_filters_and_tests(JinjaExpressionPtr operand) {
  while (true) {
    if (tokens_.skip_symbol("|")) {
      operand = parse_filter(std::move(operand));
    } else if (tokens_.at_name("is")) {
      operand = parse_test(std::move(operand));
    } else if (tokens_.at_symbol("(")) {
      operand = parse_call(std::move(operand));
    } else {
      return operand;
    }
  }
}

JinjaExpressionPtr JinjaExpressionParser::parse_filters(JinjaExpressionPtr operand) {
  operand = parse_filter(std::move(operand));
  while (tokens_.skip_symbol("|")) {
    operand = parse_filter(std::move(operand));
  }
  return operand;
}

std::string JinjaExpressionParser::parse_dotted_name() {
  std::string name = tokens_.expect_name();
  while (tokens_.skip_symbol(".")) {
    name += "." + tokens_.expect_name();
  }
  return name;
}

JinjaExpressionPtr JinjaExpressionParser::parse_filter(JinjaExpressionPtr operand) {
  const int line = tokens_.line();
  FilterExpression node;
  node.operand = std::move(operand);
  node.name = parse_dotted_name();
  try {
    node.filter = find_jinja_filter(node.name);
  } catch (const Error& error) {
    fail("chat template line ", line, ": ", error.what());
  }
  if (tokens_.at_symbol("(")) {
    node.arguments = parse_arguments();
  }
  return make(std::move(node), line);
}

namespace {

/// Whether the argument of a test may begin here without brackets: {{ x is divisibleby 3 }}.
bool at_bare_argument(const JinjaTokenStream& tokens) {
  switch (tokens.current().kind) {
    case JinjaTokenKind::Text:
    case JinjaTokenKind::Integer:
    case JinjaTokenKind::Real:
      return true;
    case JinjaTokenKind::Name:
      return !tokens.at_name("else") && !tokens.at_name("or") && !tokens.at_name("and") &&
             !tokens.at_name("is");
    default:
      return tokens.at_symbol("[") || tokens.at_symbol("{");
  }
}

}  // namespace

JinjaExpressionPtr JinjaExpressionParser::parse_test(JinjaExpressionPtr operand) {
  const int line = tokens_.take().line;
  TestExpression node;
  node.negated = tokens_.skip_name("not");
  node.operand = std::move(operand);
  node.name = parse_dotted_name();
  try {
    node.predicate = find_jinja_predicate(node.name);
  } catch (const Error& error) {
    fail("chat template line ", line, ": ", error.what());
  }
  if (tokens_.at_symbol("(")) {
    node.arguments = parse_arguments();
  } else if (at_bare_argument(tokens_)) {
    node.arguments.positional.push_back(parse_postfix(parse_primary()));
  } else if (tokens_.at_name("is")) {
    tokens_.fail_here("tests cannot be chained with 'is'");
  }
  return make(std::move(node), line);
}

}  // namespace ssa
