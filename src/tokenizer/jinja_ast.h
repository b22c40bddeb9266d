// The syntax tree of a template.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_predicates.h"
#include "tokenizer/jinja_value.h"

namespace ssa {

struct JinjaExpression;
using JinjaExpressionPtr = std::unique_ptr<JinjaExpression>;

struct JinjaArguments {
  std::vector<JinjaExpressionPtr> positional;
  std::vector<std::pair<std::string, JinjaExpressionPtr>> named;
};

struct LiteralExpression {
  JinjaValue value;
};
struct NameExpression {
  std::string name;
};
struct SequenceExpression {
  SequenceKind kind;  // List or Tuple
  std::vector<JinjaExpressionPtr> items;
};
struct MappingExpression {
  std::vector<std::pair<JinjaExpressionPtr, JinjaExpressionPtr>> entries;
};
struct UnaryExpression {
  UnaryOperator op;
  JinjaExpressionPtr operand;
};
struct BinaryExpression {
  BinaryOperator op;
  JinjaExpressionPtr left, right;
};
/// `and` and `or`: the value is that of the operand which decides.
struct LogicExpression {
  bool is_and;
  JinjaExpressionPtr left, right;
};
/// a ~ b ~ c
struct ConcatExpression {
  std::vector<JinjaExpressionPtr> parts;
};
/// a < b < c, as Python means it
struct CompareExpression {
  JinjaExpressionPtr first;
  std::vector<std::pair<CompareOperator, JinjaExpressionPtr>> rest;
};
struct ConditionalExpression {
  JinjaExpressionPtr condition, chosen, otherwise;  // otherwise may be null
};
struct AttributeExpression {
  JinjaExpressionPtr object;
  std::string name;
};
struct SubscriptExpression {
  JinjaExpressionPtr object, index;
};
struct SliceExpression {
  JinjaExpressionPtr object, start, stop, step;  // all but the object may be null
};
struct CallExpression {
  JinjaExpressionPtr callee;
  JinjaArguments arguments;
};
struct FilterExpression {
  JinjaExpressionPtr operand;  // null: what a {% filter %} or {% set %} block rendered
  JinjaFilter filter;
  std::string name;
  JinjaArguments arguments;
};
/// `operand is name(arguments)`
struct TestExpression {
  JinjaExpressionPtr operand;
  JinjaPredicate predicate;
  std::string name;
  JinjaArguments arguments;
  bool negated;
};

using JinjaExpressionNode = std::variant<LiteralExpression,
                                         NameExpression,
                                         SequenceExpression,
                                         MappingExpression,
                                         UnaryExpression,
                                         BinaryExpression,
                                         LogicExpression,
                                         ConcatExpression,
                                         CompareExpression,
                                         ConditionalExpression,
                                         AttributeExpression,
                                         SubscriptExpression,
                                         SliceExpression,
                                         CallExpression,
                                         FilterExpression,
                                         TestExpression>;

struct JinjaExpression {
  JinjaExpressionNode node;
  int line;
  int depth;  // of the tree below and including it: evaluation recurses
};

struct JinjaStatement;
using JinjaBlock = std::vector<JinjaStatement>;

/// What an assignment writes to: one name, a namespace's attribute, or several targets in brackets.
struct JinjaTarget {
  std::string name;
  std::string attribute;              // not empty: of the namespace `name`
  std::vector<JinjaTarget> unpacked;  // not empty: name and attribute are unused
};

struct DataStatement {
  std::string text;
};
struct PrintStatement {
  JinjaExpressionPtr value;
};
struct IfStatement {
  std::vector<std::pair<JinjaExpressionPtr, JinjaBlock>> branches;
  JinjaBlock otherwise;
};
struct ForStatement {
  JinjaTarget target;
  JinjaExpressionPtr items, filter;  // filter may be null
  JinjaBlock body, otherwise;
};
struct SetStatement {
  JinjaTarget target;
  JinjaExpressionPtr value;
};
struct SetBlockStatement {
  JinjaTarget target;
  JinjaExpressionPtr filter;  // may be null
  JinjaBlock body;
};
struct MacroParameter {
  std::string name;
  JinjaExpressionPtr fallback;  // may be null
};
struct MacroStatement {
  std::string name;
  std::vector<MacroParameter> parameters;
  JinjaBlock body;
};
/// {% with %} and {% generation %}: names set inside stay inside.
struct ScopeStatement {
  std::vector<std::pair<JinjaTarget, JinjaExpressionPtr>> assignments;
  JinjaBlock body;
};
struct FilterStatement {
  JinjaExpressionPtr filter;
  JinjaBlock body;
};
struct BreakStatement {};
struct ContinueStatement {};

struct JinjaStatement {
  std::variant<DataStatement,
               PrintStatement,
               IfStatement,
               ForStatement,
               SetStatement,
               SetBlockStatement,
               MacroStatement,
               ScopeStatement,
               FilterStatement,
               BreakStatement,
               ContinueStatement>
      node;
  int line;
};

}  // namespace ssa
