#include "cli/attention_flags.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/error.h"

namespace ssa {
namespace {

constexpr std::array kGistTokens = {"<gist>", "<Gist>", "<MGist>"};

constexpr std::array<std::pair<const char*, Pivot>, 5> kPivots = {{{"gist", Pivot::kGist},
                                                                   {"mean", Pivot::kMean},
                                                                   {"quest", Pivot::kQuest},
                                                                   {"recent", Pivot::kRecent},
                                                                   {"random", Pivot::kRandom}}};
constexpr std::array<std::pair<const char*, SelectBy>, 4> kSelectBy = {
    {{"head", SelectBy::kHead},
     {"group", SelectBy::kGroupSum},
     {"group-max", SelectBy::kGroupMax},
     {"group-softmax", SelectBy::kGroupSoftmax}}};

template <class Table>
auto look_up(const Table& table, const std::string& name) {
  for (const auto& [known, value] : table) {
    if (name == known) {
      return value;
    }
  }
  TORCH_INTERNAL_ASSERT(false, "flag value ", name);  // CLI11 checked it
}

template <class Table>
std::vector<std::string> names(const Table& table) {
  std::vector<std::string> all;
  for (const auto& entry : table) {
    all.emplace_back(entry.first);
  }
  return all;
}

/// Parses the value once while the command line is read, so that a wrong one is a mistake there.
template <class Parse>
CLI::Validator parsed_by(Parse parse) {
  return CLI::Validator(
      [parse](const std::string& text) {
        try {
          parse(text);
          return std::string();
        } catch (const Error& error) {
          return std::string(error.what());
        }
      },
      "");
}

std::vector<int64_t> parse_gist_ids(const std::string& text) {
  constexpr size_t kMaxIds = kGistTokens.size();
  std::vector<int64_t> ids;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    size_t used = 0;
    const std::string part = text.substr(begin, end - begin);
    int64_t id = -1;
    try {
      id = std::stoll(part, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    ids.push_back(used == part.size() ? id : -1);
    begin = end + 1;
  }
  const std::set<int64_t> different(ids.begin(), ids.end());
  check(ids.size() <= kMaxIds && different.size() == ids.size() && *different.begin() >= 0,
        "'",
        text,
        "': expected up to three different token ids, such as 49152,49153,49154");
  return ids;
}

void override_settings(GistSettings& settings, const AttentionFlags& flags) {
  if (!flags.chunk.empty()) {
    settings.chunk = parse_chunk_sizes(flags.chunk);
  } else if (flags.ratio) {
    const auto ratio = static_cast<int64_t>(*flags.ratio);
    if (static_cast<double>(ratio) != *flags.ratio) {
      throw UsageError(
          concat("--ratio ",
                 *flags.ratio,
                 " alone picks a chunk size and must be whole; name one with --chunk"));
    }
    settings.chunk = settings.chunk_for_ratio(ratio);
  }
  settings.sink = flags.sink.value_or(settings.sink);
  settings.previous_chunks = flags.previous_chunks.value_or(settings.previous_chunks);
  settings.word_aware = settings.word_aware && !flags.plain_chunks && flags.has_words;
}

/// Ids of the tokens that reuse document caches; they are known by name, and not supported.
std::vector<int64_t> find_link_ids(const Tokenizer* tokenizer) {
  std::vector<int64_t> ids;
  for (int i = 1; tokenizer != nullptr && i <= 5; ++i) {
    if (const auto id = tokenizer->token_to_id("<link" + std::to_string(i) + ">")) {
      ids.push_back(*id);
    }
  }
  return ids;
}

void refuse_links(const PromptParts& parts, const std::vector<int64_t>& links) {
  const auto check_ids = [&](const std::vector<int64_t>& ids) {
    const auto found = std::find_first_of(ids.begin(), ids.end(), links.begin(), links.end());
    check(found == ids.end(),
          "the prompt holds link token ",
          found == ids.end() ? 0 : *found,
          ": link tokens (reused document caches) are not supported; use plain pieces");
  };
  std::for_each(parts.pieces.begin(), parts.pieces.end(), check_ids);
  check_ids(parts.suffix);
}

}  // namespace

std::vector<int64_t> find_gist_ids(const AttentionFlags& flags,
                                   const GistSettings& settings,
                                   const Tokenizer* tokenizer) {
  std::vector<int64_t> ids;
  for (const char* token : kGistTokens) {
    const auto id = tokenizer != nullptr ? tokenizer->token_to_id(token) : std::nullopt;
    if (!id) {
      break;
    }
    ids.push_back(*id);
  }
  if (!ids.empty()) {
    return ids;
  }
  return !settings.token_ids.empty() || flags.gist_ids.empty() ? settings.token_ids
                                                               : parse_gist_ids(flags.gist_ids);
}

void add_layout_flags(CLI::App& app, AttentionFlags& flags) {
  flags.app = &app;
  app.add_option("--chunk", flags.chunk, "Chunk size, or sizes of each level: 8, or 4,4 (H-SSA)")
      ->check(parsed_by(parse_chunk_sizes));
  app.add_option("--sink", flags.sink, "First tokens that all later ones see (default 3)");
  app.add_option("--previous-chunks",
                 flags.previous_chunks,
                 "Chunks before the own one that stay visible raw (default 1)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30));
  app.add_flag(
      "--plain-chunks", flags.plain_chunks, "Count tokens; do not move gists to word boundaries");
  app.add_option(
         "--gist-ids",
         flags.gist_ids,
         "Token ids of <gist>, <Gist>, <MGist>, where neither tokenizer nor config.json has them")
      ->check(parsed_by(parse_gist_ids));
}

void add_attention_flags(CLI::App& app, AttentionFlags& flags) {
  app.add_option("--attention", flags.mode, "How queries attend")
      ->check(CLI::IsMember({"full", "ssa", "gists", "sparse"}));
  add_layout_flags(app, flags);
  add_block_flags(app, flags.blocks);
  auto* ratio = app.add_option("--ratio",
                               flags.ratio,
                               "Unfold one of so many tokens; alone, picks the chunk size too")
                    ->check(CLI::Range(1.0, 1e9));
  auto* budget =
      app.add_option("--budget", flags.budget, "Unfold so many tokens a key/value head and step")
          ->check(CLI::PositiveNumber);
  auto* mass =
      app.add_option("--mass", flags.mass, "Unfold the best chunks up to this share of the softmax")
          ->check(CLI::Range(0.0, 1.0));
  exclude_each_other({ratio, budget, mass});
  app.add_option("--pivot", flags.pivot, "What stands for a chunk in selection (default gist)")
      ->check(CLI::IsMember(names(kPivots)));
  app.add_option("--select", flags.select, "Who chooses: each head, or a group of heads together")
      ->check(CLI::IsMember(names(kSelectBy)))
      ->capture_default_str();
  app.add_option("--dense-below", flags.dense_below, "Full attention for prompts shorter than this")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--kv-dtype",
                 flags.kv_dtype,
                 "Number type of keys and values in the cache (auto: the model's)")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8"}))
      ->capture_default_str();
  app.add_option("--kernels",
                 flags.kernels,
                 "auto: own kernels where there are any; reference: plain LibTorch")
      ->check(CLI::IsMember({"auto", "reference"}))
      ->capture_default_str();
}

SelectionOptions selection_options(const AttentionFlags& flags) {
  SelectionOptions options;
  options.pivot = look_up(kPivots, flags.pivot.value_or("gist"));
  options.by = look_up(kSelectBy, flags.select);
  options.ratio = flags.ratio;
  options.budget = flags.budget;
  options.mass = flags.mass;
  return options;
}

int64_t PromptParts::n_tokens() const {
  size_t n = suffix.size();
  for (const auto& piece : pieces) {
    n += piece.size();
  }
  return static_cast<int64_t>(n);
}

GistModel gist_model(const Json& config) {
  GistModel model;
  if (const Json* gist = find_key(config, "gist")) {
    model.settings = parse_gist_settings(*gist);
  }
  if (const Json* bos = find_key(config, "bos_token_id");
      bos != nullptr && bos->is_number_integer()) {
    model.bos_id = bos->get<int64_t>();
  }
  model.vocab_size = get_or<int64_t>(config, "vocab_size", 0);
  return model;
}

GistModel gist_model(const Checkpoint& checkpoint) {
  GistModel model;
  if (const Json& gist = checkpoint.config().gist; !gist.is_null()) {
    model.settings = parse_gist_settings(gist);
  }
  model.bos_id = checkpoint.config().bos_token_id;
  model.vocab_size = checkpoint.config().vocab_size;
  return model;
}

GistPlan::GistPlan(const AttentionFlags& flags, const GistModel& model, const Tokenizer* tokenizer)
    : settings_(model.settings), bos_id_(model.bos_id), link_ids_(find_link_ids(tokenizer)) {
  settings_.token_ids = find_gist_ids(flags, settings_, tokenizer);
  marks_only_ = settings_.token_ids.empty();
  if (marks_only_) {
    settings_.token_ids = {-1, -2, -3};  // of no token
  }
  override_settings(settings_, flags);
  if (settings_.word_aware) {
    check(tokenizer != nullptr,
          "chunks end at word boundaries, which needs the model's tokenizer.json; --plain-chunks "
          "does without");
    boundaries_ =
        find_word_boundaries(std::max(tokenizer->size(), model.vocab_size), [&](int64_t id) {
          return tokenizer->decode({&id, 1});
        });
  }
}

GistLayout GistPlan::lay(const PromptParts& parts) const {
  refuse_links(parts, link_ids_);
  InterleaveOptions options;
  options.boundaries = settings_.word_aware ? &boundaries_ : nullptr;
  options.bos_id = bos_id_;
  GistLayout layout = lay_pieces(parts.pieces, settings_, options);
  layout.append_raw(parts.suffix);
  return layout;
}

GistLayout GistPlan::parse(const PromptParts& parts) const {
  std::vector<int64_t> ids;
  for (const auto& piece : parts.pieces) {
    ids.insert(ids.end(), piece.begin(), piece.end());
  }
  GistLayout layout = parse_laid(ids, settings_);
  layout.append_raw(parts.suffix);
  return layout;
}

}  // namespace ssa
