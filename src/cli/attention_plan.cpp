#include "cli/attention_plan.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/block_attention.h"
#include "engine/gist_attention.h"
#include "engine/paged_block_attention.h"
#include "engine/paged_sequence.h"

namespace ssa {
namespace {

bool has_gist_rows(const GistModel& model, const std::vector<int64_t>& ids) {
  return !ids.empty() &&
         std::all_of(ids.begin(), ids.end(), [&](int64_t id) { return id < model.vocab_size; });
}

AttentionMode resolve_mode(const AttentionFlags& flags, const ModelConfig& config, bool has_gists) {
  if (flags.mode.empty()) {
    return has_gists || flags.pivot.value_or("gist") != "gist" ? AttentionMode::kSsa
           : is_sparse_by_default(flags.blocks, config)        ? AttentionMode::kSparse
                                                               : AttentionMode::kFull;
  }
  return flags.mode == "ssa"      ? AttentionMode::kSsa
         : flags.mode == "gists"  ? AttentionMode::kGists
         : flags.mode == "sparse" ? AttentionMode::kSparse
                                  : AttentionMode::kFull;
}

/// Flags about gists; those about unfolding them come first.
constexpr std::array kGistFlags = {"--budget",
                                   "--mass",
                                   "--pivot",
                                   "--select",
                                   "--ratio",
                                   "--chunk",
                                   "--sink",
                                   "--previous-chunks",
                                   "--plain-chunks",
                                   "--gist-ids"};
constexpr size_t kUnfoldingFlags = 4;

/// Those that the mode does not follow.
std::span<const char* const> foreign_gist_flags(AttentionMode mode) {
  const std::span<const char* const> all(kGistFlags);
  return all.first(mode == AttentionMode::kSsa     ? 0
                   : mode == AttentionMode::kGists ? kUnfoldingFlags
                                                   : all.size());
}

void check_gist_flags(const AttentionFlags& flags, const ModelConfig& config, AttentionMode mode) {
  const char* flag = first_given(flags.app, foreign_gist_flags(mode));
  if (flag == nullptr) {
    return;
  }
  if (mode == AttentionMode::kSparse) {
    throw UsageError(concat(
        flag, " is about gists; --attention sparse takes --block-size, --blocks and --block-rule"));
  }
  const std::string_view reason = !flags.mode.empty() ? ""
                                  : config.architecture == Architecture::kLlamaNsa
                                      ? "; a llama-nsa model has no gists"
                                      : "; this checkpoint has no gists: "
                                        "add --pivot mean, or --adapter";
  log_warning(
      flag, " has no effect with attention ", attention_mode_name(mode), ": it is for ssa", reason);
}

void check_block_flags(const AttentionFlags& flags, const ModelConfig& config, AttentionMode mode) {
  if (mode == AttentionMode::kSparse) {
    return;
  }
  const bool names_model =
      config.architecture == Architecture::kLlamaNsa || flags.blocks.variant == "fullattn";
  const char* variant = names_model ? nullptr : first_given(flags.app, std::array{"--variant"});
  const char* blocks = flags.blocks.first_given();
  if (const char* flag = blocks != nullptr ? blocks : variant) {
    throw UsageError(
        concat(flag, " is about --attention sparse, and the mode is ", attention_mode_name(mode)));
  }
}

/// Flags of another mode are not passed over without a word: the same flags for all modes, as
/// scripts give them, get a warning, contradictions an error. What the environment says is for all
/// commands.
void check_flags_of_mode(const AttentionFlags& flags,
                         const ModelConfig& config,
                         AttentionMode mode) {
  check_gist_flags(flags, config, mode);
  check_block_flags(flags, config, mode);
}

/// Why our own kernels cannot serve a model; empty if they can.
std::string unpaged_because(const CausalLM& model, const std::optional<BlockPlan>& blocks) {
  const ModelConfig& config = model.config();
  if (blocks && blocks->variant == BlockVariant::kNsa) {
    return "NSA's branches are LibTorch's";
  }
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

std::optional<KvType> paged_type(const AttentionFlags& flags,
                                 const CausalLM& model,
                                 const std::optional<BlockPlan>& blocks) {
  const KvType native = model.dtype() == torch::kBFloat16 ? KvType::kBF16 : KvType::kF32;
  const KvType wanted = parse_kv_type(flags.kv_dtype).value_or(native);
  const std::string obstacle = flags.kernels == "reference"
                                   ? "--kernels reference keeps the model's"
                                   : unpaged_because(model, blocks);
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

std::unique_ptr<SequenceAttention> make_block_attention(const AttentionPlan& plan,
                                                        const CausalLM& model,
                                                        int64_t capacity) {
  const BlockOptions& options = plan.blocks->options;
  if (plan.paged) {
    return std::make_unique<PagedBlockAttention>(make_paged_cache(model.config(), *plan.paged, 0),
                                                 options);
  }
  const auto cache = [&](int64_t n_rows) {
    return KvCache(model.config(), model.dtype(), model.device(), n_rows);
  };
  const int64_t n_blocks = capacity / options.block_size + 1;
  return plan.blocks->variant == BlockVariant::kNsa
             ? std::make_unique<NsaAttention>(
                   cache(capacity), cache(n_blocks), options, plan.blocks->window)
             : std::make_unique<BlockSparseAttention>(cache(capacity), cache(n_blocks), options);
}

}  // namespace

const char* attention_mode_name(AttentionMode mode) {
  switch (mode) {
    case AttentionMode::kFull:
      return "full";
    case AttentionMode::kSsa:
      return "ssa";
    case AttentionMode::kGists:
      return "gists";
    case AttentionMode::kSparse:
      return "sparse";
  }
  return "?";
}

std::string describe_attention(const AttentionPlan& plan) {
  return plan.blocks ? describe_blocks(*plan.blocks) : attention_mode_name(plan.mode);
}

void AttentionPlan::make_full() {
  mode = AttentionMode::kFull;
  gists.reset();
  blocks.reset();
}

AttentionPlan plan_attention(const AttentionFlags& flags,
                             const Checkpoint& checkpoint,
                             const CausalLM& loaded,
                             const Tokenizer* tokenizer) {
  AttentionPlan plan;
  const ModelConfig& config = checkpoint.config();
  const GistModel model = gist_model(checkpoint);
  const bool has_gists = has_gist_rows(model, find_gist_ids(flags, model.settings, tokenizer));
  plan.mode = resolve_mode(flags, config, has_gists);
  check_flags_of_mode(flags, config, plan.mode);
  if (plan.mode == AttentionMode::kSparse) {
    plan.blocks = plan_blocks(flags.blocks, config);
  }
  plan.paged = paged_type(flags, loaded, plan.blocks);
  if (plan.mode == AttentionMode::kFull || plan.mode == AttentionMode::kSparse) {
    return plan;
  }
  check(checkpoint.config().architecture != Architecture::kLlamaNsa,
        "--attention ",
        attention_mode_name(plan.mode),
        ": a llama-nsa model has no gists; it supports --attention full and sparse");
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
        "a gist adapter (--adapter) brings them, and 'ssa gistify' adds them (to be trained)");
  plan.gists.emplace(flags, model, tokenizer);
  plan.options.rule = plan.gists->mask_rule();
  return plan;
}

LaidPrompt lay_prompt(const AttentionPlan& plan, const PromptParts& parts) {
  LaidPrompt prompt;
  if (!plan.has_layout() || !plan.options.has_gists) {
    for (const auto& piece : parts.pieces) {
      prompt.ids.insert(prompt.ids.end(), piece.begin(), piece.end());
    }
    prompt.ids.insert(prompt.ids.end(), parts.suffix.begin(), parts.suffix.end());
    prompt.positions = consecutive_positions(0, static_cast<int64_t>(prompt.ids.size()));
  }
  if (plan.has_layout()) {
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
  if (plan.blocks) {
    return make_block_attention(plan, model, capacity);
  }
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

void set_observers(SequenceAttention& attention, const AttentionObservers& observers) {
  if (auto* gists = dynamic_cast<ChunkedAttention*>(&attention)) {
    gists->set_observer(observers.gists);
  } else if (auto* blocks = dynamic_cast<BlockSparseAttention*>(&attention)) {
    blocks->set_observer(observers.blocks);
  } else if (auto* paged = dynamic_cast<PagedBlockAttention*>(&attention)) {
    paged->set_observer(observers.blocks);
  }
}

void check_cache_memory(const AttentionPlan& plan, const CausalLM& model, int64_t n_tokens) {
  if (!model.device().is_cpu()) {
    return;
  }
  const ModelConfig& config = model.config();
  const auto bytes = [&](int64_t n) {
    n += plan.blocks ? n / plan.blocks->options.block_size : 0;  // their means
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
