#include "checkpoint/rope_config.h"

#include <cmath>

#include "base/error.h"

namespace ssa {
namespace {

struct RopeName {
  RopeType type;
  const char* name;
};
constexpr RopeName kRopeNames[] = {
    {RopeType::kDefault, "default"},
    {RopeType::kLinear, "linear"},
    {RopeType::kLlama3, "llama3"},
    {RopeType::kYarn, "yarn"},
};

const char* rope_name(RopeType type) {
  for (const RopeName& row : kRopeNames) {
    if (row.type == type) return row.name;
  }
  fail("rope type ", static_cast<int>(type), " has no name");
}

RopeType parse_rope_type(const std::string& name) {
  std::string known;
  for (const RopeName& row : kRopeNames) {
    if (name == row.name) return row.type;
    known.append(known.empty() ? "" : ", ").append(row.name);
  }
  fail("rope_type '", name.substr(0, 40), "' is not supported (known: ", known, ")");
}

double required_number(const Json& dict, const char* key, const char* type) {
  check(find_key(dict, key) != nullptr,
        "key '",
        key,
        "' is missing, which rope_type ",
        type,
        " needs");
  return get_or(dict, key, 0.0);
}

/// Absent, null and 0 mean "not given" (transformers tests these for truth).
std::optional<double> optional_number(const Json& dict, const char* key) {
  const auto value = get_or(dict, key, 0.0);
  return value == 0.0 ? std::nullopt : std::optional(value);
}

double number_or(const Json& dict, const char* key, double fallback) {
  return optional_number(dict, key).value_or(fallback);
}

/// The dict that holds the type's keys; null if there is none (plain rotary embedding).
Json rope_dict(const Json& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json* dict = find_key(config, key);
    if (dict == nullptr || dict->empty()) {
      continue;
    }
    check(dict->is_object(),
          "key '",
          key,
          "': expected an object, got ",
          dump_json(*dict).substr(0, 80));
    for (const auto& item : dict->items()) {
      check(!item.value().is_object(),
            "key '",
            key,
            "': one set of parameters per layer type ('",
            item.key(),
            "') is not supported");
    }
    return *dict;
  }
  return nullptr;
}

void check_above(double value, double limit, const char* key) {
  check(std::isfinite(value) && value > limit,
        "key '",
        key,
        "': expected a number above ",
        limit,
        ", got ",
        value);
}

}  // namespace

RopeConfig parse_rope(const Json& config, int64_t max_positions) {
  const Json dict = rope_dict(config);
  RopeConfig rope;
  rope.theta = get_or(dict, "rope_theta", get_or(config, "rope_theta", rope.theta));
  rope.type =
      parse_rope_type(get_or(dict, "rope_type", get_or(dict, "type", std::string("default"))));
  const double rotated =
      get_or(dict, "partial_rotary_factor", get_or(config, "partial_rotary_factor", 1.0));
  check(rotated == 1.0,
        "key 'partial_rotary_factor': ",
        rotated,
        " is not supported, only whole heads are rotated");
  const char* name = rope_name(rope.type);
  if (rope.type != RopeType::kDefault) {
    rope.factor = required_number(dict, "factor", name);
  }
  if (rope.type == RopeType::kLlama3) {
    rope.low_freq_factor = required_number(dict, "low_freq_factor", name);
    rope.high_freq_factor = required_number(dict, "high_freq_factor", name);
  }
  if (rope.type == RopeType::kYarn) {
    rope.attention_factor = optional_number(dict, "attention_factor");
    rope.beta_fast = number_or(dict, "beta_fast", rope.beta_fast);
    rope.beta_slow = number_or(dict, "beta_slow", rope.beta_slow);
    rope.mscale = optional_number(dict, "mscale");
    rope.mscale_all_dim = optional_number(dict, "mscale_all_dim");
    rope.truncate = get_or(dict, "truncate", true);
  }
  if (rope.type == RopeType::kLlama3 || rope.type == RopeType::kYarn) {
    const char* key = "original_max_position_embeddings";
    // The top-level key, which some configurations have, goes before the dict's in transformers.
    rope.original_max_position_embeddings = get_or(config, key, get_or(dict, key, max_positions));
  }
  check_rope(rope);
  return rope;
}

void check_rope(const RopeConfig& rope) {
  check_above(rope.theta, 0, "rope_theta");
  check_above(rope.factor, 0, "factor");
  if (rope.type == RopeType::kLlama3) {
    check_above(rope.low_freq_factor, 0, "low_freq_factor");
    check_above(rope.high_freq_factor, rope.low_freq_factor, "high_freq_factor");
  }
  if (rope.type == RopeType::kYarn) {
    check_above(rope.theta, 1, "rope_theta");  // yarn divides by its logarithm
    check_above(rope.beta_slow, 0, "beta_slow");
    check_above(rope.beta_fast, rope.beta_slow, "beta_fast");
    check_above(rope.attention_factor.value_or(1.0), 0, "attention_factor");
    check_above(rope.mscale.value_or(1.0), 0, "mscale");
    check_above(rope.mscale_all_dim.value_or(1.0), 0, "mscale_all_dim");
  }
  if (rope.type == RopeType::kLlama3 || rope.type == RopeType::kYarn) {
    check(rope.original_max_position_embeddings > 0,
          "key 'original_max_position_embeddings': expected a "
          "positive number, got ",
          rope.original_max_position_embeddings);
  }
}

Json rope_parameters(const RopeConfig& rope) {
  Json dict = {{"rope_type", rope_name(rope.type)}, {"rope_theta", rope.theta}};
  if (rope.type != RopeType::kDefault) {
    dict["factor"] = rope.factor;
  }
  if (rope.type == RopeType::kLlama3) {
    dict["low_freq_factor"] = rope.low_freq_factor;
    dict["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.original_max_position_embeddings > 0) {
    dict["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  }
  if (rope.type == RopeType::kYarn) {
    dict["beta_fast"] = rope.beta_fast;
    dict["beta_slow"] = rope.beta_slow;
    dict["truncate"] = rope.truncate;
    const auto put = [&](const char* key, const std::optional<double>& value) {
      if (value) dict[key] = *value;
    };
    put("attention_factor", rope.attention_factor);
    put("mscale", rope.mscale);
    put("mscale_all_dim", rope.mscale_all_dim);
  }
  return dict;
}

}  // namespace ssa
