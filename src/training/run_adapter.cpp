#include "training/run_adapter.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "models/gistified_checkpoint.h"

namespace ssa {
namespace {

/// How the run lays gists, for those who will use the adapter.
GistSettings run_settings(const Recipe& recipe) {
  GistSettings settings;
  settings.sink = recipe.data.sink;
  settings.previous_chunks = recipe.previous_chunks;
  settings.word_aware = recipe.data.word_aware;
  settings.trained_ratios.clear();
  for (const ChunkChoice& choice : recipe.data.chunks) {
    settings.trained_ratios.push_back(choice.chunk);
  }
  settings.chunk = settings.trained_ratios.front();
  return settings;
}

AdapterConfig run_config(const Recipe& recipe, const ModelConfig& base) {
  AdapterConfig config = recipe.adapter->config;
  config.base_name = recipe.model.path.filename().string();
  for (int64_t i = 0; recipe.adapter->gist_rows && i < kGistTokenCount; ++i) {
    config.gist_ids.push_back(base.vocab_size + i);
  }
  config.has_head_rows = recipe.adapter->gist_rows && !base.tie_word_embeddings;
  return config;
}

void check_is_the_recipes(const AdapterFiles& files, const AdapterConfig& wanted) {
  const AdapterConfig& found = files.config();
  const auto differ = [&](const char* key, const auto& in_file, const auto& in_recipe) {
    check(in_file == in_recipe,
          files.folder().string(),
          ": its adapter has ",
          key,
          " ",
          in_file,
          ", and the recipe says ",
          in_recipe);
  };
  differ("rank", found.rank, wanted.rank);
  differ("alpha", found.alpha, wanted.alpha);
  differ("targets", join(found.targets, ", "), join(wanted.targets, ", "));
  differ("gist rows", found.gist_ids.size(), wanted.gist_ids.size());
}

double weights_of(CausalLM& model) {
  double n = 0;
  for (const Tensor& parameter : model.parameters()) {
    n += parameter.dim() >= 2 ? static_cast<double>(parameter.numel()) : 0.0;
  }
  const ModelConfig& config = model.config();
  // An embedding that is no output layer is looked up, not multiplied.
  return config.tie_word_embeddings
             ? n
             : n - static_cast<double>(config.vocab_size * config.hidden_size);
}

}  // namespace

RunAdapter make_run_adapter(const Recipe& recipe,
                            std::shared_ptr<const Checkpoint> base,
                            CausalLM& model,
                            const std::filesystem::path& init_from) {
  const bool brings_gists = recipe.adapter->gist_rows;
  check(!brings_gists || base->config().gist.is_null(),
        recipe.model.path.string(),
        " has gist tokens already; set adapter.gist_rows = false, or take the model that it was "
        "made from");
  RunAdapter run;
  run.n_base_weights = weights_of(model);
  const AdapterConfig config = run_config(recipe, base->config());
  const torch::ScalarType held = torch::promote_types(model.dtype(), torch::kFloat32);
  if (init_from.empty()) {
    const int64_t n_text = brings_gists ? rows_in_use(*base) : 0;
    run.adapter = Adapter::make(model, config, n_text, recipe.job.seed, held);
  } else {
    const AdapterFiles files(init_from);
    check_is_the_recipes(files, config);
    check_base(files, *base);
    run.adapter = Adapter::load(model, files, held);
  }
  const GistSettings settings = run_settings(recipe);
  run.gist_config = adapter_gist_config(*base, nullptr);
  run.source = base;
  if (brings_gists) {
    run.source = std::make_shared<GistifiedCheckpoint>(base, settings, base->config().vocab_size);
    run.gist_config["gist"] = run.source->config().gist;
  }
  return run;
}

}  // namespace ssa
