#include "tokenizer/jinja_expression_parser.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "tokenizer/jinja_tree_depth.h"

namespace ssa {

/// Bounds the recursion of the parser itself, which runs before there is a tree to measure.
class JinjaExpressionParser::DepthGuard {
 public:
  explicit DepthGuard(JinjaExpressionParser& parser) : nesting_(parser.nesting_) {
    if (nesting_ >= kMaxDepth) {
      parser.tokens_.fail_here("an expression is nested deeper than ", kMaxDepth);
    }
    ++nesting_;
  }
  ~DepthGuard() { --nesting_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  int& nesting_;
};

template <class Node>
JinjaExpressionPtr JinjaExpressionParser::make(Node node, int line) const {
  const int depth = 1 + depth_below(node);
  if (depth > kMaxDepth) {
    tokens_.fail_here("an expression is nested deeper than ", kMaxDepth);
  }
  return std::make_unique<JinjaExpression>(JinjaExpression{std::move(node), line, depth});
}

JinjaExpressionPtr JinjaExpressionParser::parse() {
  const DepthGuard guard(*this);
  return parse_conditional();
}

JinjaExpressionPtr JinjaExpressionParser::parse_tuple(bool inline_if) {
  const DepthGuard guard(*this);
  const int line = tokens_.line();
  const auto parse_item = [&] { return inline_if ? parse_conditional() : parse_or(); };
  JinjaExpressionPtr first = parse_item();
  if (!tokens_.at_symbol(",")) {
    return first;
  }
  SequenceExpression tuple{SequenceKind::Tuple, {}};
  tuple.items.push_back(std::move(first));
  while (tokens_.skip_symbol(",") && !at_end_of_tuple()) {
    tuple.items.push_back(parse_item());
  }
  return make(std::move(tuple), line);
}

bool JinjaExpressionParser::at_end_of_tuple() const {
  return tokens_.at(JinjaTokenKind::PrintEnd) || tokens_.at(JinjaTokenKind::BlockEnd) ||
         tokens_.at_symbol(")");
}

JinjaExpressionPtr JinjaExpressionParser::parse_conditional() {
  JinjaExpressionPtr value = parse_or();
  while (tokens_.at_name("if")) {
    const int line = tokens_.take().line;
    const DepthGuard guard(*this);
    ConditionalExpression node;
    node.chosen = std::move(value);
    node.condition = parse_or();
    if (tokens_.skip_name("else")) {
      node.otherwise = parse_conditional();
    }
    value = make(std::move(node), line);
  }
  return value;
}

JinjaExpressionPtr JinjaExpressionParser::parse_or() {
  JinjaExpressionPtr left = parse_and();
  while (tokens_.at_name("or")) {
    const int line = tokens_.take().line;
    left = make(LogicExpression{false, std::move(left), parse_and()}, line);
  }
  return left;
}

JinjaExpressionPtr JinjaExpressionParser::parse_and() {
  JinjaExpressionPtr left = parse_not();
  while (tokens_.at_name("and")) {
    const int line = tokens_.take().line;
    left = make(LogicExpression{true, std::move(left), parse_not()}, line);
  }
  return left;
}

JinjaExpressionPtr JinjaExpressionParser::parse_not() {
  if (!tokens_.at_name("not")) {
    return parse_compare();
  }
  const DepthGuard guard(*this);
  const int line = tokens_.take().line;
  return make(UnaryExpression{UnaryOperator::Not, parse_not()}, line);
}

namespace {

/// The comparison that begins at the current token, which is then used up.
std::optional<CompareOperator> take_comparison(JinjaTokenStream& tokens) {
  static constexpr std::array<std::pair<std::string_view, CompareOperator>, 6> kSymbols = {
      {{"==", CompareOperator::Equal},
       {"!=", CompareOperator::NotEqual},
       {"<", CompareOperator::Less},
       {"<=", CompareOperator::LessEqual},
       {">", CompareOperator::Greater},
       {">=", CompareOperator::GreaterEqual}}};
  for (const auto& [symbol, op] : kSymbols) {
    if (tokens.skip_symbol(symbol)) {
      return op;
    }
  }
  if (tokens.skip_name("in")) {
    return CompareOperator::In;
  }
  const JinjaToken& ahead = tokens.ahead();
  if (tokens.at_name("not") && ahead.kind == JinjaTokenKind::Name && ahead.text == "in") {
    tokens.take();
    tokens.take();
    return CompareOperator::NotIn;
  }
  return std::nullopt;
}

template <class Operator, size_t kCount>
std::optional<Operator> take_operator(
    JinjaTokenStream& tokens,
    const std::array<std::pair<std::string_view, Operator>, kCount>& table) {
  for (const auto& [symbol, op] : table) {
    if (tokens.skip_symbol(symbol)) {
      return op;
    }
  }
  return std::nullopt;
}

}  // namespace

JinjaExpressionPtr JinjaExpressionParser::parse_compare() {
  const int line = tokens_.line();
  JinjaExpressionPtr first = parse_sum();
  CompareExpression node;
  while (const std::optional<CompareOperator> op = take_comparison(tokens_)) {
    node.rest.emplace_back(*op, parse_sum());
  }
  if (node.rest.empty()) {
    return first;
  }
  node.first = std::move(first);
  return make(std::move(node), line);
}

JinjaExpressionPtr JinjaExpressionParser::parse_sum() {
  static constexpr std::array<std::pair<std::string_view, BinaryOperator>, 2> kOperators = {
      {{"+", BinaryOperator::Add}, {"-", BinaryOperator::Subtract}}};
  JinjaExpressionPtr left = parse_concat();
  int line = tokens_.line();
  while (const auto op = take_operator(tokens_, kOperators)) {
    left = make(BinaryExpression{*op, std::move(left), parse_concat()}, line);
    line = tokens_.line();
  }
  return left;
}

JinjaExpressionPtr JinjaExpressionParser::parse_concat() {
  const int line = tokens_.line();
  JinjaExpressionPtr first = parse_product();
  if (!tokens_.at_symbol("~")) {
    return first;
  }
  ConcatExpression node;
  node.parts.push_back(std::move(first));
  while (tokens_.skip_symbol("~")) {
    node.parts.push_back(parse_product());
  }
  return make(std::move(node), line);
}

JinjaExpressionPtr JinjaExpressionParser::parse_product() {
  static constexpr std::array<std::pair<std::string_view, BinaryOperator>, 4> kOperators = {
      {{"*", BinaryOperator::Multiply},
       {"/", BinaryOperator::Divide},
       {"//", BinaryOperator::FloorDivide},
       {"%", BinaryOperator::Modulo}}};
  JinjaExpressionPtr left = parse_power();
  int line = tokens_.line();
  while (const auto op = take_operator(tokens_, kOperators)) {
    left = make(BinaryExpression{*op, std::move(left), parse_power()}, line);
    line = tokens_.line();
  }
  return left;
}

JinjaExpressionPtr JinjaExpressionParser::parse_power() {
  JinjaExpressionPtr left = parse_unary(true);
  while (tokens_.at_symbol("**")) {
    const int line = tokens_.take().line;
    left = make(BinaryExpression{BinaryOperator::Power, std::move(left), parse_unary(true)}, line);
  }
  return left;
}

JinjaExpressionPtr JinjaExpressionParser::parse_unary(bool with_filters) {
  const DepthGuard guard(*this);
  const int line = tokens_.line();
  JinjaExpressionPtr value;
  if (tokens_.skip_symbol("-")) {
    value = make(UnaryExpression{UnaryOperator::Minus, parse_unary(false)}, line);
  } else if (tokens_.skip_symbol("+")) {
    value = make(UnaryExpression{UnaryOperator::Plus, parse_unary(false)}, line);
  } else {
    value = parse_primary();
  }
  value = parse_postfix(std::move(value));
  return with_filters ? parse_filters_and_tests(std::move(value)) : std::move(value);
}

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
