#include "cli/bench_table.h"

#include <cmath>
#include <cstdio>

namespace ssa {
namespace {

std::string number(double value) {
  char text[64];
  const double size = std::fabs(value);
  std::snprintf(
      text, sizeof text, size >= 100 || value == std::floor(value) ? "%.0f" : "%.3g", value);
  return text;
}

std::string cell(const Json& value) {
  return value.is_string()         ? value.get<std::string>()
         : value.is_number_float() ? number(value.get<double>())
                                   : value.dump();
}

/// Quoted where CSV asks for it.
std::string csv_cell(const Json& value) {
  const std::string text = value.is_number_float() ? value.dump() : cell(value);
  if (text.find_first_of(",\"\n") == std::string::npos) {
    return text;
  }
  std::string quoted = "\"";
  for (const char c : text) {
    quoted.append(c == '"' ? 2 : 1, c);
  }
  quoted.push_back('"');
  return quoted;
}

void print_markdown(const Json& row, bool first) {
  std::string head = "|", rule = "|", line = "|";
  for (const auto& [key, value] : row.items()) {
    head.append(" ").append(key).append(" |");
    rule.append(value.is_number() ? " ---: |" : " --- |");
    line.append(" ").append(cell(value)).append(" |");
  }
  if (first) {
    std::printf("%s\n%s\n", head.c_str(), rule.c_str());
  }
  std::printf("%s\n", line.c_str());
}

void print_csv(const Json& row, bool first) {
  std::string head, line;
  for (const auto& [key, value] : row.items()) {
    head.append(head.empty() ? "" : ",").append(csv_cell(Json(key)));
    line.append(line.empty() ? "" : ",").append(csv_cell(value));
  }
  if (first) {
    std::printf("%s\n", head.c_str());
  }
  std::printf("%s\n", line.c_str());
}

}  // namespace

void BenchTable::add(const Json& row) {
  const bool first = rows_.empty();
  rows_.push_back(row);
  if (form_ == "md") {
    print_markdown(row, first);
  } else if (form_ == "csv") {
    print_csv(row, first);
  }
  std::fflush(stdout);
}

void BenchTable::finish() {
  if (form_ == "json") {
    std::printf("%s\n", dump_json(rows_, 2).c_str());
  }
}

}  // namespace ssa
