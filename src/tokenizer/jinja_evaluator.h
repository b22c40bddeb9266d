// Runs a template's syntax tree.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_call.h"

namespace ssa {

using JinjaVariables = std::vector<std::pair<std::string, JinjaValue>>;

/// Names and their values within one scope of a template. What the scope does not have is looked up
/// in its parent.
struct JinjaScope {
  JinjaVariables variables;
  std::shared_ptr<JinjaScope> parent;

  void set(const std::string& name, JinjaValue value);
};

/// One rendering. Used once, by one thread; the template must outlive it.
class JinjaEvaluator {
 public:
  explicit JinjaEvaluator(JinjaVariables variables);
  ~JinjaEvaluator();
  JinjaEvaluator(const JinjaEvaluator&) = delete;
  JinjaEvaluator& operator=(const JinjaEvaluator&) = delete;

  /// Throws Error without the line, which line() then tells.
  JinjaText render(const JinjaBlock& block);
  int line() const { return line_; }

 private:
  enum class Flow { Next, Break, Continue };
  class ScopeGuard;

  Flow run(const JinjaBlock& block, JinjaText& out);
  Flow run_statement(const JinjaStatement& statement, JinjaText& out);
  Flow execute(const DataStatement& node, JinjaText& out);
  Flow execute(const PrintStatement& node, JinjaText& out);
  Flow execute(const IfStatement& node, JinjaText& out);
  Flow execute(const ForStatement& node, JinjaText& out);
  Flow execute(const SetStatement& node, JinjaText& out);
  Flow execute(const SetBlockStatement& node, JinjaText& out);
  Flow execute(const MacroStatement& node, JinjaText& out);
  Flow execute(const ScopeStatement& node, JinjaText& out);
  Flow execute(const FilterStatement& node, JinjaText& out);
  Flow execute(const BreakStatement& node, JinjaText& out);
  Flow execute(const ContinueStatement& node, JinjaText& out);

  JinjaItems loop_items(const ForStatement& node);
  JinjaValue call_macro(const MacroStatement& macro,
                        std::shared_ptr<JinjaScope> scope,
                        JinjaCall& call);
  void assign(const JinjaTarget& target, JinjaValue value);
  JinjaValue make_namespace(JinjaCall& call);

  // jinja_expressions.cpp
  JinjaValue evaluate(const JinjaExpression& expression);
  JinjaValue compute(const LiteralExpression& node);
  JinjaValue compute(const NameExpression& node);
  JinjaValue compute(const SequenceExpression& node);
  JinjaValue compute(const MappingExpression& node);
  JinjaValue compute(const UnaryExpression& node);
  JinjaValue compute(const BinaryExpression& node);
  JinjaValue compute(const LogicExpression& node);
  JinjaValue compute(const ConcatExpression& node);
  JinjaValue compute(const CompareExpression& node);
  JinjaValue compute(const ConditionalExpression& node);
  JinjaValue compute(const AttributeExpression& node);
  JinjaValue compute(const SubscriptExpression& node);
  JinjaValue compute(const SliceExpression& node);
  JinjaValue compute(const CallExpression& node);
  JinjaValue compute(const FilterExpression& node);
  JinjaValue compute(const TestExpression& node);

  JinjaCall prepare_call(std::string_view name, JinjaValue self, const JinjaArguments& arguments);
  JinjaValue apply_filter(const JinjaExpression& filter, JinjaValue block_text);

  JinjaBudget budget_;
  std::shared_ptr<JinjaScope> scope_;
  /// All namespaces made, so that those that hold each other can be taken apart at the end.
  std::vector<std::shared_ptr<JinjaNamespace>> namespaces_;
  JinjaValue
      block_text_;  // what a {% filter %} or {% set %} block rendered, for the innermost filter
  int line_ = 1;
};

}  // namespace ssa
