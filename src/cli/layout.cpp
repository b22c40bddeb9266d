// ssa layout: where gists go in a sequence, and who sees whom.
#include <cstdio>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "checkpoint/safetensors_writer.h"
#include "cli/attention_flags.h"
#include "cli/command.h"
#include "cli/prompt_files.h"

namespace ssa {
namespace {
namespace fs = std::filesystem;

struct LayoutFlags {
  std::string model, text, ids_file, mask_file;
  AttentionFlags attention;
  bool laid = false;
};

/// What a layout needs of a model: no weights.
struct LayoutModel {
  GistModel gists;
  std::optional<Tokenizer> tokenizer;
};

/// A folder needs neither weights nor tokenizer.json here.
LayoutModel open_model(const std::string& path) {
  LayoutModel model;
  if (!fs::is_directory(path)) {
    const auto checkpoint = open_checkpoint(path);
    model.gists = gist_model(*checkpoint);
    model.tokenizer = load_tokenizer(*checkpoint, path);
    return model;
  }
  const fs::path config = fs::path(path) / "config.json",
                 tokenizer = fs::path(path) / "tokenizer.json";
  check(fs::exists(config) || fs::exists(tokenizer),
        path,
        " holds neither config.json nor tokenizer.json");
  if (fs::exists(config)) {
    model.gists = gist_model(read_json_file(config));
  }
  if (fs::exists(tokenizer)) {
    model.tokenizer = Tokenizer::from_file(tokenizer);
  }
  return model;
}

PromptParts read_parts(const LayoutFlags& flags, const LayoutModel& model) {
  if (!flags.ids_file.empty()) {
    return read_prompt_parts(flags.ids_file);
  }
  check(model.tokenizer.has_value(),
        "--text needs a tokenizer.json in ",
        flags.model,
        "; --ids does without");
  return {{model.tokenizer->encode(replace_invalid_utf8(flags.text))}, {}};
}

Json describe(const GistLayout& layout) {
  Json chunks = Json::array();
  for (const GistChunk& chunk : list_chunks(layout)) {
    chunks.push_back({chunk.level, chunk.range.begin, chunk.range.end});
  }
  return {{"ids", layout.ids()},
          {"positions", layout.positions()},
          {"levels", layout.levels()},
          {"chunks", chunks}};
}

void write_mask(const std::string& path, const GistLayout& layout, const MaskRule& rule) {
  const std::vector<uint8_t> mask = dense_mask(layout, rule);
  const int64_t n = layout.n_tokens();
  write_safetensors(path,
                    {{"mask", {DType::kBool, {n, n}, std::as_bytes(std::span(mask)), nullptr}}});
}

void run_layout(const LayoutFlags& flags) {
  const LayoutModel model = open_model(flags.model);
  const GistPlan plan(flags.attention, model.gists, model.tokenizer ? &*model.tokenizer : nullptr);
  check(
      !plan.marks_only(), flags.model, " has no gist tokens; name their ids with --gist-ids A,B,C");
  const PromptParts parts = read_parts(flags, model);
  const GistLayout layout = flags.laid ? plan.parse(parts) : plan.lay(parts);
  if (!flags.mask_file.empty()) {
    write_mask(flags.mask_file, layout, plan.mask_rule());
  }
  std::printf("%s\n", dump_json(describe(layout)).c_str());
}

}  // namespace

void add_layout_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("layout", "Where gists go in a sequence, as JSON");
  const auto flags = std::make_shared<LayoutFlags>();
  add_model_option(*app, flags->model);
  const auto check_given = add_text_or_ids_flags(*app, flags->text, flags->ids_file);
  add_layout_flags(*app, flags->attention);
  app->add_flag("--laid", flags->laid, "The ids hold their gists already");
  app->add_option(
      "--mask", flags->mask_file, "safetensors file for the mask: [n, n] bool, rows are queries");
  app->callback([flags, check_given] {
    check_given();
    run_layout(*flags);
  });
}

}  // namespace ssa
