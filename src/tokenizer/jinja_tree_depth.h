// The depth of expression trees, kept while they are built: evaluating and destroying them
// recurses.
#pragma once

#include <algorithm>

#include "tokenizer/jinja_ast.h"

namespace ssa {

inline int depth_below(const JinjaExpressionPtr& child) {
  return child ? child->depth : 0;
}

template <class... Children>
int deepest_of(const Children&... children) {
  return std::max({depth_below(children)...});
}

/// The same for a list of expressions or of (key, expression).
inline int depth_below(const std::vector<JinjaExpressionPtr>& children) {
  int depth = 0;
  for (const JinjaExpressionPtr& child : children) {
    depth = std::max(depth, depth_below(child));
  }
  return depth;
}

template <class Key>
int depth_below(const std::vector<std::pair<Key, JinjaExpressionPtr>>& children) {
  int depth = 0;
  for (const auto& [key, child] : children) {
    depth = std::max(depth, depth_below(child));
  }
  return depth;
}

inline int depth_below(const JinjaArguments& arguments) {
  return deepest_of(arguments.positional, arguments.named);
}

inline int depth_below(const LiteralExpression&) {
  return 0;
}
inline int depth_below(const NameExpression&) {
  return 0;
}
inline int depth_below(const SequenceExpression& node) {
  return depth_below(node.items);
}
inline int depth_below(const MappingExpression& node) {
  int depth = depth_below(node.entries);
  for (const auto& [key, value] : node.entries) {
    depth = std::max(depth, depth_below(key));
  }
  return depth;
}
inline int depth_below(const UnaryExpression& node) {
  return depth_below(node.operand);
}
inline int depth_below(const BinaryExpression& node) {
  return deepest_of(node.left, node.right);
}
inline int depth_below(const LogicExpression& node) {
  return deepest_of(node.left, node.right);
}
inline int depth_below(const ConcatExpression& node) {
  return depth_below(node.parts);
}
inline int depth_below(const CompareExpression& node) {
  return deepest_of(node.first, node.rest);
}
inline int depth_below(const ConditionalExpression& node) {
  return deepest_of(node.condition, node.chosen, node.otherwise);
}
inline int depth_below(const AttributeExpression& node) {
  return depth_below(node.object);
}
inline int depth_below(const SubscriptExpression& node) {
  return deepest_of(node.object, node.index);
}
inline int depth_below(const SliceExpression& node) {
  return deepest_of(node.object, node.start, node.stop, node.step);
}
inline int depth_below(const CallExpression& node) {
  return deepest_of(node.callee, node.arguments);
}
inline int depth_below(const FilterExpression& node) {
  return deepest_of(node.operand, node.arguments);
}
inline int depth_below(const TestExpression& node) {
  return deepest_of(node.operand, node.arguments);
}

}  // namespace ssa
