// ssa generate: continue a prompt, or answer a message.
#include <cstdio>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/model_flags.h"
#include "cli/progress_bar.h"
#include "cli/prompt_flags.h"
#include "engine/generator.h"

namespace ssa {
namespace {

struct GenerateFlags {
  ModelFlags model;
  PromptFlags prompt;
  SamplingOptions sampling;
  int64_t predict = -1;
  int64_t ctx_size = 0;
  int64_t batch_size = 512;
  std::vector<std::string> stop;
  bool ignore_eos = false;
};

void add_sampling_flags(CLI::App& app, SamplingOptions& sampling) {
  app.add_option("--temp", sampling.temperature, "Temperature; 0 takes the most likely token")
      ->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "Sample from the k most likely tokens (0: all)")
      ->capture_default_str();
  app.add_option("--top-p", sampling.top_p, "Sample from the most likely tokens that reach this mass")
      ->capture_default_str();
  app.add_option("--min-p", sampling.min_p, "Drop tokens below this share of the likeliest one")
      ->capture_default_str();
  app.add_option("--repeat-penalty", sampling.repetition_penalty, "Penalty on tokens seen before")
      ->capture_default_str();
  app.add_option("-s,--seed", sampling.seed, "Seed of the sampler")->capture_default_str();
}

std::vector<int64_t> encode_prompt(const LoadedModel& loaded,
                                   const Tokenizer& tokenizer,
                                   const PromptFlags& flags) {
  const std::string text = read_prompt(flags);
  if (!flags.chat) {
    return tokenizer.encode(text, {.add_special = true, .parse_special = flags.parse_special});
  }
  Json messages = Json::array();
  if (!flags.system.empty()) {
    messages.push_back({{"role", "system"}, {"content", replace_invalid_utf8(flags.system)}});
  }
  messages.push_back({{"role", "user"}, {"content", text}});
  std::vector<TextSpan> spans = render_chat(*loaded.checkpoint, messages);
  for (TextSpan& span : spans) {
    span.is_input = span.is_input && !flags.parse_special;
  }
  return tokenizer.encode(spans, {.add_special = false, .parse_special = true});
}

/// How many tokens may follow the prompt. Nothing is cut in silence: what does not fit is an error.
int64_t tokens_to_predict(const GenerateFlags& flags, const ModelConfig& config, int64_t n_prompt) {
  const int64_t positions = config.max_position_embeddings;
  const int64_t context = flags.ctx_size > 0 ? flags.ctx_size : positions;
  if (context > positions) {
    log_warning("--ctx-size ", context, " is beyond the ", positions,
                " positions the model was trained on; answers may be poor");
  }
  check(n_prompt < context, "the prompt has ", n_prompt, " tokens and the context is ", context,
        flags.ctx_size > 0 ? "" : " (the model's positions)", "; raise --ctx-size or shorten it");
  const int64_t room = context - n_prompt;
  check(flags.predict <= room, "the prompt has ", n_prompt, " tokens: --predict ", flags.predict,
        " would pass the context of ", context, "; lower it to ", room, " or raise --ctx-size");
  return flags.predict >= 0 ? flags.predict : room;
}

void report(const GenerateResult& result, torch::ScalarType dtype) {
  const auto speed = [](double tokens, double seconds) {
    char text[64];
    std::snprintf(text, sizeof text, "%.2f s, %.1f tokens/s", seconds, seconds > 0 ? tokens / seconds : 0.0);
    return std::string(text);
  };
  const auto n_decoded = std::max<int64_t>(0, static_cast<int64_t>(result.ids.size()));
  log_info("prompt: ", result.prompt_tokens, " tokens, ",
           speed(static_cast<double>(result.prompt_tokens), result.prefill_seconds));
  log_info("decode: ", n_decoded, " tokens, ",
           speed(static_cast<double>(n_decoded), result.decode_seconds), ", ",
           torch::toString(dtype), ", ", torch::get_num_threads(), " threads");
  log_info("peak memory: ", format_bytes(peak_resident_bytes()));
}

void run_generate(const GenerateFlags& flags) {
  validate(flags.sampling);
  const LoadedModel loaded = load(flags.model);
  const Tokenizer tokenizer = load_tokenizer(*loaded.checkpoint, flags.model.model);
  CausalLM& model = *loaded.model;
  const std::vector<int64_t> prompt = encode_prompt(loaded, tokenizer, flags.prompt);
  const auto n_prompt = static_cast<int64_t>(prompt.size());

  GenerateOptions options;
  options.max_new_tokens = tokens_to_predict(flags, model.config(), n_prompt);
  options.prefill_piece = flags.batch_size;
  options.sampling = flags.sampling;
  options.stop = flags.stop;
  if (!flags.ignore_eos) {
    options.stop_tokens = model.config().eos_token_ids;
  }
  options.on_text = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  ProgressBar bar("reading");
  options.on_prefill = bar.callback();

  check_cache_memory(model, n_prompt + options.max_new_tokens);
  KvCache cache(model.config(), model.dtype(), model.device(), n_prompt + std::min<int64_t>(options.max_new_tokens, 1024));
  Sequence sequence(model, std::make_unique<FullAttention>(std::move(cache)));
  const GenerateResult result =
      generate(tokenizer, sequence, prompt, consecutive_positions(0, n_prompt), options);
  std::fputs("\n", stdout);
  report(result, model.dtype());
}

}  // namespace

void add_generate_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("generate", "Continue a prompt, or answer a message (--chat)");
  const auto flags = std::make_shared<GenerateFlags>();
  add_model_flags(*app, flags->model);
  add_prompt_flags(*app, flags->prompt);
  add_sampling_flags(*app, flags->sampling);
  app->add_option("-n,--predict", flags->predict, "Tokens to generate (-1: until the context is full)")
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 40))
      ->capture_default_str();
  app->add_option("-c,--ctx-size", flags->ctx_size, "Context in tokens (0: the model's positions)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("-b,--batch-size", flags->batch_size, "Prompt tokens a forward pass")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--stop", flags->stop, "String that ends the answer; may be repeated");
  app->add_flag("--ignore-eos", flags->ignore_eos, "Go on behind the end-of-sequence token");
  app->callback([flags] { run_generate(*flags); });
}

}  // namespace ssa
