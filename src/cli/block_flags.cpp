#include "cli/block_flags.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"

namespace ssa {
namespace {

constexpr int64_t kNsaWindow = 128;  // of every NSA checkpoint that is known

struct VariantName {
  const char* name;
  BlockVariant variant;
};
/// The first name of a variant is the one it is called by.
constexpr std::array kVariants = {VariantName{"ssa", BlockVariant::kSparseSparse},
                                  VariantName{"sparse-sparse", BlockVariant::kSparseSparse},
                                  VariantName{"moba", BlockVariant::kMoba},
                                  VariantName{"nsa", BlockVariant::kNsa},
                                  VariantName{"fullattn", BlockVariant::kFullAttention}};

std::vector<std::string> known_variants() {
  std::vector<std::string> names;
  for (const VariantName& row : kVariants) {
    names.emplace_back(row.name);
  }
  return names;
}

bool has_gates(const ModelConfig& config) {
  return config.architecture == Architecture::kLlamaNsa;
}

/// The window that NSA's third branch has; 0 for the other variants, which have none.
int64_t check_window(BlockVariant variant, const ModelConfig& config) {
  const int64_t window = config.nsa_window_size;
  if (variant != BlockVariant::kNsa) {
    check(window == 0,
          "variant ",
          variant_name(variant),
          " has no window, and config.json's window_size is ",
          window,
          "; --variant nsa has one");
    return 0;
  }
  check(has_gates(config),
        "--variant nsa: a ",
        architecture_name(config.architecture),
        " model has no gates for NSA's three branches, only llama-nsa models do");
  check(window > 0,
        "--variant nsa: config.json's window_size is 0; NSA needs the window it was trained with, ",
        kNsaWindow,
        " as a rule");
  return window;
}

/// What the flags put out of range is a mistake of the command line, and else of config.json.
void check_options(const BlockOptions& options, const BlockFlags& flags) {
  try {
    check_block_options(options);
  } catch (const Error& error) {
    if (flags.block_size || flags.n_blocks || flags.rule) {
      throw UsageError(error.what());
    }
    throw;
  }
}

}  // namespace

const char* BlockFlags::first_given() const {
  return ssa::first_given(app, std::array{"--block-size", "--blocks", "--block-rule"});
}

void add_block_flags(CLI::App& app, BlockFlags& flags) {
  flags.app = &app;
  app.add_option("--block-size",
                 flags.block_size,
                 "Of --attention sparse: tokens a block (default: the model's, or 16)");
  app.add_option("--blocks",
                 flags.n_blocks,
                 "Of --attention sparse: blocks a query attends (default: the model's, or 16)");
  app.add_option("--block-rule",
                 flags.rule,
                 "Of --attention sparse: exact (default), or what the authors' kernel does")
      ->check(CLI::IsMember({"exact", "published"}));
  app.add_option(
         "--variant",
         flags.variant,
         "What a llama-nsa model was trained as (default: nsa with a window of 128, or ssa)")
      ->check(CLI::IsMember(known_variants()));
}

const char* variant_name(BlockVariant variant) {
  return std::find_if(kVariants.begin(),
                      kVariants.end(),
                      [&](const VariantName& row) { return row.variant == variant; })
      ->name;
}

BlockVariant resolve_variant(const BlockFlags& flags, const ModelConfig& config) {
  for (const VariantName& row : kVariants) {
    if (flags.variant == row.name) {
      return row.variant;
    }
  }
  return has_gates(config) && config.nsa_window_size == kNsaWindow ? BlockVariant::kNsa
                                                                   : BlockVariant::kSparseSparse;
}

bool is_sparse_by_default(const BlockFlags& flags, const ModelConfig& config) {
  return has_gates(config) && config.nsa_inference_mode == "sparse" &&
         resolve_variant(flags, config) != BlockVariant::kFullAttention;
}

BlockPlan plan_blocks(const BlockFlags& flags, const ModelConfig& config) {
  BlockPlan plan;
  plan.variant = resolve_variant(flags, config);
  plan.window = check_window(plan.variant, config);
  if (has_gates(config)) {
    plan.options.block_size = config.nsa_block_size;
    plan.options.n_blocks = config.nsa_block_counts;
  }
  plan.options.block_size = flags.block_size.value_or(plan.options.block_size);
  plan.options.n_blocks = flags.n_blocks.value_or(plan.options.n_blocks);
  plan.options.rule = flags.rule == "published" ? BlockRule::kPublished : BlockRule::kExact;
  check_options(plan.options, flags);
  return plan;
}

std::string describe_blocks(const BlockPlan& plan) {
  const char* rule = plan.options.rule == BlockRule::kPublished ? "published" : "exact";
  const std::string nsa =
      plan.variant == BlockVariant::kNsa ? concat(", NSA with a window of ", plan.window) : "";
  return concat("sparse, ",
                plan.options.n_blocks,
                " blocks of ",
                plan.options.block_size,
                ", ",
                rule,
                " rule",
                nsa);
}

}  // namespace ssa
