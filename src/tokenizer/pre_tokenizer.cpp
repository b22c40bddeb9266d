#include "tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace ssa {
namespace {

// GPT-2's words, which ByteLevel looks for unless use_regex is false.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr size_t kMaxStages = 64;  // each nests a call

struct Piece {
  TextRange range;
  bool is_match;
};

/// Calls take(piece) for matches and what lies between, in order.
template <class Take>
void cut(RegexMatcher& matcher, std::string_view text, bool invert, const Take& take) {
  size_t end = 0;
  matcher.start(text);
  while (const std::optional<TextRange> match = matcher.next()) {
    if (end != match->begin) {
      take(Piece{{end, match->begin}, invert});
    }
    take(Piece{*match, !invert});
    end = match->end;
  }
  if (end != text.size()) {
    take(Piece{{end, text.size()}, invert});
  }
}

/// Joins a match with the piece before it, unless that was a match, too; or, if `contiguous`, like
/// with like.
std::vector<TextRange> merge_backwards(const std::vector<Piece>& pieces, bool contiguous) {
  std::vector<TextRange> merged;
  bool follows_match = false;
  for (const Piece& piece : pieces) {
    const bool joins =
        contiguous ? piece.is_match == follows_match : piece.is_match && !follows_match;
    if (joins && !merged.empty()) {
      merged.back().end = piece.range.end;
    } else {
      merged.push_back(piece.range);
    }
    follows_match = piece.is_match;
  }
  return merged;
}

/// Joins a match with the piece behind it, unless that is a match, too.
std::vector<TextRange> merge_forwards(const std::vector<Piece>& pieces) {
  std::vector<TextRange> merged;
  bool precedes_match = false;
  for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
    if (piece->is_match && !precedes_match && !merged.empty()) {
      merged.back().begin = piece->range.begin;
    } else {
      merged.push_back(piece->range);
    }
    precedes_match = piece->is_match;
  }
  std::reverse(merged.begin(), merged.end());
  return merged;
}

std::vector<TextRange> without_matches(const std::vector<Piece>& pieces) {
  std::vector<TextRange> left;
  for (const Piece& piece : pieces) {
    if (!piece.is_match) {
      left.push_back(piece.range);
    }
  }
  return left;
}

std::vector<TextRange> merge(const std::vector<Piece>& pieces, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kRemoved:
      return without_matches(pieces);
    case SplitBehavior::kMergedWithNext:
      return merge_forwards(pieces);
    default:
      return merge_backwards(pieces, behavior == SplitBehavior::kContiguous);
  }
}

SplitBehavior read_behavior(const Json& json) {
  const std::string name = get_or<std::string>(json, "behavior", "");
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  fail("Split: behavior '",
       name,
       "' is not supported (known: Isolated, Removed, ",
       "MergedWithPrevious, MergedWithNext, Contiguous)");
}

SplitRegex read_pattern(const Json& json) {
  const Json* pattern = find_key(json, "pattern");
  check(pattern != nullptr && pattern->is_object() && pattern->size() == 1,
        "Split: pattern: expected {\"Regex\": ...} or {\"String\": ...}");
  if (find_key(*pattern, "String") != nullptr) {
    return SplitRegex::from_literal(get_or<std::string>(*pattern, "String", ""));
  }
  check(find_key(*pattern, "Regex") != nullptr,
        "Split: pattern: unknown key '",
        pattern->begin().key(),
        "'");
  return SplitRegex::from_pattern(get_or<std::string>(*pattern, "Regex", ""));
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& json) {
  read(json);
  check(byte_level_at_.has_value(),
        "ByteLevel is missing: only byte-level vocabularies are supported");
}

void PreTokenizer::read(const Json& json) {
  const std::string type = get_or<std::string>(json, "type", "");
  if (type == "Sequence") {
    const Json* parts = find_key(json, "pretokenizers");
    check(parts != nullptr && parts->is_array(), "Sequence has no pretokenizers");
    for (const Json& part : *parts) {
      read(part);
    }
    return;
  }
  check(!byte_level_at_, "'", type, "' behind ByteLevel is not supported");
  check(stages_.size() < kMaxStages, "more than ", kMaxStages, " parts");
  if (type == "Split") {
    stages_.push_back(
        {read_pattern(json), read_behavior(json), get_or<bool>(json, "invert", false)});
  } else if (type == "Digits") {
    const bool individual = get_or<bool>(json, "individual_digits", false);
    stages_.push_back({SplitRegex::digits(),
                       individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
                       false});
  } else if (type == "ByteLevel") {
    read_byte_level(json);
  } else {
    fail("type '", type, "' is not supported (known: Sequence, Split, Digits, ByteLevel)");
  }
}

void PreTokenizer::read_byte_level(const Json& json) {
  byte_level_at_ = stages_.size();
  add_prefix_space_ = get_or<bool>(json, "add_prefix_space", true);
  if (get_or<bool>(json, "use_regex", true)) {
    stages_.push_back({SplitRegex::from_pattern(kGpt2Pattern), SplitBehavior::kIsolated, false});
  }
}

PreTokenizer::Scratch::Scratch(const PreTokenizer& owner) {
  for (const Stage& stage : owner.stages_) {
    matchers.emplace_back(stage.regex);
  }
}

void PreTokenizer::split(std::string_view text, Scratch& scratch, WordSink& sink) const {
  run(0, text, scratch, sink);
}

void PreTokenizer::run(size_t stage,
                       std::string_view text,
                       Scratch& scratch,
                       WordSink& sink) const {
  if (text.empty()) {
    return;
  }
  std::string with_space;
  if (add_prefix_space_ && stage == byte_level_at_ && text.front() != ' ') {
    with_space.append(1, ' ').append(text);
    text = with_space;
  }
  if (stage == stages_.size()) {
    sink.word(text);
    return;
  }
  const auto pass_on = [&](const TextRange& range) {
    run(stage + 1, text.substr(range.begin, range.end - range.begin), scratch, sink);
  };
  const auto& [regex, behavior, invert] = stages_[stage];
  RegexMatcher& matcher = scratch.matchers[stage];
  if (behavior == SplitBehavior::kIsolated) {  // nearly always: no list of pieces is made
    cut(matcher, text, invert, [&](const Piece& piece) { pass_on(piece.range); });
    return;
  }
  std::vector<Piece> pieces;
  cut(matcher, text, invert, [&](const Piece& piece) { pieces.push_back(piece); });
  for (const TextRange& range : merge(pieces, behavior)) {
    pass_on(range);
  }
}

}  // namespace ssa
