#include "tokenizer/jinja_expression_parser.h"

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "tokenizer/jinja_tree_depth.h"

namespace ssa {

JinjaExpressionParser::DepthGuard::DepthGuard(JinjaExpressionParser& parser)
    : nesting_(parser.nesting_) {
  if (nesting_ >= kMaxDepth) {
    parser.tokens_.fail_here("an expression is nested deeper than ", kMaxDepth);
  }
  ++nesting_;
}

JinjaExpressionPtr JinjaExpressionParser::make(JinjaExpressionNode node, int line) const {
  const int depth = 1 + std::visit([](const auto& kind) { return depth_below(kind); }, node);
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

}  // namespace ssa
