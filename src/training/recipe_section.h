// A section of a recipe's TOML.
#pragma once

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace ssa {

/// Throws unless `ok`: UsageError where the node stands on the command line, as overrides do, which
/// have no file; else Error.
template <class... Parts>
void check_node(bool ok, const toml::node& node, const Parts&... parts) {
  if (!ok && node.source().path == nullptr) {
    throw UsageError(concat(parts...));
  }
  check(ok, parts...);
}

/// One section: reads keys by type, and knows afterwards which nobody asked for. Refers to the
/// table. Functions throw Error naming the key for a value of another type (UsageError where it was
/// overridden); a section or key that is not there leaves the value as it is.
class Section {
 public:
  Section(const toml::table& recipe, std::string name) : name_(std::move(name)) {
    if (const toml::node* node = recipe.get(name_)) {
      check_node(node->is_table(), *node, "recipe: ", name_, " is not a section");
      table_ = node->as_table();
    }
  }

  template <class T>
  void read(const char* key, T& value) {
    known_.insert(key);
    if (const toml::node* node = find(key)) {
      convert(*node, key, value);
    }
  }

  /// Null if it is not there.
  const toml::node* find(const char* key) {
    known_.insert(key);
    return table_ == nullptr ? nullptr : table_->get(key);
  }

  /// "section.key".
  std::string full(const std::string& key) const { return name_ + "." + key; }

  /// Throws Error, UsageError for an override, naming a key that was not asked for, with the
  /// nearest that was.
  void check_unknown() const {
    if (table_ == nullptr) {
      return;
    }
    for (const auto& [key, node] : *table_) {
      const std::string name(key.str());
      if (!known_.contains(name)) {
        const std::vector<std::string> candidates(known_.begin(), known_.end());
        const std::string near = nearest_match(name, candidates);
        check_node(false,
                   node,
                   "recipe: ",
                   full(name),
                   " is not known",
                   near.empty() ? "; known are " + join(candidates, ", ")
                                : "; did you mean " + full(near) + "?");
      }
    }
  }

 private:
  template <class T>
  void convert(const toml::node& node, const std::string& key, T& value) const {
    if constexpr (std::is_same_v<T, bool>) {
      require(node.is_boolean(), node, key, "true or false");
      value = node.value<bool>().value();
    } else if constexpr (std::is_integral_v<T>) {
      require(node.is_integer(), node, key, "a whole number");
      const int64_t given = node.value<int64_t>().value();
      require(std::is_signed_v<T> || given >= 0, node, key, "not below 0");
      value = static_cast<T>(given);
    } else if constexpr (std::is_floating_point_v<T>) {
      require(node.is_number(), node, key, "a number");
      value = node.value<double>().value();
    } else {
      require(node.is_string(), node, key, "text");
      value = T(node.value<std::string>().value());
    }
  }
  void require(bool ok, const toml::node& node, const std::string& key, const char* what) const {
    check_node(ok, node, "recipe: ", full(key), " must be ", what);
  }

  std::string name_;
  const toml::table* table_ = nullptr;
  std::set<std::string> known_;
};

}  // namespace ssa
