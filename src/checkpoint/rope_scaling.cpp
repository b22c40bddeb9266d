#include "checkpoint/rope_scaling.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string_view>

#include "base/error.h"
#include "checkpoint/rope_config.h"

namespace ssa {
namespace {

constexpr std::array<std::string_view, 3> kTypes = {"linear", "llama3", "yarn"};
constexpr double kLargestFactor = 1024;

/// TYPE:FACTOR[:ORIGINAL]; original 0 where it is left out.
struct Scaling {
  std::string type;
  double factor = 0;
  int64_t original = 0;
};

/// All of the text must be a number.
template <class Number>
bool read_number(std::string_view text, Number& number) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  return result.ec == std::errc() && result.ptr == end;
}

bool read_scaling(std::string_view text, Scaling& scaling) {
  const size_t first = text.find(':');
  if (first == std::string_view::npos) {
    return false;
  }
  const std::string_view numbers = text.substr(first + 1);
  const size_t second = numbers.find(':');
  scaling.type = text.substr(0, first);
  const bool has_original = second != std::string_view::npos;
  return std::find(kTypes.begin(), kTypes.end(), scaling.type) != kTypes.end() &&
         read_number(numbers.substr(0, second), scaling.factor) && scaling.factor >= 1 &&
         scaling.factor <= kLargestFactor &&
         (!has_original ||
          (read_number(numbers.substr(second + 1), scaling.original) && scaling.original > 0));
}

}  // namespace

void scale_rope(ModelConfig& config, const std::string& text) {
  const int64_t named = config.rope.original_max_position_embeddings;
  const int64_t trained = named > 0 ? named : config.max_position_embeddings;
  if (text == "none") {
    config.rope = parse_rope({{"rope_theta", config.rope.theta}}, trained);
    config.max_position_embeddings = trained;
    return;
  }
  Scaling scaling;
  if (!read_scaling(text, scaling)) {
    throw UsageError("--rope-scaling " + text.substr(0, 80) +
                     ": expected none, or linear, llama3 or yarn with a factor of 1 to 1024 and "
                     "perhaps the length trained on, such as llama3:4:8192");
  }
  const int64_t original = scaling.original > 0 ? scaling.original : trained;
  const double positions = static_cast<double>(original) * scaling.factor;
  if (positions > std::numeric_limits<int32_t>::max()) {
    throw UsageError(concat("--rope-scaling ", text, ": ", positions, " positions are too many"));
  }
  const Json parameters = {{"rope_type", scaling.type},
                           {"rope_theta", config.rope.theta},
                           {"factor", scaling.factor},
                           {"low_freq_factor", 1.0},
                           {"high_freq_factor", 4.0},
                           {"original_max_position_embeddings", original}};
  config.rope = parse_rope({{"rope_parameters", parameters}}, original);
  config.max_position_embeddings = static_cast<int64_t>(positions);
}

}  // namespace ssa
