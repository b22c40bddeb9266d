#include "gist/interleave.h"

#include <gtest/gtest.h>

#include "gist/spelled_layout.h"

namespace ssa {
namespace {

struct LayCase {
  const char* why;
  const char* pieces;
  ChunkSizes chunk;
  int64_t sink;
  const char* laid;
};

std::string lay(const LayCase& c, bool word_aware) {
  const WordBoundaries boundaries = spelled_boundaries();
  return spell(lay_pieces(pieces_of(c.pieces),
                          spelled_settings(c.chunk, c.sink, word_aware),
                          {.boundaries = &boundaries, .bos_id = kSpelledBos}));
}

void expect_laid(std::span<const LayCase> cases, bool word_aware) {
  for (const LayCase& c : cases) {
    EXPECT_EQ(lay(c, word_aware), c.laid) << c.why;
  }
}

TEST(Interleave, CountsPlainly) {
  const std::vector<LayCase> cases = {
      {"a gist ends each chunk", "abcdef", {2}, 0, "ab.cd.ef."},
      {"a ragged end", "abcde", {2}, 0, "ab.cd.e."},
      {"counting starts behind the sink", "abcdefgh", {2}, 3, "abcde.fg.h."},
      {"all sink", "ab", {2}, 3, "ab."},
      {"sink and one chunk end together", "abcde", {2}, 3, "abcde."},
      {"empty input gets none", "", {2}, 3, ""},
      {"a negative sink counts none", "abcd", {2}, -1, "ab.cd."},
      {"word beginnings do not matter", "aBcD", {2}, 0, "aB.cD."},
  };
  expect_laid(cases, false);
}

TEST(Interleave, ClosesLevels) {
  const std::vector<LayCase> cases = {
      {"behind every second gist", "abcde", {1, 2}, 0, "a.b.:c.d.:e.:"},
      {"the end closes a full group once", "abcd", {1, 2}, 0, "a.b.:c.d.:"},
      {"levels close together at the end", "abcdefg", {2, 4}, 1, "abc.de.fg.:"},
      {"three levels", "abcdefg", {1, 2, 2}, 0, "a.b.:c.d.:*e.f.:g.:*"},
      {"levels above 2 reuse the third token", "ab", {1, 1, 1, 1}, 0, "a.:**b.:**"},
      {"short of one chunk", "a", {4, 4}, 3, "a.:"},
  };
  expect_laid(cases, false);
}

TEST(Interleave, LaysPieces) {
  const std::vector<LayCase> cases = {
      {"each closes all levels", "abc|de|f", {2, 2}, 1, "abc.:de.:f.:"},
      {"group counts start again", "a|bc|d", {1, 2}, 0, "a.:b.c.:d.:"},
      {"sink counts in the first only", "abcd|efgh", {2}, 2, "abcd.ef.gh."},
      {"empty pieces get no gist", "ab||cd|", {4}, 0, "ab.cd."},
      {"a first piece that is empty is still the first", "|abcd", {2}, 2, "ab.cd."},
      {"a bare BOS joins the next chunk", "^|abc|d", {2}, 3, "^ab.c.d."},
      {"also past an empty piece", "^||abc", {2}, 3, "^ab.c."},
      {"and behind one", "|^|abc", {2}, 3, "^ab.c."},
      {"a later BOS is an ordinary piece", "ab|^|c", {2}, 0, "ab.^.c."},
      {"a BOS with text is an ordinary piece", "^s|abc", {2}, 3, "^s.ab.c."},
      {"a BOS with nothing to join ends with a gist", "^", {2}, 3, "^."},
      {"a single token that is not BOS is a piece", "s|abc", {2}, 3, "s.ab.c."},
  };
  expect_laid(cases, false);
}

TEST(Interleave, MovesToWordBoundaries) {
  const std::vector<LayCase> cases = {
      {"here is a boundary", "abCdefGh", {2}, 0, "ab.Cd.ef.Gh."},
      {"one further on, and counting from there", "abcDefgh", {2}, 0, "abc.De.fg.h."},
      {"nearest of two", "abcdeFGhijklmn", {4}, 0, "abcde.FGhi.jklm.n."},
      {"at c/2, the last in reach", "abcdefGhijkl", {4}, 0, "abcdef.Ghij.kl."},
      {"beyond reach: the original place", "abcdefgHijkl", {4}, 0, "abcd.efgH.ijkl."},
      {"c of 1 looks nowhere", "abC", {1}, 0, "a.b.C."},
      {"c of 3 looks one on", "abcdEfgh", {3}, 0, "abcd.Efg.h."},
      {"and not two", "abcdeFgh", {3}, 0, "abc.deF.gh."},
      {"half way to the end, inside a word", "abcdefghijklM", {8}, 0, "abcdefghijk.lM."},
      {"half way, rounded up, is the boundary", "abcdeF", {4}, 0, "abcde.F."},
      {"the end is no boundary to look for", "abcde", {4}, 0, "abcd.e."},
      {"the end of the piece, not of the text", "abcdefghijklM|Nop", {8}, 0, "abcdefghijk.lM.Nop."},
      {"behind the sink", "abcdEfgh", {2}, 1, "abcd.Ef.gh."},
  };
  expect_laid(cases, true);
}

TEST(Interleave, TakesAnInstructionAsUncounted) {
  const GistLayout layout =
      lay_prefix(ids_of("instrabcd"), spelled_settings({2}, -1), {.n_uncounted = 5});
  EXPECT_EQ(spell(layout), "instrab.cd.");
}

TEST(Interleave, ReadsWhatItLays) {
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    const GistLayout layout = random_layout(random);
    const GistLayout read = parse_laid(layout.ids(), spelled_settings(layout.chunk_sizes(), 0));
    ASSERT_TRUE(std::ranges::equal(read.levels(), layout.levels())) << spell(layout);
    ASSERT_EQ(list_chunks(read), list_chunks(layout)) << spell(layout);
  }
}

TEST(Interleave, ReadsUnevenChunks) {
  EXPECT_EQ(spell(read_layout("abcdefg.h.:*i.|jk", {2, 4, 9})), "abcdefg.h.:*i.jk");
}

std::string error_of(std::string_view laid, const ChunkSizes& chunk) {
  try {
    parse_laid(ids_of(laid), spelled_settings(chunk, 0));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Interleave, RejectsGistsThatCloseNothing) {
  EXPECT_EQ(error_of(".ab", {2}), "gist of level 0 at index 0: expected behind a raw token");
  EXPECT_EQ(error_of("ab..", {2}), "gist of level 0 at index 3: expected behind a raw token");
  EXPECT_EQ(error_of("ab.:.", {2, 2}), "gist of level 0 at index 4: expected behind a raw token");
  EXPECT_EQ(error_of("ab:", {2, 2}),
            "gist of level 1 at index 2: expected behind a gist of level 0");
  EXPECT_EQ(error_of(":", {2, 2}), "gist of level 1 at index 0: expected behind a gist of level 0");
  EXPECT_EQ(error_of("ab.::", {2, 2}),
            "gist of level 1 at index 4: expected behind a gist of level 0");
  EXPECT_EQ(error_of("ab.*", {2, 2, 2}),
            "gist of level 2 at index 3: expected behind a gist of level 1");
  EXPECT_EQ(error_of("ab.:", {2}), "gist of level 1 at index 3: chunk setting 2 has levels 0 to 0");
  EXPECT_EQ(error_of("ab.:**", {2, 2, 2}),
            "gist of level 3 at index 5: chunk setting 2-2-2 has levels 0 to 2");
}

TEST(Interleave, RejectsWhatDoesNotFit) {
  const WordBoundaries small(3);
  const std::vector<int64_t> ids = {1, 2, 3};
  EXPECT_THROW(lay_prefix(ids, spelled_settings({2}, 0, true), {.boundaries = &small}), Error);
  EXPECT_THROW(lay_prefix(ids, spelled_settings({2}, 0, true), {}), Error);
  EXPECT_THROW(lay_prefix(ids, spelled_settings({0}, 0), {}), Error);
  EXPECT_THROW(lay_prefix(ids, spelled_settings({2}, 0), {.n_uncounted = -1}), Error);
  EXPECT_THROW(lay_prefix(ids, {.token_ids = {7}, .chunk = {2, 2}, .word_aware = false}, {}),
               Error);
}

}  // namespace
}  // namespace ssa
