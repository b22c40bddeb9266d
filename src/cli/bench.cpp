// ssa bench: prompt and generation speed at given depths, in llama-bench's form, and one layer's
// attention alone.
#include <torch/utils.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "cli/attention_plan.h"
#include "cli/bench_table.h"
#include "cli/command.h"
#include "cli/model_flags.h"
#include "cli/progress_bar.h"
#include "engine/attention_bench.h"
#include "engine/paged_sequence.h"
#include "engine/sequence.h"
#include "models/factory.h"

namespace ssa {
namespace {

struct BenchFlags {
  ModelFlags model;
  AttentionFlags attention;
  std::vector<int64_t> n_prompt = {512}, n_predict = {128}, depths = {0};
  int repetitions = 5;
  int64_t batch_size = 512;
  std::string output = "md", fill = "read";
  bool attention_only = false;
  std::string heads = "28/4/128";
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Mean and standard deviation.
std::pair<double, double> spread_of(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) {
    squares += (value - mean) * (value - mean);
  }
  return {mean, n > 1 ? std::sqrt(squares / (n - 1)) : 0.0};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

std::vector<int64_t> random_tokens(int64_t n, int64_t vocab_size, uint64_t salt) {
  std::vector<int64_t> ids;
  uint64_t x = salt + 1;
  for (int64_t i = 0; i < n; ++i) {
    x = x * 6364136223846793005ULL + 1442695040888963407ULL;
    ids.push_back(static_cast<int64_t>((x >> 33) % static_cast<uint64_t>(vocab_size)));
  }
  return ids;
}

/// One model, one way of attending.
class ModelBench {
 public:
  explicit ModelBench(const BenchFlags& flags)
      : flags_(flags),
        loaded_(load(flags.model)),
        plan_(plan_attention(without_words(flags), *loaded_.checkpoint, *loaded_.model, nullptr)) {}

  void run(BenchTable& table) {
    const torch::InferenceMode inference;
    for (const int64_t depth : flags_.depths) {
      for (const int64_t n : flags_.n_prompt) {
        if (n > 0) {
          measure(table, "pp", n, depth);
        }
      }
      for (const int64_t n : flags_.n_predict) {
        if (n > 0) {
          measure(table, "tg", n, depth);
        }
      }
    }
  }

 private:
  /// Random tokens have no words.
  static AttentionFlags without_words(const BenchFlags& flags) {
    AttentionFlags attention = flags.attention;
    attention.has_words = false;
    return attention;
  }

  CausalLM& model() { return *loaded_.model; }

  /// The prompt that a test starts from: `depth` tokens of prefix.
  LaidPrompt prompt_of(int64_t n_tokens) {
    return lay_prompt(plan_, {{random_tokens(n_tokens, model().config().vocab_size, 1)}, {}});
  }

  /// Reads the first n of the prompt's tokens, or fills the cache with random numbers instead.
  void fill(Sequence& sequence, const LaidPrompt& prompt, int64_t n) {
    const auto size = static_cast<size_t>(n);
    if (flags_.fill == "read") {
      ProgressBar bar("reading");
      sequence.advance(std::span(prompt.ids).first(size),
                       std::span(prompt.positions).first(size),
                       flags_.batch_size,
                       {},
                       bar.callback());
      return;
    }
    auto* paged = dynamic_cast<PagedSequence*>(&sequence.attention());
    check(
        paged != nullptr,
        "--fill random needs own kernels' cache: f32 or bf16 on the CPU, not --kernels reference");
    paged->fill_random(n);
    sequence.resume(n);
  }

  void measure(BenchTable& table, const std::string& kind, int64_t n, int64_t depth) {
    const bool reads = kind == "pp";
    const LaidPrompt prompt = prompt_of(depth + (reads ? n : 0));
    const auto n_all = static_cast<int64_t>(prompt.ids.size());
    // The tokens in front of the timed ones: in the laid prompt those that its first `depth` raw
    // tokens make.
    const int64_t n_before =
        reads ? (prompt.layout && plan_.options.has_gists ? laid_length(*prompt.layout, depth)
                                                          : depth)
              : n_all;
    check_cache_memory(plan_, model(), n_all + n);
    Sequence sequence(model(), make_attention(plan_, model(), prompt, n_all, n_all + n));
    fill(sequence, prompt, n_before);
    const std::vector<int64_t> generated = random_tokens(n, model().config().vocab_size, 2);
    const std::vector<int64_t> positions =
        consecutive_positions(prompt.positions.empty() ? 0 : prompt.positions.back() + 1, n);
    std::vector<double> speeds;
    for (int i = -1; i < flags_.repetitions; ++i) {  // the first warms up
      const auto start = std::chrono::steady_clock::now();
      if (reads) {
        const auto rest = static_cast<size_t>(n_before);
        sequence.last_logits(std::span(prompt.ids).subspan(rest),
                             std::span(prompt.positions).subspan(rest),
                             flags_.batch_size);
      } else {
        for (size_t t = 0; t < generated.size(); ++t) {
          sequence.last_logits({&generated[t], 1}, {&positions[t], 1}, 1);
        }
      }
      if (i >= 0) {
        speeds.push_back(static_cast<double>(n) / seconds_since(start));
      }
      rewind(sequence, prompt, n_before);
    }
    add_row(table, kind, n, depth, speeds, sequence);
  }

  static void rewind(Sequence& sequence, const LaidPrompt& prompt, int64_t length) {
    sequence.rewind(length);
    if (auto* chunked = dynamic_cast<ChunkedAttention*>(&sequence.attention())) {
      chunked->replace_prompt(*prompt.layout, length);
    }
  }

  static int64_t laid_length(const GistLayout& layout, int64_t n_raw) {
    int64_t t = 0;
    while (t < layout.n_tokens() &&
           (layout.raw_before(t) < n_raw || layout.levels()[static_cast<size_t>(t)] != kRawLevel)) {
      ++t;
    }
    return t;
  }

  void add_row(BenchTable& table,
               const std::string& kind,
               int64_t n,
               int64_t depth,
               const std::vector<double>& speeds,
               Sequence& sequence) {
    const auto [mean, deviation] = spread_of(speeds);
    const std::string test = kind + std::to_string(n) +
                             (depth > 0 ? " @ d" + std::to_string(depth) : "") +
                             (depth > 0 && flags_.fill == "random" ? " (random fill)" : "");
    Json row = {
        {"model", loaded_.checkpoint->format() + " " + flags_.model.model},
        {"params", parameter_count(model().config())},
        {"attention", describe_attention(plan_)},
        {"kernels", describe_cache(plan_, model())},
        {"weights", flags_.model.weights == "int8" ? "int8" : torch::toString(model().dtype())},
        {"threads", torch::get_num_threads()},
        {"test", test},
        {"t/s", mean},
        {"stddev", deviation},
        {"median", median(speeds)},
        {"peak_rss", peak_resident_bytes()}};
    if (const auto* paged = dynamic_cast<PagedSequence*>(&sequence.attention())) {
      const KvBytes bytes = paged->bytes();
      row["kv_raw"] = bytes.raw;
      row["kv_gist"] = bytes.gist;
      row["kv_extra"] = bytes.extra;
      row["kv_other"] = bytes.other;
    }
    table.add(row);
  }

  const BenchFlags& flags_;
  LoadedModel loaded_;
  AttentionPlan plan_;
};

AttentionBenchOptions attention_options(const BenchFlags& flags) {
  AttentionBenchOptions options;
  long long heads = 0, kv_heads = 0, head_dim = 0;
  const int read = std::sscanf(flags.heads.c_str(), "%lld/%lld/%lld", &heads, &kv_heads, &head_dim);
  if (read != 3 || heads <= 0 || kv_heads <= 0 || heads % kv_heads != 0 || head_dim <= 0 ||
      head_dim % 8 != 0 || head_dim > 512 || heads / kv_heads > 64) {
    throw UsageError("--heads " + flags.heads +
                     ": expected query heads/key-value heads/head size, such as 28/4/128");
  }
  options.n_heads = heads;
  options.n_kv_heads = kv_heads;
  options.head_dim = head_dim;
  options.type = parse_kv_type(flags.attention.kv_dtype).value_or(KvType::kBF16);
  options.chunk =
      flags.attention.chunk.empty() ? ChunkSizes{8} : parse_chunk_sizes(flags.attention.chunk);
  options.selection = selection_options(flags.attention);
  options.blocks = plan_blocks(flags.attention.blocks, {}).options;
  options.repetitions = std::max(flags.repetitions, 20);
  return options;
}

void run_attention_only(const BenchFlags& flags, BenchTable& table) {
  if (flags.model.threads > 0) {
    torch::set_num_threads(flags.model.threads);
  }
  AttentionBenchOptions options = attention_options(flags);
  const bool is_sparse = flags.attention.mode == "sparse";
  const double bandwidth = measure_read_bandwidth();
  const std::string chunk =
      is_sparse ? concat(options.blocks.n_blocks, " blocks of ", options.blocks.block_size)
                : format_chunk_sizes(options.chunk);
  const auto add =
      [&](const std::string& test, const AttentionTiming& timing, double dense_seconds) {
        table.add({{"heads", flags.heads},
                   {"kv", kv_type_name(options.type)},
                   {"kernels", instruction_set_name(instruction_set())},
                   {"threads", torch::get_num_threads()},
                   {"test", test},
                   {"chunk", chunk},
                   {"us", timing.seconds * 1e6},
                   {"spread", timing.spread},
                   {"x dense", dense_seconds / timing.seconds},
                   {"keys_scored", timing.keys_scored},
                   {"keys_read", timing.keys_read},
                   {"bytes", timing.bytes_read},
                   {"layers", timing.n_layers},
                   {"GB/s", static_cast<double>(timing.bytes_read) / timing.seconds / 1e9},
                   {"of bandwidth",
                    static_cast<double>(timing.bytes_read) / timing.seconds / bandwidth}});
      };
  log_info("read bandwidth: ", bandwidth / 1e9, " GB/s");
  for (const int64_t depth : flags.depths) {
    options.n_raw = std::max<int64_t>(depth, 1);
    const std::string at = " @ d" + std::to_string(options.n_raw);
    if (!flags.n_predict.empty() && flags.n_predict.front() > 0) {
      const AttentionTiming dense = time_dense_decode(options);
      add("dense decode" + at, dense, dense.seconds);
      if (is_sparse) {
        add("sparse decode" + at, time_sparse_decode(options), dense.seconds);
      } else {
        add("ssa decode" + at, time_ssa_decode(options), dense.seconds);
      }
    }
    if (!flags.n_prompt.empty() && flags.n_prompt.front() > 0) {
      const AttentionTiming dense = time_dense_prefill(options);
      add("dense prefill (LibTorch)" + at, dense, dense.seconds);
      if (is_sparse) {
        add("sparse prefill" + at, time_sparse_prefill(options), dense.seconds);
      } else {
        add("gist prefill" + at, time_gist_prefill(options), dense.seconds);
      }
    }
  }
}

void run_bench(const BenchFlags& flags) {
  BenchTable table(flags.output);
  if (flags.attention_only) {
    run_attention_only(flags, table);
  } else {
    check(!flags.model.model.empty(), "no model is named; only --attention-only does without");
    ModelBench(flags).run(table);
  }
  table.finish();
}

}  // namespace

void add_bench_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("bench", "Speed of reading and generating at given depths");
  const auto flags = std::make_shared<BenchFlags>();
  add_model_option(*app, flags->model.model)->required(false);
  add_run_flags(*app, flags->model);
  add_attention_flags(*app, flags->attention);
  app->add_option("-p,--n-prompt", flags->n_prompt, "Tokens to read, a comma list (0: do not)")
      ->delimiter(',');
  app->add_option("-n,--n-gen", flags->n_predict, "Tokens to generate, a comma list (0: do not)")
      ->delimiter(',');
  app->add_option("-d,--n-depth", flags->depths, "Tokens in the cache beforehand, a comma list")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
  app->add_option("-r,--repetitions", flags->repetitions, "Times each test is run")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app->add_option("-b,--batch-size", flags->batch_size, "Prompt tokens a forward pass")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("-o,--output", flags->output, "Form of the table")
      ->check(CLI::IsMember({"md", "csv", "json"}))
      ->capture_default_str();
  app->add_option("--fill",
                  flags->fill,
                  "How the cache is filled to its depth: read tokens, or random numbers")
      ->check(CLI::IsMember({"read", "random"}))
      ->capture_default_str();
  app->add_flag(
      "--attention-only", flags->attention_only, "Time one layer's attention, without a model");
  app->add_option(
         "--heads", flags->heads, "Of --attention-only: query heads/key-value heads/head size")
      ->capture_default_str();
  app->callback([flags] { run_bench(*flags); });
}

}  // namespace ssa
