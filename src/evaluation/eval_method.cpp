#include "evaluation/eval_method.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"
#include "base/text.h"

namespace ssa {
namespace {

struct KnownMethod {
  const char* name;
  PrefillKind prefill;
  KeyRule rule;
  Pivot pivot;
};

constexpr std::array<KnownMethod, 11> kMethods = {{
    {"full", PrefillKind::kFull, KeyRule::kAll, Pivot::kGist},
    {"alone", PrefillKind::kNone, KeyRule::kAll, Pivot::kGist},
    {"gists", PrefillKind::kGist, KeyRule::kGists, Pivot::kGist},
    {"ssa", PrefillKind::kGist, KeyRule::kPivots, Pivot::kGist},
    {"mean", PrefillKind::kFull, KeyRule::kPivots, Pivot::kMean},
    {"quest", PrefillKind::kFull, KeyRule::kPivots, Pivot::kQuest},
    {"recent", PrefillKind::kFull, KeyRule::kPivots, Pivot::kRecent},
    {"random", PrefillKind::kFull, KeyRule::kPivots, Pivot::kRandom},
    {"sparse", PrefillKind::kSparse, KeyRule::kAll, Pivot::kGist},
    {"streaming", PrefillKind::kFull, KeyRule::kWindow, Pivot::kGist},
    {"h2o", PrefillKind::kFull, KeyRule::kHeavy, Pivot::kGist},
}};

constexpr std::array<std::pair<const char*, Pivot>, 5> kPivotNames = {{{"gist", Pivot::kGist},
                                                                       {"mean", Pivot::kMean},
                                                                       {"quest", Pivot::kQuest},
                                                                       {"recent", Pivot::kRecent},
                                                                       {"random", Pivot::kRandom}}};

template <class... Parts>
[[noreturn]] void refuse_method(const std::string& text, const Parts&... parts) {
  throw UsageError(concat("method ", text, ": ", parts...));
}

std::vector<std::string> split_at(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

const KnownMethod& known_method(const std::string& text, const std::string& name) {
  const auto* found = std::find_if(kMethods.begin(), kMethods.end(), [&](const KnownMethod& known) {
    return name == known.name;
  });
  if (found == kMethods.end()) {
    std::vector<std::string> names;
    for (const KnownMethod& known : kMethods) {
      names.emplace_back(known.name);
    }
    const std::string near = nearest_match(name, names);
    refuse_method(text,
                  "'",
                  name,
                  "' is not known; ",
                  near.empty() ? "known are " + join(names, ", ") : "did you mean " + near + "?");
  }
  return *found;
}

std::optional<double> parse_ratio(const std::string& part) {
  double value = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
  const bool whole = error == std::errc() && end == part.data() + part.size();
  return whole && value >= 1 && value <= 1e9 ? std::optional(value) : std::nullopt;
}

/// sparse[:BLOCKS][@BLOCK_SIZE]
void parse_blocks(EvalMethod& method, const std::vector<std::string>& parts) {
  const auto at = parts.back().find('@');
  const std::string count = parts.size() > 1 ? parts[1].substr(0, at) : "";
  const auto read = [&](const std::string& text, const char* what, int64_t& value) {
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, value);
    if (result.ec != std::errc() || result.ptr != end) {
      refuse_method(method.name, "'", text, "' is no ", what);
    }
  };
  if (parts.size() > 2) {
    refuse_method(method.name, "'", parts[2], "' is one part too many");
  }
  if (parts.size() > 1) {
    read(count, "number of blocks", method.blocks.n_blocks);
  }
  if (at != std::string::npos) {
    read(parts.back().substr(at + 1), "block size", method.blocks.block_size);
  }
  try {
    check_block_options(method.blocks);
  } catch (const Error& error) {
    refuse_method(method.name, error.what());
  }
}

std::optional<Pivot> parse_pivot(const std::string& part) {
  for (const auto& [name, pivot] : kPivotNames) {
    if (part == name) {
      return pivot;
    }
  }
  return std::nullopt;
}

/// What stands between the name and the chunk: a pivot, a ratio.
void parse_parts(EvalMethod& method, const std::vector<std::string>& parts) {
  const bool takes_ratio = method.rule != KeyRule::kAll && method.rule != KeyRule::kGists;
  for (size_t i = 1; i < parts.size(); ++i) {
    const auto pivot = parse_pivot(parts[i]);
    const auto ratio = parse_ratio(parts[i]);
    if (pivot && i == 1 && parts[0] == "ssa") {
      method.pivot = *pivot;
    } else if (ratio && takes_ratio && !method.ratio) {
      method.ratio = ratio;
    } else {
      refuse_method(method.name,
                    "'",
                    parts[i],
                    "' is ",
                    takes_ratio ? parts[0] == "ssa" ? "neither a pivot (gist, mean, quest, recent, "
                                                      "random) nor a ratio of at least 1"
                                                    : "not a ratio of at least 1"
                                : "one part too many: nothing is chosen");
    }
  }
  if (takes_ratio && !method.ratio) {
    const auto n = std::min<size_t>(method.chunk.size(), 2);
    method.ratio = static_cast<double>(compression_ratio(std::span(method.chunk).first(n)));
  }
}

}  // namespace

const char* prefill_name(PrefillKind kind) {
  switch (kind) {
    case PrefillKind::kNone:
      return "none";
    case PrefillKind::kFull:
      return "full";
    case PrefillKind::kGist:
      return "gist";
    case PrefillKind::kSparse:
      return "sparse";
  }
  return "?";
}

EvalMethod parse_method(const std::string& text, const MethodDefaults& defaults) {
  EvalMethod method;
  method.name = text;
  method.chunk = defaults.chunk;
  method.blocks = defaults.blocks;
  const size_t at = text.find('@');
  if (text.substr(0, text.find_first_of(":@")) == "sparse") {
    method.prefill = PrefillKind::kSparse;
    parse_blocks(method, split_at(text, ':'));
    return method;
  }
  if (at != std::string::npos) {
    try {
      method.chunk = parse_chunk_sizes(text.substr(at + 1));
    } catch (const Error& error) {
      refuse_method(text, error.what());
    }
  }
  const std::vector<std::string> parts = split_at(text.substr(0, at), ':');
  const KnownMethod& known = known_method(text, parts[0]);
  method.prefill = known.prefill;
  method.rule = known.rule;
  method.pivot = known.pivot;
  parse_parts(method, parts);
  if (method.prefill == PrefillKind::kGist && !defaults.has_gists) {
    refuse_method(
        text,
        "this checkpoint has no gist tokens; 'ssa gistify' adds them (to be trained), and "
        "mean, quest, recent, random, streaming and h2o do without");
  }
  return method;
}

std::vector<EvalMethod> parse_methods(std::span<const std::string> texts,
                                      const MethodDefaults& defaults) {
  std::vector<EvalMethod> methods;
  for (const std::string& text : texts) {
    EvalMethod method = parse_method(text, defaults);
    const bool again = std::any_of(methods.begin(), methods.end(), [&](const EvalMethod& other) {
      return other.name == method.name;
    });
    if (again) {
      refuse_method(text, "named twice");
    }
    methods.push_back(std::move(method));
  }
  return methods;
}

std::string method_help() {
  return "Methods, a comma list of NAME[:PIVOT][:RATIO][@CHUNK]: full; alone (no prefix); gists; "
         "ssa[:gist|mean|quest|recent|random][:RATIO]; sparse[:BLOCKS][@BLOCK_SIZE] (block-sparse "
         "throughout); on full prefill mean, quest, recent, "
         "random, "
         "streaming, h2o [:RATIO]. One of RATIO tokens is attended (left out: the chunk's ratio). "
         "Example: full,gists,ssa:8,ssa:mean:8,h2o:8,ssa:16@4-4";
}

}  // namespace ssa
