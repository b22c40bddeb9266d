// ssa data: text to datasets for training, and what training will see of them.
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/escapes.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/attention_flags.h"
#include "cli/chat_frame.h"
#include "cli/command.h"
#include "cli/model_flags.h"
#include "cli/progress_bar.h"
#include "data/dataset_builder.h"
#include "data/token_dataset.h"
#include "data/training_data.h"

namespace ssa {
namespace {
namespace fs = std::filesystem;

struct DataBuildFlags {
  std::string model, out, kind = "text", separator, eos;
  std::vector<std::string> inputs;
  BuildOptions options;
  bool add_eos = false, chat = false;
};

struct DataShowFlags {
  std::string dataset, model, loss_on = "all", boundaries = "separate";
  std::vector<std::string> chunks = {"8"};
  DataOptions options;
  uint64_t row = 0;
  bool no_gists = false, no_eos = false, plain_chunks = false, json = false;
};

/// What datasets need of a model: no weights.
struct DataModel {
  Tokenizer tokenizer;
  GistModel gists;
  std::optional<int64_t> eos_id;
  std::unique_ptr<Checkpoint> checkpoint;  // null for a folder that is opened for its tokenizer
};

/// config.json's eos_token_id: a number, or the first of a list.
std::optional<int64_t> find_eos(const Json& config) {
  const Json* eos = find_key(config, "eos_token_id");
  if (eos != nullptr && eos->is_array() && !eos->empty()) {
    eos = &eos->front();
  }
  return eos != nullptr && eos->is_number_integer() ? std::optional(eos->get<int64_t>())
                                                    : std::nullopt;
}

/// A folder with tokenizer.json needs nothing else, but its config.json names BOS, EOS and gists.
DataModel open_data_model(const std::string& path) {
  const bool is_file = path.ends_with(".json");
  if (!is_file && !is_present(fs::path(path) / "tokenizer.json")) {
    auto checkpoint = open_checkpoint(path);
    const std::vector<int64_t>& eos_ids = checkpoint->config().eos_token_ids;
    return {load_tokenizer(*checkpoint, path),
            gist_model(*checkpoint),
            eos_ids.empty() ? std::nullopt : std::optional(eos_ids.front()),
            std::move(checkpoint)};
  }
  const fs::path config = (is_file ? fs::path(path).parent_path() : fs::path(path)) / "config.json";
  DataModel model{Tokenizer::from_file(path), {}, {}, nullptr};
  if (is_present(config)) {
    const Json json = read_json_file(config);
    model.gists = gist_model(json);
    model.eos_id = find_eos(json);
  }
  return model;
}

int64_t choose_eos(const DataBuildFlags& flags, const DataModel& model) {
  if (flags.eos.empty()) {
    check(model.eos_id.has_value(), flags.model, " names no EOS; name the token with --eos");
    return *model.eos_id;
  }
  const std::optional<int64_t> id = model.tokenizer.token_to_id(flags.eos);
  check(id.has_value(), "--eos ", flags.eos, " is not a token of ", flags.model);
  return *id;
}

QaFormat model_qa_format(const DataModel& model, const std::string& path) {
  check(model.checkpoint != nullptr || is_present(fs::path(path) / "config.json"),
        "--chat needs a model with a chat template, not a tokenizer alone");
  return chat_qa_format(model.checkpoint ? *model.checkpoint : *open_checkpoint(path));
}

void run_data_build(const DataBuildFlags& flags) {
  const DataModel model = open_data_model(flags.model);
  BuildOptions options = flags.options;
  options.inputs.assign(flags.inputs.begin(), flags.inputs.end());
  options.kind = parse_dataset_kind(flags.kind);
  if (!flags.separator.empty()) {
    options.separator = unescape(flags.separator);
  }
  if (flags.add_eos || !flags.eos.empty()) {
    options.eos_id = choose_eos(flags, model);
  }
  for (std::string* format : {&options.format.header,
                              &options.format.document,
                              &options.format.question,
                              &options.format.answer}) {
    *format = unescape(*format);
  }
  if (flags.chat) {
    options.format = model_qa_format(model, flags.model);
  }
  ProgressBar bar("tokenising");
  options.progress = bar.callback();
  const BuildReport report = build_dataset(model.tokenizer, options, flags.out);
  if (report.n_mended > 0) {
    log_warning(report.n_mended, " documents were not UTF-8; broken parts became U+FFFD");
  }
  if (report.n_blank > 0) {
    log_warning(report.n_blank, " documents without text were left out");
  }
  std::printf("%s: %llu %s, %llu tokens\n",
              flags.out.c_str(),
              static_cast<unsigned long long>(report.meta.n_entries),
              report.meta.kind == DatasetKind::kQa ? "question-answer rows" : "documents",
              static_cast<unsigned long long>(report.meta.n_tokens));
}

void run_data_info(const std::string& path) {
  const TokenDataset dataset(path);
  uint64_t longest = 0;
  for (uint64_t i = 0; i < dataset.size(); ++i) {
    longest = std::max(longest, dataset.n_tokens(i));
  }
  const DatasetMeta& meta = dataset.meta();
  const Json facts = {{"kind", dataset_kind_name(meta.kind)},
                      {"entries", meta.n_entries},
                      {"tokens", meta.n_tokens},
                      {"longest entry", longest},
                      {"tokenizer", meta.tokenizer},
                      {"vocabulary", meta.vocab_size},
                      {"EOS", meta.eos_id ? Json(*meta.eos_id) : Json("none")},
                      {"header tokens", meta.header.size()},
                      {"made from", join(meta.sources, ", ")}};
  for (const auto& [key, value] : facts.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : dump_json(value);
    std::printf("%-16s %s\n", key.c_str(), text.c_str());
  }
}

/// The model's gist ids, or ones behind its vocabulary for a model that has none yet.
std::vector<int64_t> shown_gist_ids(const DataModel& model) {
  if (!model.gists.settings.token_ids.empty()) {
    return model.gists.settings.token_ids;
  }
  const int64_t n = model.tokenizer.size();
  return {n, n + 1, n + 2};
}

/// The text of tokens [begin, end), gists as <gist>, <Gist>, <MGist>.
std::string mark_text(const GistLayout& layout,
                      int64_t begin,
                      int64_t end,
                      const Tokenizer& tokenizer) {
  const char* marks[] = {"<gist>", "<Gist>", "<MGist>"};
  std::string text;
  std::vector<int64_t> raw;
  const auto flush = [&] {
    text += tokenizer.decode(raw);
    raw.clear();
  };
  for (int64_t i = begin; i < end; ++i) {
    const int level = layout.levels()[static_cast<size_t>(i)];
    if (level == kRawLevel) {
      raw.push_back(layout.ids()[static_cast<size_t>(i)]);
    } else {
      flush();
      text += marks[std::min(level, 2)];
    }
  }
  flush();
  return text;
}

void print_sequence(const TrainingSequence& sequence, size_t number, const Tokenizer& tokenizer) {
  const GistLayout& layout = sequence.layout;
  const int64_t split = layout.prefix_end();
  const auto n_targets = static_cast<int64_t>(sequence.targets.size()) -
                         std::count(sequence.targets.begin(), sequence.targets.end(), kNoTarget);
  const auto first = std::find_if(sequence.targets.begin(),
                                  sequence.targets.end(),
                                  [](int64_t target) { return target != kNoTarget; });
  const int64_t first_target = first - sequence.targets.begin() + 1;
  std::printf("=== sequence %zu: %lld raw tokens, %lld gists, %lld targets%s\n",
              number,
              static_cast<long long>(layout.n_raw()),
              static_cast<long long>(layout.n_gists()),
              static_cast<long long>(n_targets),
              n_targets > 0 ? concat(", the first at index ", first_target).c_str() : "");
  if (split > 0) {
    std::printf("=== prefix, chunks %s\n%s\n=== suffix\n",
                format_chunk_sizes(layout.chunk_sizes()).c_str(),
                mark_text(layout, 0, split, tokenizer).c_str());
  }
  std::printf("%s\n", mark_text(layout, split, layout.n_tokens(), tokenizer).c_str());
}

void print_json(const TrainingSequence& sequence) {
  const GistLayout& layout = sequence.layout;
  const Json json = {{"ids", layout.ids()},
                     {"positions", layout.positions()},
                     {"levels", layout.levels()},
                     {"targets", sequence.targets}};
  std::printf("%s\n", dump_json(json).c_str());
}

void run_data_show(const DataShowFlags& flags) {
  const DataModel model = open_data_model(flags.model);
  DataOptions options = flags.options;
  options.sources = {{flags.dataset}};
  options.chunks.clear();
  for (const std::string& chunk : flags.chunks) {
    options.chunks.push_back({parse_chunk_sizes(chunk)});
  }
  options.gists = !flags.no_gists;
  options.add_eos = !flags.no_eos;
  options.word_aware = !flags.plain_chunks;
  options.loss_on = parse_loss_on(flags.loss_on);
  options.boundaries = parse_boundaries(flags.boundaries);
  const TrainingData data(
      options,
      make_data_vocabulary(
          model.tokenizer, shown_gist_ids(model), model.gists.bos_id, model.eos_id));
  for (const std::string& warning : data.warnings()) {
    log_warning(warning);
  }
  const TrainingRow row = data.row(flags.row);
  for (size_t i = 0; i < row.sequences.size(); ++i) {
    if (flags.json) {
      print_json(row.sequences[i]);
    } else {
      print_sequence(row.sequences[i], i, model.tokenizer);
    }
  }
}

void add_build_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("build", "Tokenise text files or JSON lines into a dataset");
  const auto flags = std::make_shared<DataBuildFlags>();
  BuildOptions& options = flags->options;
  QaFormat& format = options.format;
  add_model_option(*app, flags->model)
      ->description("Hugging Face directory, folder with tokenizer.json, or .gguf file");
  app->add_option("--input", flags->inputs, "Text files or .jsonl files")->required();
  app->add_option("--out", flags->out, "Folder to write")->required();
  app->add_option("--kind", flags->kind, "text, or qa: rows of documents, question and answer")
      ->check(CLI::IsMember({"text", "qa"}))
      ->capture_default_str();
  app->add_option("--field", options.field, "The text's field in .jsonl")->capture_default_str();
  app->add_option(
      "--separator",
      flags->separator,
      concat("What parts the documents of a text file, e.g. '\\n---\\n' (default: a NUL byte) ",
             kEscapesHelp));
  app->add_flag("--add-eos", flags->add_eos, "Put EOS behind every document or answer");
  app->add_option("--eos", flags->eos, "The token for that (default: the model's EOS)");
  CLI::Option* chat =
      app->add_flag("--chat", flags->chat, "kind qa: put the rows into the model's chat template");
  const auto add_format = [&](const char* name, std::string& value, const char* description) {
    app->add_option(name, value, concat(description, " ", kEscapesHelp))->excludes(chat);
  };
  add_format(
      "--header", format.header, "kind qa: a piece in front of the documents (default: none)");
  add_format("--document-format",
             format.document,
             "kind qa: text around each document (default: '{}\\n\\n')");
  add_format("--question-format",
             format.question,
             "kind qa: text around the question (default: '{}\\nAnswer:')");
  add_format("--answer-format", format.answer, "kind qa: text around the answer (default: ' {}')");
  app->add_option("-t,--threads", options.threads, "Threads (default: one a core)")
      ->check(CLI::Range(1, 4096));
  app->callback([flags] { run_data_build(*flags); });
}

void add_data_info_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("info", "What a dataset holds");
  const auto dataset = std::make_shared<std::string>();
  app->add_option("dataset", *dataset, "Folder of `ssa data build`")->required();
  app->callback([dataset] { run_data_info(*dataset); });
}

void add_show_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("show", "One training row's text, its gists marked");
  const auto flags = std::make_shared<DataShowFlags>();
  DataOptions& options = flags->options;
  app->add_option("dataset", flags->dataset, "Folder of `ssa data build`")->required();
  app->add_option("-m,--model", flags->model, "The model, or its tokenizer")->required();
  app->add_option("--row", flags->row, "Number of the row")->capture_default_str();
  app->add_option("--seq-len", options.seq_len, "Raw tokens a row")->capture_default_str();
  app->add_option("--seed", options.seed, "Seed of order and draws")->capture_default_str();
  app->add_option("--chunk", flags->chunks, "Chunk settings, one drawn a row: 8 4-4 ...")
      ->capture_default_str();
  app->add_option("--sink", options.sink, "Tokens that do not count for chunks")
      ->capture_default_str();
  app->add_option("--suffix-min", options.suffix_min, "Fewest tokens of a suffix")
      ->capture_default_str();
  app->add_option("--suffix-max", options.suffix_max, "Most tokens of a suffix")
      ->capture_default_str();
  app->add_option("--loss-on", flags->loss_on, "Which tokens are targets")
      ->check(CLI::IsMember({"all", "suffix", "answer"}))
      ->capture_default_str();
  app->add_option("--boundaries", flags->boundaries, "What is between a row's documents")
      ->check(CLI::IsMember({"separate", "join"}))
      ->capture_default_str();
  app->add_flag("--plain-chunks", flags->plain_chunks, "Count chunks without regard to words");
  app->add_flag("--no-gists", flags->no_gists, "Raw tokens alone");
  app->add_flag("--add-bos", options.add_bos, "BOS in front of every sequence");
  app->add_flag("--no-eos", flags->no_eos, "Add no EOS behind documents and answers");
  app->add_flag("--json", flags->json, "Ids, positions, levels and targets, a sequence a line");
  app->callback([flags] { run_data_show(*flags); });
}

}  // namespace

void add_data_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("data", "Datasets for training: build, info, show");
  app->require_subcommand(1);
  add_build_command(*app);
  add_data_info_command(*app);
  add_show_command(*app);
}

}  // namespace ssa
