#include "evaluation/eval_results.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "base/error.h"
#include "data/input_records.h"
#include "evaluation/answer_metrics.h"

namespace ssa {
namespace {

/// Of one method, by item.
using LinesById = std::map<std::string, const Json*>;

constexpr std::array kPlainMetrics = {"exact", "all_correct", "f1", "contains", "evidence_recall"};

double mean_from(const std::vector<double>& values, size_t first) {
  return values.size() <= first
             ? 0.0
             : std::accumulate(values.begin() + static_cast<int64_t>(first), values.end(), 0.0) /
                   static_cast<double>(values.size() - first);
}

double as_number(const Json& value) {
  return value.is_boolean() ? (value.get<bool>() ? 1.0 : 0.0) : value.get<double>();
}

std::vector<std::string> methods_of(const std::vector<Json>& lines) {
  std::vector<std::string> names;
  for (const Json& line : lines) {
    const auto name = line["method"].get<std::string>();
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
    }
  }
  return names;
}

LinesById lines_of(const std::vector<Json>& lines, const std::string& method) {
  LinesById found;
  for (const Json& line : lines) {
    if (line["method"] == method) {
      found.emplace(line["item"].get<std::string>(), &line);
    }
  }
  return found;
}

/// Metrics of one method over given items, in their order. Metrics that a line lacks are left out.
std::map<std::string, ItemRatios> metrics_of(const std::vector<Json>& lines,
                                             const std::string& method,
                                             const std::vector<std::string>& items) {
  const LinesById own = lines_of(lines, method), alone = lines_of(lines, "alone"),
                  full = lines_of(lines, "full");
  std::map<std::string, ItemRatios> metrics;
  for (const std::string& item : items) {
    const Json& line = *own.at(item);
    const double n_scored = line["n_scored"].get<double>();
    metrics["nll"].add(line["nll"].get<double>() * n_scored, n_scored);
    for (const char* name : kPlainMetrics) {
      if (const Json* value = find_key(line, name)) {
        metrics[name].add(as_number(*value));
      }
    }
    if (find_key(line, "gain_nll") != nullptr && alone.contains(item) && full.contains(item)) {
      const auto nll = [&](const LinesById& of) {
        return (*of.at(item))["gain_nll"].get<double>();
      };
      metrics["kept_gain"].add(nll(alone) - nll(own), nll(alone) - nll(full));
    }
  }
  std::erase_if(metrics, [&](const auto& metric) {  // not known of all items
    return metric.second.above.size() != items.size();
  });
  return metrics;
}

std::vector<std::string> ids_of(const LinesById& lines) {
  std::vector<std::string> ids;
  for (const auto& [id, line] : lines) {
    ids.push_back(id);
  }
  return ids;
}

Json to_json(const Interval& interval) {
  return {{"mean", interval.value}, {"low", interval.low}, {"high", interval.high}};
}

double mean_field(const LinesById& lines, const char* field) {
  double sum = 0;
  for (const auto& [id, line] : lines) {
    sum += (*line)[field].get<double>();
  }
  return sum / static_cast<double>(lines.size());
}

std::string format_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, std::fabs(value) >= 1000 ? "%.0f" : "%.4g", value);
  return std::isnan(value) ? "-" : text;
}

std::string table_cell(const Json& value) {
  if (value.is_object()) {
    const auto number = [&](const char* key) {
      return value[key].is_null() ? std::string("-") : format_number(value[key].get<double>());
    };
    return number("mean") + " [" + number("low") + ", " + number("high") + "]";
  }
  return value.is_string()         ? value.get<std::string>()
         : value.is_number_float() ? format_number(value.get<double>())
                                   : value.dump();
}

}  // namespace

Json result_line(EvalTask task,
                 const EvalMethod& method,
                 const EvalPrompt& prompt,
                 const MethodOutcome& outcome) {
  Json line = {{"task", eval_task_name(task)},
               {"item", prompt.id},
               {"method", method.name},
               {"prefill", prefill_name(method.prefill)},
               {"chunk", format_chunk_sizes(method.chunk)},
               {"nll", outcome.nll},
               {"n_scored", outcome.n_scored}};
  if (method.ratio) {
    line["ratio"] = *method.ratio;
    line["budget"] = outcome.budget;
  }
  line["sets_budget"] = method.sets_budget();
  if (prompt.answer.empty()) {
    line["gain_nll"] = outcome.gain_nll;
  } else {
    line["all_correct"] = outcome.all_correct;
    if (outcome.answer) {
      const AnswerScores scores = score_answer(*outcome.answer, prompt.answers);
      line["exact"] = scores.exact;
      line["f1"] = scores.f1;
      line["contains"] = scores.contains;
      line["answer"] = *outcome.answer;
    }
    line["gold"] = prompt.answers.front();
  }
  if (!outcome.evidence_recall.empty()) {
    line["evidence_recall"] = mean_from(outcome.evidence_recall, 1);
    line["evidence_recall_by_layer"] = outcome.evidence_recall;
  }
  line["prefix_tokens"] = outcome.prefix_tokens;
  line["suffix_tokens"] = outcome.suffix_tokens;
  line["attended"] = mean_from(outcome.attended, 1);
  line["attended_by_layer"] = outcome.attended;
  line["attended_bytes"] = outcome.attended_bytes;
  line["scanned"] = outcome.scanned;
  line["scanned_bytes"] = outcome.scanned_bytes;
  return line;
}

std::vector<Json> read_result_lines(const std::filesystem::path& path) {
  InputRecords records({path}, std::nullopt);
  std::vector<Json> lines;
  while (const auto record = records.next()) {
    Json line = parse_json(record->text, record->where);
    const auto has = [&](const char* key, bool text) {
      const Json* value = line.is_object() ? find_key(line, key) : nullptr;
      return value != nullptr && (text ? value->is_string() : value->is_number());
    };
    check(has("item", true) && has("method", true) && has("nll", false) && has("n_scored", false) &&
              has("attended", false) && has("attended_bytes", false) && has("scanned_bytes", false),
          record->where,
          ": not a result of 'ssa eval'");
    lines.push_back(std::move(line));
  }
  check(!lines.empty(), path.string(), " holds no results");
  return lines;
}

std::map<std::string, KnownBudgets> budgets_of(const std::vector<Json>& lines) {
  std::map<std::string, KnownBudgets> budgets;
  for (const Json& line : lines) {
    const Json* attended = find_key(line, "attended_by_layer");
    if (attended != nullptr && get_or<bool>(line, "sets_budget", false)) {
      EvalMethod method;
      method.ratio = get_or<double>(line, "ratio", 1.0);
      method.chunk = parse_chunk_sizes(get_or<std::string>(line, "chunk", "8"));
      add_budget(
          budgets[line["item"].get<std::string>()], method, attended->get<std::vector<double>>());
    }
  }
  return budgets;
}

Json summarize(const std::vector<Json>& lines, const BootstrapOptions& options) {
  Json rows = Json::array();
  for (const std::string& method : methods_of(lines)) {
    const LinesById own = lines_of(lines, method);
    Json row = {{"method", method},
                {"prefill", get_or<std::string>(*own.begin()->second, "prefill", "")},
                {"n", own.size()}};
    for (const auto& [name, values] : metrics_of(lines, method, ids_of(own))) {
      row[name] = to_json(bootstrap_interval(values, options));
    }
    for (const char* field : {"attended", "attended_bytes", "scanned_bytes"}) {
      row[field] = mean_field(own, field);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

Json compare(const std::vector<Json>& lines,
             const Comparison& other,
             const BootstrapOptions& options) {
  Json rows = Json::array();
  for (const std::string& method : methods_of(lines)) {
    const std::string against = other.method.empty() ? method : other.method;
    const LinesById own = lines_of(lines, method), theirs = lines_of(other.lines, against);
    std::vector<std::string> shared;
    for (const auto& [id, line] : own) {
      if (theirs.contains(id)) {
        shared.push_back(id);
      }
    }
    if (shared.empty()) {
      continue;
    }
    Json row = {{"method", method}, {"against", against}, {"n", shared.size()}};
    const auto mine = metrics_of(lines, method, shared);
    const auto others = metrics_of(other.lines, against, shared);
    for (const auto& [name, values] : mine) {
      if (const auto found = others.find(name); found != others.end()) {
        row[name] = to_json(bootstrap_difference(values, found->second, options));
      }
    }
    rows.push_back(std::move(row));
  }
  check(!rows.empty(),
        "nothing to compare: no item has results of both ",
        other.method.empty() ? "runs' methods" : "the methods and " + other.method);
  return rows;
}

std::string results_table(const Json& rows) {
  std::vector<std::string> columns;
  for (const Json& row : rows) {
    for (const auto& [key, value] : row.items()) {
      if (std::find(columns.begin(), columns.end(), key) == columns.end()) {
        columns.push_back(key);
      }
    }
  }
  std::string table = "|", rule = "|";
  for (const std::string& column : columns) {
    table.append(" ").append(column).append(" |");
    rule.append(" --- |");
  }
  table.append("\n").append(rule).append("\n");
  for (const Json& row : rows) {
    table.append("|");
    for (const std::string& column : columns) {
      const Json* value = find_key(row, column.c_str());
      table.append(" ").append(value != nullptr ? table_cell(*value) : "-").append(" |");
    }
    table.append("\n");
  }
  return table;
}

}  // namespace ssa
