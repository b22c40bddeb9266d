#include "cli/unfolding_record.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/json.h"

namespace ssa {
namespace {

/// Background colours of the 256-colour palette, from seldom to often.
constexpr std::array kShades = {"\x1b[48;5;187m\x1b[30m",
                                "\x1b[48;5;179m\x1b[30m",
                                "\x1b[48;5;172m\x1b[30m",
                                "\x1b[48;5;160m\x1b[97m"};
constexpr const char* kPlain = "\x1b[0m";

std::string chunk_text(const ShownChunks& shown, size_t chunk, const Tokenizer& tokenizer) {
  const Range range = shown.ranges[chunk];
  return tokenizer.decode(std::span(shown.ids).subspan(static_cast<size_t>(range.begin),
                                                       static_cast<size_t>(range.size())));
}

/// On a logarithmic scale: most chunks are opened a few times, some by nearly every head.
size_t shade(int64_t times, int64_t most) {
  const double share =
      std::log1p(static_cast<double>(times)) / std::log1p(static_cast<double>(most));
  return std::min(kShades.size() - 1,
                  static_cast<size_t>(share * static_cast<double>(kShades.size())));
}

constexpr const char* kUnit = " (queries x layers x key/value heads)\n";

std::string colour_legend(int64_t most) {
  std::string text = "opened: never";
  for (const char* each : kShades) {
    text += std::string(" ") + each + "  " + kPlain;
  }
  return concat(text, " ", most, " times", kUnit);
}

/// How often each chunk was opened beyond what is usual where it stands: some heads open the
/// nearest chunks whatever is asked.
std::vector<int64_t> opened_beyond_usual(const UnfoldingRecord& record, int64_t n_chunks) {
  constexpr int64_t kAround = 32;
  std::vector<int64_t> times(static_cast<size_t>(n_chunks), 0), beyond;
  for (const auto& [chunk, opened] : record.chunks()) {
    if (chunk < n_chunks) {
      times[static_cast<size_t>(chunk)] = opened.times;
    }
  }
  for (int64_t chunk = 0; chunk < n_chunks; ++chunk) {
    std::vector<int64_t> around(times.begin() + std::max<int64_t>(0, chunk - kAround),
                                times.begin() + std::min(n_chunks, chunk + kAround + 1));
    const auto middle = around.begin() + std::ssize(around) / 2;
    std::nth_element(around.begin(), middle, around.end());
    beyond.push_back(times[static_cast<size_t>(chunk)] - *middle);
  }
  return beyond;
}

/// The chunks about `peak` that stand out with it, and one more on each side.
Range passage_about(int64_t peak, const std::vector<int64_t>& beyond) {
  constexpr int64_t kMost = 6;  // chunks to each side
  const auto n = static_cast<int64_t>(beyond.size());
  const auto belongs = [&](int64_t chunk) {
    return beyond[static_cast<size_t>(chunk)] * 3 > beyond[static_cast<size_t>(peak)];
  };
  Range passage{peak, peak + 1};
  while (passage.begin > 0 && peak - passage.begin < kMost && belongs(passage.begin - 1)) {
    --passage.begin;
  }
  while (passage.end < n && passage.end - peak < kMost && belongs(passage.end)) {
    ++passage.end;
  }
  return {std::max<int64_t>(0, passage.begin - 1), std::min(n, passage.end + 1)};
}

/// Text of the chunks, without the gists between them, on one line.
std::string passage_text(const ShownChunks& shown,
                         const Range& chunks,
                         const Tokenizer& tokenizer) {
  std::string text;
  for (int64_t chunk = chunks.begin; chunk < chunks.end; ++chunk) {
    text += chunk_text(shown, static_cast<size_t>(chunk), tokenizer);
  }
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  text.erase(0, text.find_first_not_of(' '));
  return text;
}

}  // namespace

void UnfoldingRecord::on_selection(
    int64_t layer, int64_t index, int64_t /*kv_head*/, const KeptGists& kept, int64_t n_attended) {
  count(layer, index, wants_chunks_ ? kept[0] : std::span<const int64_t>(), n_attended);
}

void UnfoldingRecord::on_blocks(int64_t layer,
                                int64_t index,
                                int64_t /*kv_head*/,
                                std::span<const int64_t> blocks,
                                int64_t n_attended) {
  count(layer, index, blocks, n_attended);
}

void UnfoldingRecord::count(int64_t layer,
                            int64_t index,
                            std::span<const int64_t> chunks,
                            int64_t n_attended) {
  if (index < first_) {
    return;
  }
  ++n_selections_;
  n_attended_ += n_attended;
  for (const int64_t chunk : wants_chunks_ ? chunks : std::span<const int64_t>()) {
    Opened& opened = chunks_[chunk];
    ++opened.times;
    opened.layers.insert(layer);
  }
}

void UnfoldingRecord::clear(int64_t first) {
  *this = UnfoldingRecord(wants_chunks_);
  first_ = first;
}

ShownChunks chunks_of(const GistLayout& layout) {
  ShownChunks shown;
  shown.ids.assign(layout.ids().begin(), layout.ids().end());
  for (int64_t chunk = 0; chunk < layout.n_gists(0); ++chunk) {
    shown.ranges.push_back(layout.chunk(0, chunk));
  }
  return shown;
}

ShownChunks blocks_of(std::vector<int64_t> ids, int64_t block_size) {
  ShownChunks shown{.word = "block", .ids = std::move(ids), .ranges = {}};
  const auto n = static_cast<int64_t>(shown.ids.size());
  for (int64_t begin = 0; begin < n; begin += block_size) {
    shown.ranges.push_back({begin, std::min(begin + block_size, n)});
  }
  return shown;
}

std::string show_unfolding(const UnfoldingRecord& record,
                           const ShownChunks& shown,
                           const Tokenizer& tokenizer,
                           bool colours) {
  int64_t most = 1;
  for (const auto& [chunk, opened] : record.chunks()) {
    most = std::max(most, opened.times);
  }
  std::string text;
  for (size_t chunk = 0; chunk < shown.ranges.size(); ++chunk) {
    const auto opened = record.chunks().find(static_cast<int64_t>(chunk));
    const std::string raw = chunk_text(shown, chunk, tokenizer);
    if (opened == record.chunks().end()) {
      text += raw;
    } else {
      const int64_t times = opened->second.times;
      text +=
          colours ? kShades[shade(times, most)] + raw + kPlain : concat("[", times, "x ", raw, "]");
    }
  }
  return text + "\n" + (colours ? colour_legend(most) : concat("[Nx ...]: opened N times", kUnit));
}

std::string list_passages(const UnfoldingRecord& record,
                          const ShownChunks& shown,
                          const Tokenizer& tokenizer,
                          int64_t n) {
  const std::vector<int64_t> beyond = opened_beyond_usual(record, std::ssize(shown.ranges));
  std::vector<int64_t> peaks(beyond.size());
  std::iota(peaks.begin(), peaks.end(), int64_t{0});
  std::stable_sort(peaks.begin(), peaks.end(), [&](int64_t a, int64_t b) {
    return beyond[static_cast<size_t>(a)] > beyond[static_cast<size_t>(b)];
  });
  std::vector<Range> listed;
  std::string lines;
  for (const int64_t peak : peaks) {
    if (std::ssize(listed) == n || beyond[static_cast<size_t>(peak)] <= 0) {
      break;
    }
    const Range passage = passage_about(peak, beyond);
    if (std::any_of(listed.begin(), listed.end(), [&](const Range& other) {
          return passage.begin < other.end && other.begin < passage.end;
        })) {
      continue;
    }
    listed.push_back(passage);
    const Range tokens{shown.ranges[static_cast<size_t>(passage.begin)].begin,
                       shown.ranges[static_cast<size_t>(passage.end - 1)].end};
    lines += concat("[",
                    listed.size(),
                    "] opened ",
                    record.chunks().at(peak).times,
                    " times, tokens ",
                    tokens.begin,
                    "-",
                    tokens.end,
                    ": ",
                    passage_text(shown, passage, tokenizer),
                    "\n");
  }
  return lines;
}

std::string trace_unfolding(const UnfoldingRecord& record,
                            const ShownChunks& shown,
                            const Tokenizer& tokenizer) {
  Json chunks = Json::array();
  for (const auto& [chunk, opened] : record.chunks()) {
    const Range range = shown.ranges[static_cast<size_t>(chunk)];
    chunks.push_back({{shown.word, chunk},
                      {"begin", range.begin},
                      {"end", range.end},
                      {"text", chunk_text(shown, static_cast<size_t>(chunk), tokenizer)},
                      {"times", opened.times},
                      {"layers", opened.layers}});
  }
  return dump_json({{std::string(shown.word) + "s", chunks},
                    {"selections", record.n_selections()},
                    {"mean_attended", record.mean_attended()}},
                   1) +
         "\n";
}

}  // namespace ssa
