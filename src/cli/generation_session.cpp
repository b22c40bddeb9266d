#include "cli/generation_session.h"

#include <torch/utils.h>
#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "base/escapes.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoint/fingerprint.h"
#include "cli/output_files.h"
#include "cli/progress_bar.h"
#include "engine/chunk_closer.h"
#include "engine/paged_sequence.h"

namespace ssa {
namespace {

void add_sampling_flags(CLI::App& app, SamplingOptions& sampling) {
  app.add_option("--temp", sampling.temperature, "Temperature; 0 takes the most likely token")
      ->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "Sample from the k most likely tokens (0: all)")
      ->capture_default_str();
  app.add_option(
         "--top-p", sampling.top_p, "Sample from the most likely tokens that reach this mass")
      ->capture_default_str();
  app.add_option("--min-p", sampling.min_p, "Drop tokens below this share of the likeliest one")
      ->capture_default_str();
  app.add_option("--repeat-penalty", sampling.repetition_penalty, "Penalty on tokens seen before")
      ->capture_default_str();
  app.add_option("-s,--seed", sampling.seed, "Seed of the sampler")->capture_default_str();
}

void check_sampling(const SamplingOptions& sampling) {
  try {
    validate(sampling);
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

std::string speed(int64_t n_tokens, double seconds) {
  char text[64];
  const double rate = seconds > 0 ? static_cast<double>(n_tokens) / seconds : 0.0;
  std::snprintf(text,
                sizeof text,
                "%lld tokens, %.2f s, %.1f tokens/s",
                static_cast<long long>(n_tokens),
                seconds,
                rate);
  return text;
}

/// `show`, and between the pieces of a long prompt memory that nobody needs goes back: gaps that
/// numbers of a piece leave, and code that starting up and reading ran through.
ProgressFn thrifty(ProgressFn show, int64_t piece) {
  return [show = std::move(show), piece](int64_t done, int64_t total) {
    if (total > piece) {
      return_freed_memory();
      if (done <= piece || done == total) {
        forget_program_code();
      }
    }
    show(done, total);
  };
}

/// Tokens of the sequence that stay when only the suffix changes.
int64_t shared_tokens(const AttentionPlan& plan,
                      const LaidPrompt& prompt,
                      const PromptParts& parts) {
  const bool laid = prompt.layout && plan.options.has_gists;
  return laid ? prompt.layout->prefix_end()
              : parts.n_tokens() - static_cast<int64_t>(parts.suffix.size());
}

}  // namespace

void add_generation_flags(CLI::App& app, GenerationFlags& flags) {
  add_attention_flags(app, flags.attention);
  add_sampling_flags(app, flags.sampling);
  app.add_option("-n,--predict,--n-predict",
                 flags.predict,
                 "Tokens to generate (-1: until the context is full)")
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("-c,--ctx-size", flags.ctx_size, "Context in tokens (0: the model's positions)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("-b,--batch-size", flags.batch_size, "Prompt tokens a forward pass")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option(
      "--stop", flags.stop, concat("String that ends the answer; may be repeated ", kEscapesHelp));
  app.add_option("--prefix-file",
                 flags.prefix_file,
                 "Keys and values of the prompt up to its suffix: read from this file, written to "
                 "it where there is none");
  app.add_flag("--close-chunks", flags.close_chunks, "Lay gists into the answer, too, as it grows");
  app.add_flag("--ignore-eos", flags.ignore_eos, "Go on behind the end-of-sequence token");
}

GenerationSession::GenerationSession(const GenerationFlags& flags, bool records_chunks)
    : flags_(flags),
      opened_((check_sampling(flags.sampling), open_model(flags.model))),
      config_(resolve_config(flags.model, *opened_.base)),
      tokenizer_(load_tokenizer(*opened_.checkpoint, flags.model.model)),
      record_(records_chunks) {}

GenerationSession::GenerationSession(const GenerationFlags& flags,
                                     LoadedModel loaded,
                                     bool records_chunks)
    : flags_(flags),
      opened_{loaded.checkpoint, loaded.base, nullptr},
      config_(loaded.model->config()),
      tokenizer_(load_tokenizer(*loaded.checkpoint, flags.model.model)),
      loaded_(std::move(loaded)),
      record_(records_chunks) {
  plan();
}

void GenerationSession::load() {
  loaded_ = ssa::load(flags_.model, opened_);
  plan();
}

void GenerationSession::plan() {
  sparse_plan_ = plan_attention(flags_.attention, *loaded_.checkpoint, *loaded_.model, &tokenizer_);
  check(!flags_.close_chunks || !sparse_plan_.blocks,
        "--close-chunks is about gists, and the mode is sparse");
  return_freed_memory();
}

int64_t GenerationSession::context() const {
  return flags_.ctx_size > 0 ? flags_.ctx_size : config_.max_position_embeddings;
}

void GenerationSession::check_fits(int64_t n_prompt) const {
  const int64_t n_context = context();
  const char* whose = flags_.ctx_size > 0 ? "" : " (the model's positions)";
  check(n_prompt < n_context,
        "the prompt has ",
        n_prompt,
        " tokens and the context is ",
        n_context,
        whose,
        "; raise --ctx-size or shorten it");
  const int64_t room = n_context - n_prompt;
  check(flags_.predict <= room,
        "the prompt has ",
        n_prompt,
        " tokens: --predict ",
        flags_.predict,
        " would pass the context of ",
        n_context,
        "; lower it to ",
        room,
        " or raise --ctx-size");
}

int64_t GenerationSession::tokens_to_predict(int64_t n_prompt) const {
  check_fits(n_prompt);
  if (context() > config_.max_position_embeddings) {
    log_warning("--ctx-size ",
                context(),
                " is beyond the ",
                config_.max_position_embeddings,
                " positions the model was trained on; answers may be poor");
  }
  return flags_.predict >= 0 ? flags_.predict : context() - n_prompt;
}

int64_t GenerationSession::begin_sequence(const PromptParts& parts, int64_t n_new) {
  constexpr int64_t kReserve = 1024;  // the cache grows beyond it by itself
  CausalLM& model = *loaded_.model;
  const auto n_prompt = static_cast<int64_t>(prompt_.ids.size());
  // A context that nobody asked for is the model's, and few answers fill it.
  const bool asked = flags_.predict >= 0 || flags_.ctx_size > 0;
  check_cache_memory(plan_, model, n_prompt + (asked ? n_new : std::min(n_new, kReserve)));
  if (sequence_ != nullptr && parts.pieces == pieces_) {
    const int64_t kept = shared_tokens(plan_, prompt_, parts);
    sequence_->rewind(kept);
    if (auto* gists = dynamic_cast<ChunkedAttention*>(&sequence_->attention())) {
      gists->replace_prompt(*prompt_.layout, kept);
    }
    return kept;
  }
  pieces_ = parts.pieces;
  auto attention =
      make_attention(plan_, model, prompt_, n_prompt, n_prompt + std::min(n_new, kReserve));
  set_observers(*attention, {&record_, &record_});
  sequence_ = std::make_unique<Sequence>(model, std::move(attention));
  return flags_.prefix_file.empty() ? 0 : load_prefix_file(parts);
}

PrefixState GenerationSession::prefix_state(const PromptParts& parts,
                                            const PagedKvCache& cache) const {
  PrefixState state;
  state.model = fingerprint(*loaded_.checkpoint);
  // Keys behind the first layer depend on both.
  if (!flags_.model.rope_scaling.empty()) {
    state.model += " " + flags_.model.rope_scaling;
  }
  if (plan_.blocks) {
    state.model += " " + describe_attention(plan_);
  }
  state.shape = cache.shape();
  const auto n = static_cast<size_t>(shared_tokens(plan_, prompt_, parts));
  state.ids.assign(prompt_.ids.begin(), prompt_.ids.begin() + static_cast<int64_t>(n));
  state.levels.assign(n, kRawLevel);
  if (cache.shape().n_levels > 0) {
    const auto levels = prompt_.layout->levels().first(n);
    state.levels.assign(levels.begin(), levels.end());
    state.chunk = prompt_.layout->chunk_sizes();
    state.rule = plan_.options.rule;
  }
  return state;
}

int64_t GenerationSession::load_prefix_file(const PromptParts& parts) {
  auto* paged = dynamic_cast<PagedSequence*>(&sequence_->attention());
  check(paged != nullptr,
        "--prefix-file ",
        flags_.prefix_file,
        ": only own kernels' cache is kept in files; it serves f32 and bf16 models on the CPU");
  prefix_is_saved_ = is_present(flags_.prefix_file);
  if (!prefix_is_saved_) {
    check_writable(flags_.prefix_file);
    return 0;
  }
  const PrefixState state = prefix_state(parts, paged->cache());
  load_prefix(flags_.prefix_file, state, paged->cache());
  sequence_->resume(static_cast<int64_t>(state.ids.size()));
  return sequence_->length();
}

void GenerationSession::save_prefix_file(const PromptParts& parts) {
  PagedKvCache& cache = dynamic_cast<PagedSequence&>(sequence_->attention()).cache();
  save_prefix(flags_.prefix_file, prefix_state(parts, cache), cache);
  prefix_is_saved_ = true;
  log_info("prefix: written to ", flags_.prefix_file);
}

void GenerationSession::answer(const PromptParts& parts) {
  plan_ = sparse_plan_;
  if (parts.n_tokens() < flags_.attention.dense_below) {
    plan_.make_full();
  }
  prompt_ = lay_prompt(plan_, parts);
  GenerateOptions options;
  options.max_new_tokens = tokens_to_predict(parts.n_tokens());
  options.prefill_piece = flags_.batch_size;
  options.sampling = flags_.sampling;
  for (const std::string& text : flags_.stop) {
    options.stop.push_back(unescape(text));
  }
  if (!flags_.ignore_eos) {
    options.stop_tokens = loaded_.model->config().eos_token_ids;
  }
  if (plan_.gists && plan_.options.has_gists) {
    options.forbidden = plan_.gists->settings().token_ids;
  }
  ProgressBar bar("reading");
  options.on_prefill = loaded_.model->device().is_cpu() ? thrifty(bar.callback(), flags_.batch_size)
                                                        : bar.callback();
  // The prompt's last query is the first that answers.
  record_.clear(static_cast<int64_t>(prompt_.ids.size()) - 1);
  options.n_cached = begin_sequence(parts, options.max_new_tokens);
  std::optional<ChunkCloser> closer;
  if (auto* chunked = dynamic_cast<ChunkedAttention*>(&sequence_->attention());
      chunked != nullptr && flags_.close_chunks) {
    closer.emplace(*sequence_, *chunked, plan_.gists->word_boundaries());
    options.before_token = [&](int64_t token, int64_t position) {
      closer->before(token, position);
    };
  }
  // Documents that are half read help nobody: until the first token Ctrl-C ends the program.
  NotedInterrupt interrupt;
  options.on_text = [&interrupt](std::string_view text) {
    interrupt.arm();
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  options.is_stopped = [&interrupt] { return interrupt.noted(); };
  const GenerateResult result =
      generate(tokenizer_, *sequence_, prompt_.ids, prompt_.positions, options);
  std::fputs("\n", stdout);
  std::fflush(stdout);
  if (!flags_.prefix_file.empty() && !prefix_is_saved_) {
    save_prefix_file(parts);
  }
  answer_ = result.ids;
  report(result, options.n_cached);
  if (result.finish == FinishReason::kInterrupted) {
    throw Interrupted();
  }
}

std::optional<ShownChunks> GenerationSession::shown_chunks() const {
  if (plan_.blocks) {
    std::vector<int64_t> ids = prompt_.ids;
    ids.insert(ids.end(), answer_.begin(), answer_.end());
    return blocks_of(std::move(ids), plan_.blocks->options.block_size);
  }
  return prompt_.layout ? std::optional(chunks_of(*prompt_.layout)) : std::nullopt;
}

void GenerationSession::report(const GenerateResult& result, int64_t n_cached) const {
  const auto n_generated = static_cast<int64_t>(result.ids.size());
  const std::string kept = n_cached > 0 ? concat(" (", n_cached, " more were read before)") : "";
  log_info("prompt: ", speed(result.prompt_tokens, result.prefill_seconds), kept);
  log_info("decode: ",
           speed(result.decode_passes, result.decode_seconds),
           ", attention ",
           describe_attention(plan_),
           ", ",
           describe_arithmetic(flags_.model, *loaded_.model),
           ", ",
           describe_cache(plan_, *loaded_.model),
           ", ",
           torch::get_num_threads(),
           " threads");
  if (record_.n_selections() > 0) {
    log_info("attended: ",
             record_.mean_attended(),
             " of ",
             static_cast<int64_t>(prompt_.ids.size()) + n_generated,
             " tokens a step and key/value head on average, where ",
             plan_.blocks ? "blocks" : "chunks",
             " are chosen");
  }
  log_info("peak memory: ", format_bytes(peak_resident_bytes()));
}

}  // namespace ssa
