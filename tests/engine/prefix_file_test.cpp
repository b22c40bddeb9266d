#include "engine/prefix_file.h"

#include <gtest/gtest.h>
#include <torch/types.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "engine/paged_sequence.h"
#include "gist/interleave.h"
#include "support/expect_error.h"

namespace ssa {
namespace {

/// Two layers, two key/value heads of 16, 100 raw tokens with gists of two levels, number type by
/// parameter.
class PrefixFileTest : public ::testing::TestWithParam<KvType> {
 protected:
  PrefixFileTest() : cache_(empty_cache()) {
    torch::manual_seed(1);
    GistSettings settings;
    settings.chunk = {4, 3};
    settings.token_ids = {90, 91};
    settings.word_aware = false;
    const GistLayout layout = lay_prefix(std::vector<int64_t>(100, 7), settings, {});
    state_.model = "0123456789abcdef";
    state_.shape = cache_.shape();
    state_.chunk = settings.chunk;
    state_.ids.assign(layout.ids().begin(), layout.ids().end());
    state_.levels.assign(layout.levels().begin(), layout.levels().end());
    append_random(cache_, layout.levels());
  }

  static PagedKvCache empty_cache() {
    ModelConfig config;
    config.n_layers = 2;
    config.n_heads = 4;
    config.n_kv_heads = 2;
    config.head_dim = 16;
    return make_paged_cache(config, GetParam(), 2);
  }

  ~PrefixFileTest() override { std::filesystem::remove(path()); }

  static std::filesystem::path path() {
    return std::filesystem::temp_directory_path() / ("ssa_prefix_" + std::to_string(getpid()));
  }

  /// The same bytes in every row and bank?
  bool equal(const PagedKvCache& a, const PagedKvCache& b) const {
    const auto row = static_cast<size_t>(row_bytes(GetParam(), 16));
    for (int64_t layer = 0; layer < 2; ++layer) {
      for (int64_t head = 0; head < 2; ++head) {
        for (int64_t token = 0; token < 100; ++token) {
          if (std::memcmp(a.row(layer, head, token), b.row(layer, head, token), row) != 0) {
            return false;
          }
        }
        for (int level = 0; level < 2; ++level) {
          const KeyBank &x = a.bank(layer, level), &y = b.bank(layer, level);
          if (x.n_rows() != y.n_rows() ||
              std::memcmp(x.keys(head), y.keys(head), static_cast<size_t>(x.key_bytes())) != 0 ||
              std::memcmp(x.values(head), y.values(head), static_cast<size_t>(x.value_bytes())) !=
                  0) {
            return false;
          }
        }
      }
    }
    return true;
  }

  void expect_refused(const PrefixState& state, const std::string& part) {
    PagedKvCache cache = empty_cache();
    expect_error([&] { load_prefix(path(), state, cache); }, part);
  }

  PagedKvCache cache_;
  PrefixState state_;
};

TEST_P(PrefixFileTest, ComesBackAsItWas) {
  save_prefix(path(), state_, cache_);
  PagedKvCache loaded = empty_cache();
  load_prefix(path(), state_, loaded);
  EXPECT_TRUE(equal(cache_, loaded));
  EXPECT_EQ(loaded.bytes().raw, cache_.bytes().raw);
  EXPECT_EQ(loaded.bytes().gist, cache_.bytes().gist);
}

TEST_P(PrefixFileTest, OnlyThePrefixIsKept) {
  append_random(cache_, std::vector<int8_t>(20, kRawLevel));
  save_prefix(path(), state_, cache_);
  PagedKvCache loaded = empty_cache();
  load_prefix(path(), state_, loaded);
  EXPECT_EQ(loaded.n_raw(1), 100);
  EXPECT_TRUE(equal(cache_, loaded));
}

TEST_P(PrefixFileTest, RefusesWhatIsNotTheSame) {
  save_prefix(path(), state_, cache_);
  const auto changed = [&](const std::function<void(PrefixState&)>& change) {
    PrefixState state = state_;
    change(state);
    return state;
  };
  expect_refused(changed([](auto& s) { s.model = "fedcba9876543210"; }),
                 "read with model \"0123456789abcdef\"");
  expect_refused(changed([](auto& s) { s.chunk = {8}; }), "read with chunk \"4-3\"");
  expect_refused(changed([](auto& s) { s.rule.sink = 5; }), "read with sink 3");
  expect_refused(changed([](auto& s) { s.ids[17] = 8; }), "another text");
  expect_refused(changed([](auto& s) { s.ids.pop_back(), s.levels.pop_back(); }),
                 "another text or layout");
}

TEST_P(PrefixFileTest, RefusesEveryDamage) {
  save_prefix(path(), state_, cache_);
  const std::string whole = read_file(path());
  for (size_t at = 0; at < whole.size(); at += 97) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    write_file(path(), damaged);
    PagedKvCache cache = empty_cache();
    EXPECT_THROW(load_prefix(path(), state_, cache), Error) << "byte " << at;
  }
  for (const size_t size : {size_t{0}, size_t{5}, size_t{40}, whole.size() / 2, whole.size() - 1}) {
    write_file(path(), whole.substr(0, size));
    expect_refused(state_, "cut short");
  }
  write_file(path(), whole + "x");
  expect_refused(state_, "1 bytes too many");
}

INSTANTIATE_TEST_SUITE_P(,
                         PrefixFileTest,
                         ::testing::Values(KvType::kF32, KvType::kBF16, KvType::kInt8));

}  // namespace
}  // namespace ssa
