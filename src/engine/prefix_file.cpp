#include "engine/prefix_file.h"

#include <algorithm>
#include <cstring>

#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace ssa {
namespace {

constexpr std::string_view kMagic = "SSAPREFX";
constexpr uint32_t kVersion = 1;

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

std::vector<int64_t> gists_by_level(const PrefixState& state) {
  std::vector<int64_t> counts(static_cast<size_t>(state.shape.n_levels));
  for (const int8_t level : state.levels) {
    if (level != kRawLevel) {
      ++counts[static_cast<size_t>(level)];
    }
  }
  return counts;
}

int64_t n_raw(const PrefixState& state) {
  return std::count(state.levels.begin(), state.levels.end(), static_cast<int8_t>(kRawLevel));
}

Json header_of(const PrefixState& state) {
  const KvShape& shape = state.shape;
  return {{"model", state.model},
          {"kv_dtype", kv_type_name(shape.type)},
          {"n_layers", shape.n_layers},
          {"n_kv_heads", shape.n_kv_heads},
          {"head_dim", shape.head_dim},
          {"n_levels", shape.n_levels},
          {"chunk", state.chunk.empty() ? "none" : format_chunk_sizes(state.chunk)},
          {"sink", state.rule.sink},
          {"previous_chunks", state.rule.previous_chunks},
          {"n_tokens", state.ids.size()}};
}

/// Bytes of one bank's keys for n rows.
size_t key_bytes(const PrefixState& state, size_t level, int64_t n) {
  const bool tiles = level + 1 == static_cast<size_t>(state.shape.n_levels);
  const int64_t rows = tiles ? (n + kTileKeys - 1) / kTileKeys * kTileKeys : n;
  return static_cast<size_t>(rows * vector_bytes(state.shape.type, state.shape.head_dim));
}

class Writer {
 public:
  explicit Writer(const std::filesystem::path& path) : file_(path) {}

  void plain(std::span<const std::byte> bytes) {
    file_.write(bytes);
    sum_ = checksum(bytes, sum_);
  }
  void end_section() {
    file_.write(bytes_of(sum_));
    sum_ = 0;
  }
  void commit() { file_.commit(); }

 private:
  AtomicFile file_;
  uint64_t sum_ = 0;
};

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(path) {}

  std::span<const std::byte> take(size_t n) {
    check(file_.bytes().size() - at_ >= n,
          file_.path().string(),
          ": the prefix file is cut short: ",
          file_.bytes().size(),
          " bytes, and ",
          at_ + n,
          " or more were expected");
    const auto part = file_.bytes().subspan(at_, n);
    at_ += n;
    sum_ = checksum(part, sum_);
    return part;
  }
  template <class T>
  T value() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  void end_section(const std::string& what) {
    const uint64_t expected = std::exchange(sum_, 0);
    check(value<uint64_t>() == expected,
          file_.path().string(),
          ": ",
          what,
          " are damaged (checksum)");
    sum_ = 0;
  }
  void check_end() const {
    check(at_ == file_.bytes().size(),
          file_.path().string(),
          ": ",
          file_.bytes().size() - at_,
          " bytes too many at the end of the prefix file");
  }

 private:
  MappedFile file_;
  size_t at_ = 0;
  uint64_t sum_ = 0;
};

/// The raw rows of one head, a run of memory at a time.
template <class Cache, class Fn>
void for_each_rows(Cache& cache, int64_t layer, int64_t kv_head, int64_t n, const Fn& fn) {
  const auto row = static_cast<size_t>(row_bytes(cache.shape().type, cache.shape().head_dim));
  for (int64_t token = 0; token < n; token += PagedKvCache::kPageTokens) {
    const int64_t size = std::min(PagedKvCache::kPageTokens, n - token);
    fn(cache.row(layer, kv_head, token), static_cast<size_t>(size) * row);
  }
}

Json read_header(Reader& reader, const std::filesystem::path& path) {
  const auto magic = reader.take(kMagic.size());
  check(std::memcmp(magic.data(), kMagic.data(), kMagic.size()) == 0,
        path.string(),
        " is not a prefix file");
  const auto version = reader.value<uint32_t>();
  check(version == kVersion,
        path.string(),
        ": prefix file of version ",
        version,
        "; this program reads version ",
        kVersion);
  const auto text = reader.take(reader.value<uint32_t>());
  std::string header(reinterpret_cast<const char*>(text.data()), text.size());
  reader.end_section("its header's bytes");
  return parse_json(header, path.string());
}

void check_header(const Json& found, const Json& expected, const std::filesystem::path& path) {
  for (const auto& [key, value] : expected.items()) {
    const Json* there = find_key(found, key.c_str());
    check(there != nullptr && *there == value,
          path.string(),
          ": the prefix was read with ",
          key,
          " ",
          there != nullptr ? dump_json(*there) : "unknown",
          ", and this run has ",
          dump_json(value),
          key == "n_tokens" ? " (another text or layout)" : "");
  }
}

}  // namespace

void save_prefix(const std::filesystem::path& path,
                 const PrefixState& state,
                 const PagedKvCache& cache) {
  Writer writer(path);
  const std::string header = dump_json(header_of(state));
  writer.plain(std::as_bytes(std::span(kMagic)));
  writer.plain(bytes_of(kVersion));
  writer.plain(bytes_of(static_cast<uint32_t>(header.size())));
  writer.plain(std::as_bytes(std::span(header)));
  writer.end_section();
  writer.plain(bytes_of(state.ids));
  writer.plain(bytes_of(state.levels));
  writer.end_section();
  const std::vector<int64_t> n_gists = gists_by_level(state);
  for (int64_t layer = 0; layer < state.shape.n_layers; ++layer) {
    for (int64_t head = 0; head < state.shape.n_kv_heads; ++head) {
      for_each_rows(cache, layer, head, n_raw(state), [&](const std::byte* rows, size_t bytes) {
        writer.plain({rows, bytes});
      });
      for (size_t level = 0; level < n_gists.size(); ++level) {
        const KeyBank& bank = cache.bank(layer, static_cast<int>(level));
        const auto values = n_gists[level] * vector_bytes(state.shape.type, state.shape.head_dim);
        writer.plain({bank.keys(head), key_bytes(state, level, n_gists[level])});
        writer.plain({bank.values(head), static_cast<size_t>(values)});
      }
    }
    writer.end_section();
  }
  writer.commit();
}

void load_prefix(const std::filesystem::path& path,
                 const PrefixState& expected,
                 PagedKvCache& cache) {
  Reader reader(path);
  check_header(read_header(reader, path), header_of(expected), path);
  const auto ids = reader.take(expected.ids.size() * sizeof(int64_t));
  const auto levels = reader.take(expected.levels.size());
  reader.end_section("its token ids");
  const auto same = [](std::span<const std::byte> a, std::span<const std::byte> b) {
    return std::ranges::equal(a, b);
  };
  check(same(ids, bytes_of(expected.ids)) && same(levels, bytes_of(expected.levels)),
        path.string(),
        ": the prefix was read from another text, or laid out in another way");
  const std::vector<int64_t> n_gists = gists_by_level(expected);
  cache.resize(n_raw(expected), n_gists);
  const auto copy = [&](std::byte* out, size_t bytes) {
    std::memcpy(out, reader.take(bytes).data(), bytes);
  };
  for (int64_t layer = 0; layer < expected.shape.n_layers; ++layer) {
    for (int64_t head = 0; head < expected.shape.n_kv_heads; ++head) {
      for_each_rows(cache, layer, head, n_raw(expected), copy);
      for (size_t level = 0; level < n_gists.size(); ++level) {
        KeyBank& bank = cache.bank(layer, static_cast<int>(level));
        copy(bank.keys(head), key_bytes(expected, level, n_gists[level]));
        copy(bank.values(head),
             static_cast<size_t>(n_gists[level] *
                                 vector_bytes(expected.shape.type, expected.shape.head_dim)));
      }
    }
    reader.end_section("keys and values of layer " + std::to_string(layer));
  }
  reader.check_end();
}

}  // namespace ssa
