#include "cli/unfolding_record.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.h"

namespace ssa {
namespace {

/// Background colours of the 256-colour palette, from seldom to often.
constexpr std::array kShades = {"\x1b[48;5;187m\x1b[30m",
                                "\x1b[48;5;179m\x1b[30m",
                                "\x1b[48;5;172m\x1b[30m",
                                "\x1b[48;5;160m\x1b[97m"};
constexpr const char* kPlain = "\x1b[0m";

std::string chunk_text(const GistLayout& layout, int64_t chunk, const Tokenizer& tokenizer) {
  const Range range = layout.chunk(0, chunk);
  return tokenizer.decode(
      layout.ids().subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.size())));
}

/// On a logarithmic scale: most chunks are opened a few times, some by nearly every head.
size_t shade(int64_t times, int64_t most) {
  const double share =
      std::log1p(static_cast<double>(times)) / std::log1p(static_cast<double>(most));
  return std::min(kShades.size() - 1,
                  static_cast<size_t>(share * static_cast<double>(kShades.size())));
}

}  // namespace

void UnfoldingRecord::on_selection(int64_t layer,
                                   int64_t /*index*/,
                                   int64_t /*kv_head*/,
                                   const KeptGists& kept,
                                   int64_t n_attended) {
  ++n_selections_;
  n_attended_ += n_attended;
  if (!wants_chunks_) {
    return;
  }
  for (const int64_t chunk : kept[0]) {
    Opened& opened = chunks_[chunk];
    ++opened.times;
    opened.layers.insert(layer);
  }
}

void UnfoldingRecord::clear() {
  *this = UnfoldingRecord(wants_chunks_);
}

std::string show_unfolding(const UnfoldingRecord& record,
                           const GistLayout& layout,
                           const Tokenizer& tokenizer) {
  int64_t most = 1;
  for (const auto& [chunk, opened] : record.chunks()) {
    most = std::max(most, opened.times);
  }
  std::string text;
  for (int64_t chunk = 0; chunk < layout.n_gists(0); ++chunk) {
    const auto opened = record.chunks().find(chunk);
    const std::string raw = chunk_text(layout, chunk, tokenizer);
    text += opened == record.chunks().end()
                ? raw
                : kShades[shade(opened->second.times, most)] + raw + kPlain;
  }
  text += "\nopened: never";
  for (const char* each : kShades) {
    text += std::string(" ") + each + "  " + kPlain;
  }
  return text + " " + std::to_string(most) + " times (queries x layers x key/value heads)\n";
}

std::string trace_unfolding(const UnfoldingRecord& record,
                            const GistLayout& layout,
                            const Tokenizer& tokenizer) {
  Json chunks = Json::array();
  for (const auto& [chunk, opened] : record.chunks()) {
    const Range range = layout.chunk(0, chunk);
    chunks.push_back({{"chunk", chunk},
                      {"begin", range.begin},
                      {"end", range.end},
                      {"text", chunk_text(layout, chunk, tokenizer)},
                      {"times", opened.times},
                      {"layers", opened.layers}});
  }
  return dump_json({{"chunks", chunks},
                    {"selections", record.n_selections()},
                    {"mean_attended", record.mean_attended()}},
                   1) +
         "\n";
}

}  // namespace ssa
