#include "data/lay_sequence.h"

#include <gtest/gtest.h>

#include "data/dataset_fixtures.h"

namespace ssa {
namespace {

SequenceStyle letters_style(const ChunkSizes& chunk, int64_t sink = 0) {
  static const WordBoundaries boundaries = spelled_boundaries();
  SequenceStyle style;
  style.settings = spelled_settings(chunk, sink);
  style.boundaries = &boundaries;
  style.bos_id = kSpelledBos;
  return style;
}

/// The rule as a sentence: each raw token that is wanted is predicted by whatever stands in front
/// of it, and nothing else is predicted.
std::vector<int64_t> naive_targets(const GistLayout& layout, int64_t first_target) {
  std::vector<int64_t> targets(static_cast<size_t>(layout.n_tokens()), -100);
  int64_t ordinal = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    const int64_t id = layout.ids()[i];
    if (id == '.' || id == ':' || id == '*') {
      continue;
    }
    if (i > 0 && ordinal >= first_target) {
      targets[i - 1] = id;
    }
    ++ordinal;
  }
  return targets;
}

struct SpelledCase {
  const char* prefix;
  const char* suffix;
  ChunkSizes chunk;
  int64_t first_target;
  const char* laid;
  const char* targets;
};

TEST(LaySequence, SpelledOut) {
  const SpelledCase cases[] = {
      {"abcde", "xy", {2}, 0, "ab.cd.e.xy", "b_cd_e_xy_"},
      {"abcde", "xy", {2}, 5, "ab.cd.e.xy", "_______xy_"},
      {"abcde", "xy", {2}, 6, "ab.cd.e.xy", "________y_"},
      {"abcd", "x", {2, 2}, 0, "ab.cd.:x", "b_cd__x_"},
      {"abcde", "x", {1, 2, 2}, 0, "a.b.:c.d.:*e.:*x", "_b__c_d___e___x_"},
      {"ab|cd", "x", {3}, 0, "ab.cd.x", "b_cd_x_"},
      {"^|abc", "x", {2}, 0, "^ab.c.x", "ab_c_x_"},
      {"", "xyz", {2}, 0, "xyz", "yz_"},
      {"abcd", "", {2}, 0, "ab.cd.", "b_cd__"},
  };
  for (const SpelledCase& c : cases) {
    const TrainingSequence sequence = lay_sequence(
        {pieces_of(c.prefix), ids_of(c.suffix), c.first_target}, letters_style(c.chunk));
    EXPECT_EQ(spell(sequence.layout), c.laid);
    EXPECT_EQ(spell_targets(sequence), c.targets) << c.laid;
  }
}

TEST(LaySequence, WithoutGistsRawTokensAlone) {
  SequenceStyle style = letters_style({2, 2});
  style.gists = false;
  style.settings.token_ids.clear();
  const TrainingSequence sequence = lay_sequence({pieces_of("ab|cd"), ids_of("xy"), 4}, style);
  EXPECT_EQ(spell(sequence.layout), "abcdxy");
  EXPECT_EQ(spell_targets(sequence), "___xy_");
  EXPECT_EQ(sequence.layout.n_gists(), 0);
}

TEST(LaySequence, TargetsFollowTheRuleEverywhere) {
  std::mt19937 random(7);
  const std::vector<ChunkSizes> chunks = {{1}, {3}, {2, 2}, {4, 1}, {2, 3, 2}, {1, 1, 1}};
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (auto i = random() % 40; i > 0; --i) {
      text += static_cast<char>((random() % 3 == 0 ? 'A' : 'a') + static_cast<int>(random() % 26));
    }
    SequenceStyle style = letters_style(chunks[random() % chunks.size()], random() % 4);
    style.settings.word_aware = random() % 2 == 0;
    const RawSequence raw{pieces_of(text), ids_of("suffix"), static_cast<int64_t>(random() % 45)};
    const TrainingSequence sequence = lay_sequence(raw, style);
    ASSERT_EQ(sequence.targets, naive_targets(sequence.layout, raw.first_target))
        << spell(sequence.layout);
  }
}

}  // namespace
}  // namespace ssa
