// The part of the evaluator that computes expressions.
#include <optional>
#include <string>
#include <utility>

#include "tokenizer/jinja_evaluator.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_globals.h"
#include "tokenizer/jinja_operators.h"

namespace ssa {

JinjaValue JinjaEvaluator::evaluate(const JinjaExpression& expression) {
  const JinjaBudget::Level level(budget_);
  budget_.spend(1);
  const int line_around =
      std::exchange(line_, expression.line);  // not undone on failure: line() tells it
  JinjaValue value = std::visit([&](const auto& node) { return compute(node); }, expression.node);
  line_ = line_around;
  return value;
}

JinjaValue JinjaEvaluator::compute(const LiteralExpression& node) {
  return node.value;
}

JinjaValue JinjaEvaluator::compute(const NameExpression& node) {
  for (const JinjaScope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    budget_.spend(1 + scope->variables.size() / 16);
    for (const auto& [name, value] : scope->variables) {
      if (name == node.name) {
        return value;
      }
    }
  }
  if (node.name == "namespace") {
    return JinjaValue::function("namespace",
                                [this](JinjaCall& call) { return make_namespace(call); });
  }
  JinjaValue global = find_jinja_global(node.name);
  return global.is(JinjaKind::None)
             ? JinjaValue::undefined(concat("'", node.name, "' is undefined"))
             : global;
}

JinjaValue JinjaEvaluator::compute(const SequenceExpression& node) {
  JinjaItems items;
  items.reserve(node.items.size());
  for (const JinjaExpressionPtr& item : node.items) {
    items.push_back(evaluate(*item));
  }
  return JinjaValue::sequence(node.kind, std::move(items));
}

JinjaValue JinjaEvaluator::compute(const MappingExpression& node) {
  JinjaMapping mapping;
  for (const auto& [key, value] : node.entries) {
    JinjaValue key_value = evaluate(*key);
    mapping_set(mapping, std::move(key_value), evaluate(*value), budget_);
  }
  return JinjaValue::mapping(std::move(mapping));
}

JinjaValue JinjaEvaluator::compute(const UnaryExpression& node) {
  return apply_unary(node.op, evaluate(*node.operand));
}

JinjaValue JinjaEvaluator::compute(const BinaryExpression& node) {
  const JinjaValue left = evaluate(*node.left);
  return apply_binary(node.op, left, evaluate(*node.right), budget_);
}

JinjaValue JinjaEvaluator::compute(const LogicExpression& node) {
  JinjaValue left = evaluate(*node.left);
  return left.truth() == node.is_and ? evaluate(*node.right) : left;
}

JinjaValue JinjaEvaluator::compute(const ConcatExpression& node) {
  JinjaText text;
  for (const JinjaExpressionPtr& part : node.parts) {
    text.append(jinja_str(evaluate(*part), budget_));
  }
  return JinjaValue::text(std::move(text));
}

JinjaValue JinjaEvaluator::compute(const CompareExpression& node) {
  JinjaValue left = evaluate(*node.first);
  for (const auto& [op, operand] : node.rest) {
    JinjaValue right = evaluate(*operand);
    if (!apply_compare(op, left, right, budget_)) {
      return JinjaValue::boolean(false);
    }
    left = std::move(right);
  }
  return JinjaValue::boolean(true);
}

JinjaValue JinjaEvaluator::compute(const ConditionalExpression& node) {
  if (evaluate(*node.condition).truth()) {
    return evaluate(*node.chosen);
  }
  return node.otherwise ? evaluate(*node.otherwise)
                        : JinjaValue::undefined("the inline if is false and has no else");
}

JinjaValue JinjaEvaluator::compute(const AttributeExpression& node) {
  return get_attribute(evaluate(*node.object), node.name, budget_);
}

JinjaValue JinjaEvaluator::compute(const SubscriptExpression& node) {
  const JinjaValue object = evaluate(*node.object);
  return get_item(object, evaluate(*node.index), budget_);
}

JinjaValue JinjaEvaluator::compute(const SliceExpression& node) {
  const JinjaValue object = evaluate(*node.object);
  const auto bound = [&](const JinjaExpressionPtr& expression) -> std::optional<int64_t> {
    const JinjaValue value = expression ? evaluate(*expression) : JinjaValue();
    if (value.is(JinjaKind::None)) {
      return std::nullopt;
    }
    check(value.is(JinjaKind::Int) || value.is(JinjaKind::Bool),
          "the bounds of a slice must be integers, got ",
          value.type_name());
    return value.as_int();
  };
  SliceBounds bounds;
  bounds.start = bound(node.start);
  bounds.stop = bound(node.stop);
  bounds.step = bound(node.step);
  return get_slice(object, bounds, budget_);
}

JinjaCall JinjaEvaluator::prepare_call(std::string_view name,
                                       JinjaValue self,
                                       const JinjaArguments& arguments) {
  JinjaCall call{name, budget_, std::move(self), {}, {}};
  for (const JinjaExpressionPtr& argument : arguments.positional) {
    call.positional.push_back(evaluate(*argument));
  }
  for (const auto& [parameter, argument] : arguments.named) {
    call.named.emplace_back(parameter, evaluate(*argument));
  }
  return call;
}

JinjaValue JinjaEvaluator::compute(const CallExpression& node) {
  const JinjaValue callee = evaluate(*node.callee);
  check(!callee.is(JinjaKind::Undefined),
        callee.is(JinjaKind::Undefined) ? callee.undefined_reason() : "");
  check(
      callee.is(JinjaKind::Function), "a value of type ", callee.type_name(), " cannot be called");
  JinjaCall call = prepare_call(callee.as_function().name, {}, node.arguments);
  return callee.as_function().body(call);
}

JinjaValue JinjaEvaluator::compute(const FilterExpression& node) {
  JinjaValue operand = node.operand ? evaluate(*node.operand) : std::move(block_text_);
  const std::string name = concat("filter '", node.name, "'");
  JinjaCall call = prepare_call(name, std::move(operand), node.arguments);
  return node.filter(call);
}

JinjaValue JinjaEvaluator::apply_filter(const JinjaExpression& filter, JinjaValue block_text) {
  block_text_ = std::move(block_text);
  return evaluate(filter);
}

JinjaValue JinjaEvaluator::compute(const TestExpression& node) {
  const std::string name = concat("test '", node.name, "'");
  JinjaCall call = prepare_call(name, evaluate(*node.operand), node.arguments);
  return JinjaValue::boolean(node.predicate(call) != node.negated);
}

}  // namespace ssa
