#include "tokenizer/jinja_filters.h"

#include <algorithm>

namespace ssa {

JinjaFilter find_jinja_filter(std::string_view name) {
  std::vector<NamedFilter> all = jinja_text_filters();
  all.insert(all.end(), jinja_list_filters().begin(), jinja_list_filters().end());
  const auto it = std::find_if(
      all.begin(), all.end(), [&](const NamedFilter& row) { return row.name == name; });
  if (it != all.end()) {
    return it->filter;
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  std::string known;
  for (const NamedFilter& row : all) {
    known += concat(known.empty() ? "" : ", ", row.name);
  }
  fail("filter '", name, "' is not supported (supported: ", known, ")");
}

}  // namespace ssa
