// ssa tokenize: text to token ids.
#include <cstdio>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/model_flags.h"
#include "cli/prompt_flags.h"

namespace ssa {
namespace {

struct TokenizeFlags {
  std::string model;
  std::optional<std::string> jsonl, text;  // neither: standard input
  bool parse_special = false;
  bool add_special = false;
};

void print_ids(const std::vector<int64_t>& ids) {
  std::string line = "{\"ids\": [";
  for (size_t i = 0; i < ids.size(); ++i) {
    line += (i > 0 ? ", " : "") + std::to_string(ids[i]);
  }
  line += "]}\n";
  std::fwrite(line.data(), 1, line.size(), stdout);
}

void tokenize_rows(const Tokenizer& tokenizer,
                   const TokenizeFlags& flags,
                   const EncodeOptions& options) {
  const std::string rows = read_file(*flags.jsonl);
  int64_t number = 0;
  for (size_t begin = 0; begin < rows.size();) {
    const size_t end = std::min(rows.find('\n', begin), rows.size());
    const std::string_view row(rows.data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (row.find_first_not_of(" \t\r") == std::string_view::npos) {
      continue;
    }
    const std::string where = concat(*flags.jsonl, " row ", number);
    const Json parsed = parse_json(row, where);
    const Json* text = find_key(parsed, "text");
    check(text != nullptr && text->is_string(), where, ": expected {\"text\": \"...\"}");
    print_ids(tokenizer.encode(text->get_ref<const std::string&>(), options));
  }
}

void run_tokenize(const TokenizeFlags& flags) {
  const Tokenizer tokenizer = open_tokenizer(flags.model);
  const EncodeOptions options{.add_special = flags.add_special,
                              .parse_special = flags.parse_special};
  if (flags.jsonl) {
    tokenize_rows(tokenizer, flags, options);
    return;
  }
  print_ids(
      tokenizer.encode(flags.text ? replace_invalid_utf8(*flags.text) : read_text("-"), options));
}

}  // namespace

void add_tokenize_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("tokenize", "Text to token ids, one JSON object a line");
  const auto flags = std::make_shared<TokenizeFlags>();
  add_model_option(*app, flags->model)
      ->description("Hugging Face directory, folder with tokenizer.json, or .gguf file");
  auto* jsonl =
      app->add_option("--jsonl", flags->jsonl, "File of rows {\"text\": ...}; - is standard input")
          ->check(not_empty("--jsonl: the file's name is empty"));
  auto* text = app->add_option("--text", flags->text, "One text (default: standard input)");
  exclude_each_other({jsonl, text});
  app->add_flag(
      "--parse-special", flags->parse_special, "Read special tokens in the text as tokens");
  app->add_flag("--add-special", flags->add_special, "Add the tokenizer's template tokens (BOS)");
  app->callback([flags] { run_tokenize(*flags); });
}

}  // namespace ssa
