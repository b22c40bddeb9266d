#include "tokenizer/jinja_evaluator.h"

#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_globals.h"
#include "tokenizer/jinja_operators.h"

namespace ssa {

void JinjaScope::set(const std::string& name, JinjaValue value) {
  for (auto& [variable, old] : variables) {
    if (variable == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

/// Makes a scope current for as long as it lives.
class JinjaEvaluator::ScopeGuard {
 public:
  ScopeGuard(JinjaEvaluator& evaluator, std::shared_ptr<JinjaScope> parent)
      : current_(evaluator.scope_), before_(evaluator.scope_) {
    auto scope = std::make_shared<JinjaScope>();
    scope->parent = std::move(parent);
    current_ = std::move(scope);
  }
  explicit ScopeGuard(JinjaEvaluator& evaluator) : ScopeGuard(evaluator, evaluator.scope_) {}
  ~ScopeGuard() { current_ = std::move(before_); }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  std::shared_ptr<JinjaScope>& current_;
  std::shared_ptr<JinjaScope> before_;
};

JinjaEvaluator::JinjaEvaluator(JinjaVariables variables) : scope_(std::make_shared<JinjaScope>()) {
  scope_->variables = std::move(variables);
}

JinjaEvaluator::~JinjaEvaluator() {
  for (const std::shared_ptr<JinjaNamespace>& name_space : namespaces_) {
    name_space->attributes.clear();
  }
}

JinjaText JinjaEvaluator::render(const JinjaBlock& block) {
  JinjaText out;
  run(block, out);
  return out;
}

JinjaEvaluator::Flow JinjaEvaluator::run(const JinjaBlock& block, JinjaText& out) {
  const JinjaBudget::Level level(budget_);
  for (const JinjaStatement& statement : block) {
    if (const Flow flow = run_statement(statement, out); flow != Flow::Next) {
      return flow;
    }
  }
  return Flow::Next;
}

JinjaEvaluator::Flow JinjaEvaluator::run_statement(const JinjaStatement& statement, JinjaText& out) {
  line_ = statement.line;
  budget_.spend(1);
  return std::visit([&](const auto& node) { return execute(node, out); }, statement.node);
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const DataStatement& node, JinjaText& out) {
  budget_.spend_bytes(node.text.size());
  out.append(node.text, false);
  return Flow::Next;
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const PrintStatement& node, JinjaText& out) {
  out.append(jinja_str(evaluate(*node.value), budget_));
  return Flow::Next;
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const IfStatement& node, JinjaText& out) {
  for (const auto& [condition, body] : node.branches) {
    if (evaluate(*condition).truth()) {
      return run(body, out);
    }
  }
  return run(node.otherwise, out);
}

JinjaItems JinjaEvaluator::loop_items(const ForStatement& node) {
  JinjaItems items = jinja_items(evaluate(*node.items), budget_);
  if (!node.filter) {
    return items;
  }
  JinjaItems kept;
  for (JinjaValue& item : items) {
    const ScopeGuard guard(*this);
    assign(node.target, item);
    if (evaluate(*node.filter).truth()) {
      kept.push_back(std::move(item));
    }
  }
  return kept;
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const ForStatement& node, JinjaText& out) {
  const auto loop = std::make_shared<JinjaLoop>();
  loop->items = std::make_shared<const JinjaItems>(loop_items(node));
  if (loop->items->empty()) {
    const ScopeGuard guard(*this);
    return run(node.otherwise, out);
  }
  const JinjaValue loop_value = JinjaValue::loop(loop);
  for (; loop->index0 < loop->items->size(); ++loop->index0) {
    const ScopeGuard guard(*this);
    scope_->set("loop", loop_value);
    assign(node.target, (*loop->items)[loop->index0]);
    if (run(node.body, out) == Flow::Break) {
      break;
    }
  }
  return Flow::Next;
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const SetStatement& node, JinjaText&) {
  assign(node.target, evaluate(*node.value));
  return Flow::Next;
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const SetBlockStatement& node, JinjaText&) {
  JinjaText text;
  {
    const ScopeGuard guard(*this);
    if (const Flow flow = run(node.body, text); flow != Flow::Next) {
      return flow;
    }
  }
  JinjaValue value = JinjaValue::text(std::move(text));
  assign(node.target, node.filter ? apply_filter(*node.filter, std::move(value)) : std::move(value));
  return Flow::Next;
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const FilterStatement& node, JinjaText& out) {
  JinjaText text;
  const ScopeGuard guard(*this);
  if (const Flow flow = run(node.body, text); flow != Flow::Next) {
    return flow;
  }
  out.append(jinja_str(apply_filter(*node.filter, JinjaValue::text(std::move(text))), budget_));
  return Flow::Next;
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const ScopeStatement& node, JinjaText& out) {
  JinjaItems values;
  for (const auto& [target, value] : node.assignments) {
    values.push_back(evaluate(*value));  // all of them before the names change
  }
  const ScopeGuard guard(*this);
  for (size_t i = 0; i < values.size(); ++i) {
    assign(node.assignments[i].first, std::move(values[i]));
  }
  return run(node.body, out);
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const BreakStatement&, JinjaText&) { return Flow::Break; }

JinjaEvaluator::Flow JinjaEvaluator::execute(const ContinueStatement&, JinjaText&) { return Flow::Continue; }

JinjaEvaluator::Flow JinjaEvaluator::execute(const MacroStatement& node, JinjaText&) {
  // Weak, as the scope itself holds the macro.
  const std::weak_ptr<JinjaScope> defined_in = scope_;
  const auto body = [this, &node, defined_in](JinjaCall& call) {
    std::shared_ptr<JinjaScope> scope = defined_in.lock();
    check(scope != nullptr, "macro '", node.name, "' is called outside of the block that defines it");
    return call_macro(node, std::move(scope), call);
  };
  scope_->set(node.name, JinjaValue::function(concat("macro '", node.name, "'"), body));
  return Flow::Next;
}

JinjaValue JinjaEvaluator::call_macro(const MacroStatement& macro,
                                      std::shared_ptr<JinjaScope> scope,
                                      JinjaCall& call) {
  std::vector<std::string_view> names;
  for (const MacroParameter& parameter : macro.parameters) {
    names.push_back(parameter.name);
  }
  const BoundArguments arguments = call.bind(names, 0);
  const ScopeGuard guard(*this, std::move(scope));
  for (size_t i = 0; i < names.size(); ++i) {
    const MacroParameter& parameter = macro.parameters[i];
    if (arguments.has(i)) {
      scope_->set(parameter.name, arguments[i]);
    } else if (parameter.fallback) {
      scope_->set(parameter.name, evaluate(*parameter.fallback));
    } else {
      scope_->set(parameter.name,
                  JinjaValue::undefined(concat("parameter '", parameter.name, "' was not provided")));
    }
  }
  JinjaText out;
  run(macro.body, out);
  return JinjaValue::text(std::move(out));
}

void JinjaEvaluator::assign(const JinjaTarget& target, JinjaValue value) {
  if (!target.unpacked.empty()) {
    JinjaItems items = jinja_items(value, budget_);
    check(items.size() == target.unpacked.size(),
          "cannot unpack ", items.size(), " values into ", target.unpacked.size(), " names");
    for (size_t i = 0; i < items.size(); ++i) {
      assign(target.unpacked[i], std::move(items[i]));
    }
    return;
  }
  if (target.attribute.empty()) {
    budget_.spend(1 + scope_->variables.size() / 16);
    return scope_->set(target.name, std::move(value));
  }
  const JinjaValue name_space = compute(NameExpression{target.name});
  check(name_space.is(JinjaKind::Namespace), "'", target.name, "' is no namespace, so '", target.attribute,
        "' cannot be set");
  budget_.spend(1 + name_space.as_namespace().attributes.size() / 16);
  name_space.as_namespace().set(target.attribute, std::move(value));
}

JinjaValue JinjaEvaluator::make_namespace(JinjaCall& call) {
  constexpr size_t kSteps = 100;  // each is kept until the end
  budget_.spend(kSteps);
  check(call.positional.size() <= 1, "namespace takes at most one dict and names");
  auto attributes = std::make_shared<JinjaNamespace>();
  if (!call.positional.empty()) {
    check(call.positional[0].is(JinjaKind::Mapping), "namespace takes at most one dict and names");
    for (const auto& [key, value] : call.positional[0].as_mapping().entries) {
      check(key.is(JinjaKind::Text), "namespace: a name is no string but a ", key.type_name());
      budget_.spend(1 + attributes->attributes.size() / 16);
      attributes->set(key.as_bytes(), value);
    }
  }
  for (const auto& [name, value] : call.named) {
    attributes->set(name, value);
  }
  namespaces_.push_back(attributes);
  return JinjaValue::name_space(std::move(attributes));
}

JinjaValue JinjaEvaluator::evaluate(const JinjaExpression& expression) {
  const JinjaBudget::Level level(budget_);
  budget_.spend(1);
  const int line_around = std::exchange(line_, expression.line);  // not undone on failure: line() tells it
  JinjaValue value = std::visit([&](const auto& node) { return compute(node); }, expression.node);
  line_ = line_around;
  return value;
}

JinjaValue JinjaEvaluator::compute(const LiteralExpression& node) { return node.value; }

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
    return JinjaValue::function("namespace", [this](JinjaCall& call) { return make_namespace(call); });
  }
  JinjaValue global = find_jinja_global(node.name);
  return global.is(JinjaKind::None) ? JinjaValue::undefined(concat("'", node.name, "' is undefined")) : global;
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

JinjaValue JinjaEvaluator::compute(const UnaryExpression& node) { return apply_unary(node.op, evaluate(*node.operand)); }

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
          "the bounds of a slice must be integers, got ", value.type_name());
    return value.as_int();
  };
  SliceBounds bounds;
  bounds.start = bound(node.start);
  bounds.stop = bound(node.stop);
  bounds.step = bound(node.step);
  return get_slice(object, bounds, budget_);
}

JinjaCall JinjaEvaluator::prepare_call(std::string_view name, JinjaValue self, const JinjaArguments& arguments) {
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
  check(!callee.is(JinjaKind::Undefined), callee.is(JinjaKind::Undefined) ? callee.undefined_reason() : "");
  check(callee.is(JinjaKind::Function), "a value of type ", callee.type_name(), " cannot be called");
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
