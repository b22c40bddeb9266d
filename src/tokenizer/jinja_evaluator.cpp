#include "tokenizer/jinja_evaluator.h"

#include "tokenizer/jinja_format.h"

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

JinjaEvaluator::Flow JinjaEvaluator::run_statement(const JinjaStatement& statement,
                                                   JinjaText& out) {
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
  assign(node.target,
         node.filter ? apply_filter(*node.filter, std::move(value)) : std::move(value));
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

JinjaEvaluator::Flow JinjaEvaluator::execute(const BreakStatement&, JinjaText&) {
  return Flow::Break;
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const ContinueStatement&, JinjaText&) {
  return Flow::Continue;
}

JinjaEvaluator::Flow JinjaEvaluator::execute(const MacroStatement& node, JinjaText&) {
  // Weak, as the scope itself holds the macro.
  const std::weak_ptr<JinjaScope> defined_in = scope_;
  const auto body = [this, &node, defined_in](JinjaCall& call) {
    std::shared_ptr<JinjaScope> scope = defined_in.lock();
    check(
        scope != nullptr, "macro '", node.name, "' is called outside of the block that defines it");
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
      scope_->set(
          parameter.name,
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
          "cannot unpack ",
          items.size(),
          " values into ",
          target.unpacked.size(),
          " names");
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
  check(name_space.is(JinjaKind::Namespace),
        "'",
        target.name,
        "' is no namespace, so '",
        target.attribute,
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

}  // namespace ssa
