// Rows of measurements as Markdown, CSV or JSON, on standard output as they come.
#pragma once

#include <string>

#include "base/json.h"

namespace ssa {

/// The first row's keys are the columns; rows are flat.
class BenchTable {
 public:
  explicit BenchTable(std::string form) : form_(std::move(form)) {}  // md, csv, json

  void add(const Json& row);
  /// Ends the output: JSON is printed whole here.
  void finish();

 private:
  std::string form_;
  Json rows_ = Json::array();
};

}  // namespace ssa
