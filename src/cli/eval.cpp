// ssa eval: tasks measured by many methods at equal budget; ssa eval make: items.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "base/error.h"
#include "base/escapes.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/attention_plan.h"
#include "cli/chat_frame.h"
#include "cli/command.h"
#include "cli/eval_sparsity.h"
#include "cli/model_flags.h"
#include "cli/output_files.h"
#include "cli/progress_bar.h"
#include "cli/prompt_flags.h"
#include "evaluation/eval_results.h"
#include "evaluation/needle_items.h"

namespace ssa {
namespace {

struct EvalFlags {
  ModelFlags model;
  AttentionFlags attention;
  std::string task, data, out, summary, budget_from;
  std::vector<std::string> methods = {"full"};
  std::vector<std::string> against;
  std::optional<std::string> header, document, question, answer;
  std::string system;
  bool chat = false, many_lines = false, likelihood_only = false;
  int64_t limit = 0, batch_size = 8192;
  std::optional<int64_t> predict, together;
  int64_t prefix_tokens = 0, suffix_tokens = 512;
};

struct MakeFlags {
  std::string task, model, text, out, names = "eval", kind = "multi-key";
  NeedleOptions options;
  std::optional<int64_t> n_facts;
};

PromptFormat prompt_format(const EvalFlags& flags, EvalTask task, const Checkpoint& checkpoint) {
  PromptFormat format = default_format(task);
  if (flags.chat) {
    format.qa = chat_qa_format(checkpoint, flags.system);
  }
  const std::pair<const std::optional<std::string>&, std::string&> given[] = {
      {flags.header, format.qa.header},
      {flags.document, format.qa.document},
      {flags.question, format.qa.question},
      {flags.answer, format.qa.answer}};
  for (const auto& [text, target] : given) {
    target = text ? unescape(*text) : target;
  }
  format.prefix_tokens = flags.prefix_tokens;
  format.suffix_tokens = flags.suffix_tokens;
  return format;
}

/// Kept context gain needs the suffix alone and under full attention.
std::vector<std::string> wanted_methods(const EvalFlags& flags, EvalTask task) {
  std::vector<std::string> methods = flags.methods;
  for (const char* name : {"alone", "full"}) {
    if (task == EvalTask::kPpl &&
        std::find(methods.begin(), methods.end(), name) == methods.end()) {
      methods.insert(methods.begin(), name);
    }
  }
  return methods;
}

/// An --against: FILE.jsonl, FILE.jsonl:METHOD, or :METHOD for this run's own lines, as --out is.
struct Against {
  std::string text;
  bool is_own = false;
  Comparison other;  // without lines where they are the run's own
};

/// Throws Error unless `against` has lines of its method, or will have them.
void check_method(const Against& against, const std::vector<std::string>& own_methods) {
  const std::string& method = against.other.method;
  const auto& lines = against.other.lines;
  const bool found = against.is_own
                         ? std::count(own_methods.begin(), own_methods.end(), method) > 0
                         : std::any_of(lines.begin(), lines.end(), [&](const Json& line) {
                             return line["method"] == method;
                           });
  check(method.empty() || found, "--against ", against.text, ": no results of method ", method);
}

std::vector<Against> read_against(const EvalFlags& flags, EvalTask task) {
  const std::vector<std::string> methods = wanted_methods(flags, task);
  std::vector<Against> all;
  for (const std::string& text : flags.against) {
    const size_t end = text.find(".jsonl");
    const size_t colon = text.find(':', end == std::string::npos ? 0 : end);
    const std::string file = text.substr(0, colon);
    Against& against = all.emplace_back();
    against.text = text;
    against.is_own = file.empty() || file == flags.out;
    against.other.method = colon == std::string::npos ? "" : text.substr(colon + 1);
    if (!against.is_own) {
      against.other.lines = read_result_lines(file);
    }
    check_method(against, methods);
  }
  return all;
}

/// What a run takes and writes besides model and items. All is looked at before weights are loaded.
struct SideFiles {
  SideFiles(const EvalFlags& flags, EvalTask task) : against(read_against(flags, task)) {
    if (!flags.budget_from.empty()) {
      budgets = budgets_of(read_result_lines(flags.budget_from));
    }
    check_writable(flags.out);
    check_writable(flags.summary);
  }

  std::vector<Against> against;
  std::map<std::string, KnownBudgets> budgets;  // by item
};

/// Prefix tokens whose keys and values take 2 GiB: items of a pass share its launches.
int64_t tokens_at_once(const CausalLM& model) {
  const ModelConfig& config = model.config();
  const int64_t a_token = 2 * config.n_layers * config.n_kv_heads * config.head_dim *
                          static_cast<int64_t>(torch::elementSize(model.dtype()));
  return (int64_t{2} << 30) / a_token;
}

EvalOptions eval_options(const EvalFlags& flags, EvalTask task, const CausalLM& model) {
  const bool cuda = model.device().is_cuda();
  EvalOptions options;
  options.piece = flags.batch_size;
  options.predict = flags.predict.value_or(task == EvalTask::kQa ? 32 : 0);
  options.stop_at_newline = !flags.many_lines;
  options.answers = !flags.likelihood_only;
  options.together = flags.together.value_or(cuda ? tokens_at_once(model) : 0);
  if (cuda) {  // masks and scores are held for all query heads
    options.most_rows = std::max(options.most_rows, (int64_t{1} << 17) / model.config().n_heads);
  }
  return options;
}

std::vector<EvalItem> read_items(const EvalFlags& flags, EvalTask task) {
  std::vector<EvalItem> items = read_eval_items(task, flags.data);
  if (flags.limit > 0 && static_cast<int64_t>(items.size()) > flags.limit) {
    items.resize(static_cast<size_t>(flags.limit));
  }
  return items;
}

std::vector<EvalPrompt> make_prompts(const std::vector<EvalItem>& items,
                                     const PromptFormat& format,
                                     const Tokenizer& tokenizer) {
  std::vector<EvalPrompt> prompts;
  for (const EvalItem& item : items) {
    prompts.push_back(make_eval_prompt(item, tokenizer, format));
  }
  return prompts;
}

/// One line a method and item, in the items' order.
std::vector<Json> evaluate(const Evaluator& evaluator,
                           EvalTask task,
                           const std::vector<EvalPrompt>& prompts,
                           const std::map<std::string, KnownBudgets>& by_item,
                           const EvalFlags& flags) {
  std::vector<KnownBudgets> known;
  for (const EvalPrompt& prompt : prompts) {
    const auto found = by_item.find(prompt.id);
    known.push_back(found == by_item.end() ? KnownBudgets() : found->second);
  }
  AtomicFile out{std::filesystem::path(flags.out)};
  ProgressBar bar("evaluating", "items");
  const Outcomes outcomes = evaluator.run(prompts, known, [&](int64_t done) {
    bar.update(done, static_cast<int64_t>(prompts.size()));
  });
  std::vector<Json> lines;
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (size_t m = 0; m < outcomes[i].size(); ++m) {
      lines.push_back(result_line(task, evaluator.methods()[m], prompts[i], outcomes[i][m]));
      out.write(dump_json(lines.back()) + "\n");
    }
  }
  out.commit();
  return lines;
}

void print_results(const EvalFlags& flags,
                   std::vector<Against>& against,
                   const std::vector<Json>& lines) {
  Json summary = {{"task", flags.task}, {"model", flags.model.model}, {"data", flags.data}};
  summary["methods"] = summarize(lines);
  std::printf("%s", results_table(summary["methods"]).c_str());
  for (auto& [text, is_own, other] : against) {
    if (is_own) {
      other.lines = lines;
    }
    Json rows = compare(lines, other);
    std::printf("\nDifferences from %s\n\n%s", text.c_str(), results_table(rows).c_str());
    summary["against"][text] = std::move(rows);
  }
  if (!flags.summary.empty()) {
    write_file(flags.summary, dump_json(summary, 2) + "\n");
  }
}

/// How block-sparse methods attend, their blocks apart; absent where there are none.
std::optional<AttentionPlan> sparse_plan(const EvalFlags& flags,
                                         const LoadedModel& loaded,
                                         const Tokenizer& tokenizer) {
  const BlockFlags& blocks = flags.attention.blocks;
  const bool is_used =
      std::any_of(flags.methods.begin(), flags.methods.end(), [](const std::string& method) {
        return method.starts_with("sparse");
      });
  const char* given = blocks.variant ? "--variant" : blocks.first_given();
  check(
      is_used || given == nullptr, given, " is about method sparse, which is not among --methods");
  if (!is_used) {
    return std::nullopt;
  }
  AttentionFlags attention;
  attention.mode = "sparse";
  attention.blocks = blocks;
  return plan_attention(attention, *loaded.checkpoint, *loaded.model, &tokenizer);
}

std::unique_ptr<SequenceAttention> make_sparse(AttentionPlan plan,
                                               const CausalLM& model,
                                               const BlockOptions& options,
                                               int64_t capacity,
                                               BlockObserver* observer) {
  plan.blocks->options = options;
  auto attention = make_attention(plan, model, {}, 0, capacity);
  set_observers(*attention, {.blocks = observer});
  return attention;
}

SparseSparseOptions sparse_options(const std::optional<AttentionPlan>& plan) {
  SparseSparseOptions options{.variant = SparseVariant::kMoba};
  if (plan && plan->blocks->variant == BlockVariant::kNsa) {
    options.variant = SparseVariant::kNsa;
    options.window = plan->blocks->window;
  }
  return options;
}

void run_eval(const EvalFlags& flags) {
  const EvalTask task = parse_eval_task(flags.task);
  const std::vector<EvalItem> items = read_items(flags, task);
  SideFiles side(flags, task);
  const LoadedModel loaded = load(flags.model);
  const Checkpoint& checkpoint = *loaded.checkpoint;
  const Tokenizer tokenizer = load_tokenizer(checkpoint, flags.model.model);
  const GistPlan plan(flags.attention, gist_model(checkpoint), &tokenizer);
  const auto& ids = plan.settings().token_ids;
  const bool has_gists = !plan.marks_only() && std::all_of(ids.begin(), ids.end(), [&](int64_t id) {
    return id < checkpoint.config().vocab_size;
  });
  const std::optional<AttentionPlan> sparse = sparse_plan(flags, loaded, tokenizer);
  const auto methods = parse_methods(
      wanted_methods(flags, task),
      {plan.settings().chunk, has_gists, sparse ? sparse->blocks->options : BlockOptions()});
  const auto prompts = make_prompts(items, prompt_format(flags, task, checkpoint), tokenizer);
  Evaluator evaluator({*loaded.model,
                       tokenizer,
                       plan.settings(),
                       plan.word_boundaries(),
                       has_gists,
                       [&](const BlockOptions& options, int64_t capacity, BlockObserver* observer) {
                         return make_sparse(*sparse, *loaded.model, options, capacity, observer);
                       },
                       sparse_options(sparse)},
                      methods,
                      eval_options(flags, task, *loaded.model));
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Json> lines = evaluate(evaluator, task, prompts, side.budgets, flags);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  print_results(flags, side.against, lines);
  log_info(prompts.size(),
           " items, ",
           methods.size(),
           " methods, ",
           seconds.count(),
           " s, ",
           describe_arithmetic(flags.model, *loaded.model),
           ", ",
           loaded.model->device().str());
}

void run_make(const MakeFlags& flags) {
  const Tokenizer tokenizer = open_tokenizer(flags.model);
  NeedleOptions options = flags.options;
  const bool pairs = flags.task == "kv";
  options.kind = pairs ? NeedleKind::kKeyValue : parse_needle_kind(flags.kind);
  options.n_facts = flags.n_facts.value_or(pairs ? 32 : 4);
  options.training = flags.names == "train";
  const NeedleMaker maker(read_text(flags.text), options, [&](const std::string& text) {
    const EncodeOptions plain{.add_special = false, .parse_special = false};
    return static_cast<int64_t>(tokenizer.encode(text, plain).size());
  });
  AtomicFile out{std::filesystem::path(flags.out)};
  for (int64_t i = 0; i < options.n_items; ++i) {
    out.write(dump_json(maker.item(i)) + "\n");
  }
  out.commit();
  log_info(options.n_items, " items: ", flags.out);
}

void add_make_command(CLI::App& eval) {
  CLI::App* app = eval.add_subcommand("make", "Needle and key-value items in filler text");
  const auto flags = std::make_shared<MakeFlags>();
  NeedleOptions& options = flags->options;
  app->add_option("task", flags->task, "niah or kv")
      ->required()
      ->check(CLI::IsMember({"niah", "kv"}));
  app->add_option("model", flags->model, "Whose tokenizer counts")->required()->type_name("MODEL");
  app->add_option("--text", flags->text, "File of filler text")->required();
  app->add_option("--out", flags->out, "Items, .jsonl")->required();
  app->add_option("-n,--items", options.n_items, "How many")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  app->add_option("--length", options.length, "Most tokens of a document")
      ->check(CLI::Range(int64_t{16}, int64_t{1} << 30))
      ->capture_default_str();
  app->add_option("--depth", options.depth, "Where the fact asked for stands (default: anywhere)")
      ->check(CLI::Range(0.0, 1.0));
  app->add_option("--kind", flags->kind, "Of niah: single, multi-key or multi-value")
      ->check(CLI::IsMember({"single", "multi-key", "multi-value"}))
      ->capture_default_str();
  app->add_option("--facts",
                  flags->n_facts,
                  "Facts of multi-key and multi-value (default 4), lines of kv (default 32)")
      ->check(CLI::Range(1, 1000));
  app->add_option("--names", flags->names, "train: names and sentences that eval has none of")
      ->check(CLI::IsMember({"train", "eval"}))
      ->capture_default_str();
  app->add_option("-s,--seed", options.seed, "Seed")->capture_default_str();
  app->callback([flags] { run_make(*flags); });
}

void add_format_flags(CLI::App& app, EvalFlags& flags) {
  auto* chat = app.add_flag("--chat", flags.chat, "Put the chat template around the prompt");
  app.add_option("--system", flags.system, "System message")->needs(chat);
  const auto add_format =
      [&](const char* name, std::optional<std::string>& value, const char* description) {
        app.add_option(name, value, concat(description, " ", kEscapesHelp));
      };
  add_format("--header", flags.header, "A piece in front of the documents");
  add_format("--document-format", flags.document, "Text around each document: {}");
  add_format("--question-format", flags.question, "Text around the question: {}");
  add_format("--answer-format", flags.answer, "Text around the answer: {}");
}

}  // namespace

void add_eval_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "eval", "Measure methods on a task at equal budget; 'eval make' writes items");
  const auto flags = std::make_shared<EvalFlags>();
  flags->model.dtype = "auto";
  app->add_option("task", flags->task, "ppl, niah, kv or qa");
  add_model_option(*app, flags->model.model)->required(false);
  add_run_flags(*app, flags->model);
  app->add_option("--data", flags->data, "Items, .jsonl");
  app->add_option("--out", flags->out, "Results, .jsonl: a line an item and method");
  app->add_option("--methods", flags->methods, method_help())
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--against",
                  flags->against,
                  "FILE.jsonl[:METHOD], or :METHOD of this run: differences; may be repeated");
  app->add_option("--summary", flags->summary, "JSON file with the table's numbers");
  app->add_option("--budget-from",
                  flags->budget_from,
                  "Results whose unfolding by gists sets the budgets, item by item");
  app->add_option("--limit", flags->limit, "First so many items (0: all)")
      ->check(CLI::NonNegativeNumber);
  app->add_option("-n,--predict",
                  flags->predict,
                  "Most tokens of a greedy answer (default: qa 32, else 0: the gold answer's)")
      ->check(CLI::NonNegativeNumber);
  app->add_flag("--many-lines", flags->many_lines, "A line end does not end an answer");
  app->add_option("--prefix-tokens", flags->prefix_tokens, "Of ppl: read (0: all there are)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--suffix-tokens", flags->suffix_tokens, "Of ppl: scored")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 30))
      ->capture_default_str();
  app->add_flag("--likelihood-only",
                flags->likelihood_only,
                "No greedy answers: exact, f1 and contains are left out");
  app->add_option(
         "--together",
         flags->together,
         "Prefix tokens of several items in one pass (default: on CUDA as many as 2 GiB of keys "
         "and values hold, else 0: items one by one)")
      ->check(CLI::NonNegativeNumber);
  add_format_flags(*app, *flags);
  add_layout_flags(*app, flags->attention);
  add_block_flags(*app, flags->attention.blocks);
  app->add_option("-b,--batch-size", flags->batch_size, "Prefix tokens a forward pass")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_make_command(*app);
  add_sparsity_command(*app);
  app->callback([app, flags] {
    if (!app->get_subcommands().empty()) {
      return;  // make, sparsity
    }
    const std::pair<const char*, const std::string*> needed[] = {{"a task", &flags->task},
                                                                 {"a model", &flags->model.model},
                                                                 {"--data", &flags->data},
                                                                 {"--out", &flags->out}};
    for (const auto& [what, value] : needed) {
      if (value->empty()) {
        throw UsageError(
            concat("ssa eval needs ", what, ": ssa eval TASK MODEL --data FILE --out FILE"));
      }
    }
    run_eval(*flags);
  });
}

}  // namespace ssa
