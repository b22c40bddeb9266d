// Parses the expressions of a template, by recursive descent in jinja2's order of precedence.
#pragma once

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_token_stream.h"

namespace ssa {

/// Reads from a stream that it does not own. All functions throw Error with the line for wrong
/// syntax, unknown filters and tests, and nesting beyond kMaxDepth.
class JinjaExpressionParser {
 public:
  static constexpr int kMaxDepth = 200;

  explicit JinjaExpressionParser(JinjaTokenStream& tokens) : tokens_(tokens) {}

  /// Without a comma at the top level.
  JinjaExpressionPtr parse();
  /// As parse, but a comma makes a tuple: {{ 1, 2 }}. `inline_if` false: leaves a trailing "if"
  /// unread, as the items of a for statement need it.
  JinjaExpressionPtr parse_tuple(bool inline_if = true);
  /// name(arguments) | name | ..., behind a '|' or in {% filter ... %}; `operand` may be null.
  JinjaExpressionPtr parse_filters(JinjaExpressionPtr operand);

 private:
  /// Bounds the recursion of the parser itself, which runs before there is a tree to measure.
  class DepthGuard {
   public:
    explicit DepthGuard(JinjaExpressionParser& parser);
    ~DepthGuard() { --nesting_; }
    DepthGuard(const DepthGuard&) = delete;
    DepthGuard& operator=(const DepthGuard&) = delete;

   private:
    int& nesting_;
  };

  JinjaExpressionPtr parse_conditional();
  JinjaExpressionPtr parse_or();
  JinjaExpressionPtr parse_and();
  JinjaExpressionPtr parse_not();
  JinjaExpressionPtr parse_compare();
  JinjaExpressionPtr parse_sum();
  JinjaExpressionPtr parse_concat();
  JinjaExpressionPtr parse_product();
  JinjaExpressionPtr parse_power();
  JinjaExpressionPtr parse_unary(bool with_filters);
  bool at_end_of_tuple() const;

  // jinja_primary_parser.cpp: single values, and what stands behind them
  JinjaExpressionPtr parse_primary();
  JinjaExpressionPtr parse_name();
  JinjaExpressionPtr parse_number();
  JinjaExpressionPtr parse_string();
  JinjaExpressionPtr parse_bracket();
  JinjaExpressionPtr parse_list();
  JinjaExpressionPtr parse_dict();
  JinjaExpressionPtr parse_postfix(JinjaExpressionPtr object);
  JinjaExpressionPtr parse_attribute(JinjaExpressionPtr object);
  JinjaExpressionPtr parse_subscript(JinjaExpressionPtr object);
  JinjaExpressionPtr parse_slice(JinjaExpressionPtr object, JinjaExpressionPtr start);
  JinjaExpressionPtr parse_call(JinjaExpressionPtr callee);
  JinjaExpressionPtr parse_filters_and_tests(JinjaExpressionPtr operand);
  JinjaExpressionPtr parse_filter(JinjaExpressionPtr operand);
  JinjaExpressionPtr parse_test(JinjaExpressionPtr operand);
  JinjaArguments parse_arguments();
  std::string parse_dotted_name();

  /// A node of the tree; throws Error if its subtree is too deep.
  JinjaExpressionPtr make(JinjaExpressionNode node, int line) const;

  JinjaTokenStream& tokens_;
  int nesting_ = 0;
};

}  // namespace ssa
