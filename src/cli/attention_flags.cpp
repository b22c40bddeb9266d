#include "cli/attention_flags.h"

#include <array>
#include <numeric>
#include <utility>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/gist_attention.h"
#include "engine/paged_sequence.h"

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

std::vector<int64_t> parse_gist_ids(const std::string& text) {
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
    if (used == 0 || used != part.size() || id < 0) {
      throw UsageError("--gist-ids " + text +
                       ": expected up to three token ids, such as 49152,49153,49154");
    }
    ids.push_back(id);
    begin = end + 1;
  }
  return ids;
}

/// The tokenizer's gist tokens, else config.json's, else the flag's; empty if there are none.
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

void override_settings(GistSettings& settings, const AttentionFlags& flags) {
  if (!flags.chunk.empty()) {
    settings.chunk = parse_chunk_sizes(flags.chunk);
  } else if (flags.ratio) {
    const auto ratio = static_cast<int64_t>(*flags.ratio);
    check(static_cast<double>(ratio) == *flags.ratio,
          "--ratio ",
          *flags.ratio,
          " alone picks a chunk size and must be whole; name one with --chunk");
    settings.chunk = settings.chunk_for_ratio(ratio);
  }
  settings.sink = flags.sink.value_or(settings.sink);
  settings.previous_chunks = flags.previous_chunks.value_or(settings.previous_chunks);
  settings.word_aware = settings.word_aware && !flags.plain_chunks;
}

bool has_gist_rows(const GistModel& model, const std::vector<int64_t>& ids) {
  return !ids.empty() &&
         std::all_of(ids.begin(), ids.end(), [&](int64_t id) { return id < model.vocab_size; });
}

AttentionMode resolve_mode(const AttentionFlags& flags, bool has_gists) {
  if (flags.mode.empty()) {
    return has_gists || flags.pivot.value_or("gist") != "gist" ? AttentionMode::kSsa
                                                               : AttentionMode::kFull;
  }
  return flags.mode == "ssa"     ? AttentionMode::kSsa
         : flags.mode == "gists" ? AttentionMode::kGists
                                 : AttentionMode::kFull;
}

/// Why our own kernels cannot serve a model; empty if they can.
std::string unpaged_because(const CausalLM& model) {
  const ModelConfig& config = model.config();
  if (!model.device().is_cpu()) {
    return concat("the model is on ", model.device().str());
  }
  if (model.dtype() == torch::kFloat64) {
    return "the model is f64";
  }
  if (config.head_dim % 8 != 0 || config.head_dim > 512) {
    return concat("head size ", config.head_dim, " is not a multiple of 8 up to 512");
  }
  if (config.n_heads / config.n_kv_heads > 64) {
    return concat(config.n_heads / config.n_kv_heads,
                  " query heads share a key/value head, more than 64");
  }
  return {};
}

std::optional<KvType> paged_type(const AttentionFlags& flags, const CausalLM& model) {
  const KvType native = model.dtype() == torch::kBFloat16 ? KvType::kBF16 : KvType::kF32;
  const KvType wanted = parse_kv_type(flags.kv_dtype).value_or(native);
  const std::string obstacle = flags.kernels == "reference"
                                   ? "--kernels reference keeps the model's"
                                   : unpaged_because(model);
  if (obstacle.empty()) {
    return wanted;
  }
  check(flags.kv_dtype == "auto" || wanted == native,
        "--kv-dtype ",
        flags.kv_dtype,
        ": ",
        obstacle,
        "; own kernels serve f32, bf16 and int8 on the CPU");
  return std::nullopt;
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

void add_layout_flags(CLI::App& app, AttentionFlags& flags) {
  app.add_option("--chunk", flags.chunk, "Chunk size, or sizes of each level: 8, or 4,4 (H-SSA)");
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
      "Token ids of <gist>, <Gist>, <MGist>, where neither tokenizer nor config.json has them");
}

void add_attention_flags(CLI::App& app, AttentionFlags& flags) {
  app.add_option("--attention", flags.mode, "How queries attend")
      ->check(CLI::IsMember({"full", "ssa", "gists"}));
  add_layout_flags(app, flags);
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

const char* attention_mode_name(AttentionMode mode) {
  switch (mode) {
    case AttentionMode::kFull:
      return "full";
    case AttentionMode::kSsa:
      return "ssa";
    case AttentionMode::kGists:
      return "gists";
  }
  return "?";
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

AttentionPlan plan_attention(const AttentionFlags& flags,
                             const Checkpoint& checkpoint,
                             const CausalLM& loaded,
                             const Tokenizer* tokenizer) {
  AttentionPlan plan;
  plan.paged = paged_type(flags, loaded);
  const GistModel model = gist_model(checkpoint);
  const bool has_gists = has_gist_rows(model, find_gist_ids(flags, model.settings, tokenizer));
  plan.mode = resolve_mode(flags, has_gists);
  if (plan.mode == AttentionMode::kFull) {
    return plan;
  }
  check(checkpoint.config().architecture != Architecture::kLlamaNsa,
        "--attention ",
        attention_mode_name(plan.mode),
        ": a llama-nsa model has no gists; it supports --attention full");
  plan.options.selection = selection_options(flags);
  plan.options.unfold = plan.mode == AttentionMode::kSsa;
  plan.options.has_gists = has_gists;
  const bool pivot_without_gists =
      plan.options.unfold && plan.options.selection.pivot != Pivot::kGist;
  check(has_gists || pivot_without_gists,
        "--attention ",
        attention_mode_name(plan.mode),
        ": this checkpoint has no gist tokens; --attention ssa --pivot mean, quest or recent does "
        "without them, and "
        "'ssa gistify' adds them (to be trained)");
  plan.gists.emplace(flags, model, tokenizer);
  plan.options.rule = plan.gists->mask_rule();
  return plan;
}

LaidPrompt lay_prompt(const AttentionPlan& plan, const PromptParts& parts) {
  LaidPrompt prompt;
  if (plan.mode == AttentionMode::kFull || !plan.options.has_gists) {
    for (const auto& piece : parts.pieces) {
      prompt.ids.insert(prompt.ids.end(), piece.begin(), piece.end());
    }
    prompt.ids.insert(prompt.ids.end(), parts.suffix.begin(), parts.suffix.end());
    prompt.positions = consecutive_positions(0, static_cast<int64_t>(prompt.ids.size()));
  }
  if (plan.mode != AttentionMode::kFull) {
    prompt.layout = plan.gists->lay(parts);
  }
  if (prompt.layout && plan.options.has_gists) {
    prompt.ids.assign(prompt.layout->ids().begin(), prompt.layout->ids().end());
    prompt.positions.assign(prompt.layout->positions().begin(), prompt.layout->positions().end());
  }
  return prompt;
}

std::unique_ptr<SequenceAttention> make_attention(const AttentionPlan& plan,
                                                  const CausalLM& model,
                                                  const LaidPrompt& prompt,
                                                  int64_t n_prompt,
                                                  int64_t capacity) {
  const auto cache = [&] {
    return KvCache(model.config(), model.dtype(), model.device(), capacity);
  };
  const auto paged_cache = [&](int n_levels) {
    return make_paged_cache(model.config(), *plan.paged, n_levels);
  };
  if (!prompt.layout) {
    return plan.paged ? std::unique_ptr<SequenceAttention>(
                            std::make_unique<PagedFullAttention>(paged_cache(0)))
                      : std::make_unique<FullAttention>(cache());
  }
  const bool has_gists = plan.options.has_gists;
  const int64_t n_layout =
      has_gists ? n_prompt
                : prompt.layout->n_tokens() - static_cast<int64_t>(prompt.ids.size()) + n_prompt;
  GistLayout layout = truncate_suffix(*prompt.layout, n_layout);
  const int n_levels = has_gists ? layout.n_levels() : 0;
  return plan.paged ? std::unique_ptr<SequenceAttention>(std::make_unique<PagedGistAttention>(
                          paged_cache(n_levels), std::move(layout), plan.options))
                    : std::make_unique<GistAttention>(cache(), std::move(layout), plan.options);
}

void check_cache_memory(const AttentionPlan& plan, const CausalLM& model, int64_t n_tokens) {
  if (!model.device().is_cpu()) {
    return;
  }
  const ModelConfig& config = model.config();
  const auto bytes = [&](int64_t n) {
    return plan.paged
               ? PagedKvCache::bytes(
                     {*plan.paged, config.n_layers, config.n_kv_heads, config.head_dim, 0}, n)
               : KvCache::bytes(config, model.dtype(), n);
  };
  const uint64_t needed = bytes(n_tokens), available = available_memory_bytes();
  check(needed <= available,
        "keys and values of ",
        n_tokens,
        " tokens need ",
        format_bytes(needed),
        ", and ",
        format_bytes(available),
        " of memory are available, enough for ",
        available / bytes(1),
        " tokens; lower --ctx-size or --predict, or take --kv-dtype int8");
}

std::string describe_cache(const AttentionPlan& plan, const CausalLM& model) {
  return plan.paged ? concat(kv_type_name(*plan.paged),
                             " keys and values, ",
                             instruction_set_name(instruction_set()),
                             " kernels")
                    : concat(torch::toString(model.dtype()), " keys and values, LibTorch kernels");
}

GistLayout truncate_suffix(const GistLayout& layout, int64_t n) {
  GistLayout shorter(layout.chunk_sizes(), {layout.token_ids().begin(), layout.token_ids().end()});
  for (int64_t t = 0; t < n; ++t) {
    const int level = layout.levels()[static_cast<size_t>(t)];
    if (level == kRawLevel) {
      shorter.append_raw(layout.ids()[static_cast<size_t>(t)]);
    } else {
      shorter.append_gist(level);
    }
  }
  return shorter;
}

}  // namespace ssa
