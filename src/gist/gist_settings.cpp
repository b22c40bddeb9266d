#include "gist/gist_settings.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>

#include "base/error.h"
#include "base/text.h"

namespace ssa {
namespace {

constexpr size_t kMaxGistTokens = 3;

[[noreturn]] void fail_value(const std::string& key, const char* expected, const Json& value) {
  fail("gist settings: key '",
       key,
       "': expected ",
       expected,
       ", got ",
       dump_json(value).substr(0, 80));
}

int64_t read_integer(const std::string& key, const char* expected, const Json& value) {
  // An unsigned value above int64's would wrap to a negative one.
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() ||
                     value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
  if (!fits) {
    fail_value(key, expected, value);
  }
  return value.get<int64_t>();
}

int64_t read_count(const std::string& key, const Json& value) {
  const char* expected = "an integer of at least 0";
  const int64_t count = read_integer(key, expected, value);
  if (count < 0) {
    fail_value(key, expected, value);
  }
  return count;
}

bool read_bool(const std::string& key, const Json& value) {
  if (!value.is_boolean()) {
    fail_value(key, "true or false", value);
  }
  return value.get<bool>();
}

ChunkSizes read_chunk_sizes(const std::string& key, const Json& value) {
  const char* expected = "a chunk size or a list of them such as [4, 4]";
  ChunkSizes sizes;
  if (value.is_array()) {
    for (const Json& size : value) {
      sizes.push_back(read_integer(key, expected, size));
    }
  } else {
    sizes.push_back(read_integer(key, expected, value));
  }
  check_chunk_sizes(sizes, concat("gist settings: key '", key, "'"));
  return sizes;
}

std::vector<int64_t> read_token_ids(const std::string& key, const Json& value) {
  const char* expected = "a list of up to 3 different token ids";
  if (!value.is_array() || value.size() > kMaxGistTokens) {
    fail_value(key, expected, value);
  }
  std::vector<int64_t> ids;
  for (const Json& id : value) {
    ids.push_back(read_integer(key, expected, id));
  }
  const bool all_differ = std::set<int64_t>(ids.begin(), ids.end()).size() == ids.size();
  if (!all_differ || std::any_of(ids.begin(), ids.end(), [](int64_t id) { return id < 0; })) {
    fail_value(key, expected, value);
  }
  return ids;
}

std::vector<ChunkSizes> read_trained_ratios(const std::string& key, const Json& value) {
  if (!value.is_array()) {
    fail_value(key, "a list of chunk settings such as [8, 16, [4, 4]]", value);
  }
  std::vector<ChunkSizes> settings;
  for (const Json& setting : value) {
    settings.push_back(read_chunk_sizes(key, setting));
  }
  return settings;
}

void read_key(GistSettings& settings, const std::string& key, const Json& value) {
  static const std::vector<std::string> kKeys = {
      "token_ids", "chunk", "sink", "previous_chunks", "word_aware", "trained_ratios"};
  if (key == "token_ids") {
    settings.token_ids = read_token_ids(key, value);
  } else if (key == "chunk") {
    settings.chunk = read_chunk_sizes(key, value);
  } else if (key == "sink") {
    settings.sink = read_integer(key, "an integer", value);
  } else if (key == "previous_chunks") {
    settings.previous_chunks = read_count(key, value);
  } else if (key == "word_aware") {
    settings.word_aware = read_bool(key, value);
  } else if (key == "trained_ratios") {
    settings.trained_ratios = read_trained_ratios(key, value);
  } else {
    fail("gist settings: unknown key '",
         key,
         "' with value ",
         dump_json(value).substr(0, 80),
         "; the keys are ",
         join(kKeys, ", "));
  }
}

int64_t parse_size(std::string_view part, std::string_view text) {
  int64_t size = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), size);
  check(error == std::errc{} && end == part.data() + part.size(),
        "chunk sizes '",
        text,
        "': expected positive numbers such as 8, 4,4 or 4-4");
  return size;
}

}  // namespace

ChunkSizes parse_chunk_sizes(std::string_view text) {
  // A leading sign belongs to the number, so that "-4" is a size that is not positive and not two
  // sizes.
  ChunkSizes sizes;
  size_t begin = 0;
  while (true) {
    const size_t end = std::min(text.find_first_of(",-", begin + 1), text.size());
    sizes.push_back(parse_size(text.substr(begin, end - begin), text));
    if (end == text.size()) {
      break;
    }
    begin = end + 1;
  }
  check_chunk_sizes(sizes, concat("chunk sizes '", text, "'"));
  return sizes;
}

std::string format_chunk_sizes(std::span<const int64_t> sizes) {
  std::vector<std::string> parts;
  for (const int64_t size : sizes) {
    parts.push_back(std::to_string(size));
  }
  return join(parts, "-");
}

void check_chunk_sizes(std::span<const int64_t> sizes, std::string_view what) {
  check(!sizes.empty(), what, ": no chunk size given");
  check(sizes.size() <= kMaxGistLevels,
        what,
        ": ",
        sizes.size(),
        " levels, at most ",
        kMaxGistLevels,
        " are possible");
  int64_t ratio = 1;
  for (const int64_t size : sizes) {
    check(size > 0, what, ": chunk size ", size, " is not positive");
    check(size <= kMaxChunkSize / ratio,
          what,
          ": chunk size ",
          size,
          " brings the compression ratio above ",
          kMaxChunkSize);
    ratio *= size;
  }
}

int64_t compression_ratio(std::span<const int64_t> sizes) {
  int64_t ratio = 1;
  for (const int64_t size : sizes) {
    ratio *= size;
  }
  return ratio;
}

ChunkSizes GistSettings::chunk_for_ratio(int64_t ratio) const {
  check(ratio > 0 && ratio <= kMaxChunkSize,
        "compression ratio ",
        ratio,
        ": expected 1 to ",
        kMaxChunkSize);
  if (trained_ratios.empty()) {
    return {ratio};
  }
  const ChunkSizes* best = nullptr;
  std::vector<std::string> names;
  for (const ChunkSizes& setting : trained_ratios) {
    names.push_back(format_chunk_sizes(setting));
    const bool fits = compression_ratio(setting) == ratio;
    if (fits && (best == nullptr || setting.size() < best->size())) {
      best = &setting;
    }
  }
  check(best != nullptr,
        "compression ratio ",
        ratio,
        ": the checkpoint was trained with chunk settings ",
        join(names, ", "));
  return *best;
}

GistSettings parse_gist_settings(const Json& gist) {
  check(gist.is_object(), "gist settings: expected an object, got ", dump_json(gist).substr(0, 80));
  GistSettings settings;
  for (const auto& [key, value] : gist.items()) {
    read_key(settings, key, value);
  }
  return settings;
}

Json to_json(const GistSettings& settings) {
  return Json{{"token_ids", settings.token_ids},
              {"chunk", settings.chunk},
              {"sink", settings.sink},
              {"previous_chunks", settings.previous_chunks},
              {"word_aware", settings.word_aware},
              {"trained_ratios", settings.trained_ratios}};
}

}  // namespace ssa
