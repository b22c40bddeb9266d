#include "training/run_model.h"

#include "base/error.h"
#include "gist/gist_settings.h"
#include "models/factory.h"
#include "tokenizer/tokenizer.h"
#include "training/sparse_checkpoint.h"
#include "training/training_checkpoint.h"

namespace ssa {
namespace {

torch::ScalarType parse_dtype(const std::string& name) {
  if (name == "f32") {
    return torch::kFloat32;
  }
  if (name == "f64") {
    return torch::kFloat64;
  }
  check(name == "bf16", "recipe: model.dtype '", name, "' is not known; known are bf16, f32, f64");
  return torch::kBFloat16;
}

/// A bf16 model is trained on float32 weights, unless they are frozen.
LoadOptions load_options(const Recipe& recipe, torch::Device device) {
  const torch::ScalarType dtype = parse_dtype(recipe.model.dtype);
  const bool holds_wide = dtype == torch::kBFloat16 && !recipe.adapter;
  return {.dtype = dtype,
          .held_dtype = holds_wide ? std::optional(torch::kFloat32) : std::nullopt,
          .device = device};
}

/// Base and adapter: the adapter's parameters.
void choose_adapter(RunModel& run) {
  for (auto& [name, tensor] : run.adapter->adapter->parameters()) {
    run.parameters.push_back({name, tensor.set_requires_grad(true)});
  }
  // Frozen weights have no gradient: two products of three.
  run.n_weights =
      run.adapter->n_base_weights * 2 / 3 + static_cast<double>(run.adapter->adapter->n_weights());
}

void choose_all_weights(RunModel& run) {
  for (auto& parameter : run.model->named_parameters()) {
    Tensor& weights = parameter.value();
    weights.set_requires_grad(true);
    run.parameters.push_back({parameter.key(), weights});
    run.n_weights += weights.dim() >= 2 ? static_cast<double>(weights.numel()) : 0.0;
  }
  const ModelConfig& config = run.source->config();
  if (!config.tie_word_embeddings) {  // looked up, not multiplied
    run.n_weights -= static_cast<double>(config.vocab_size * config.hidden_size);
  }
}

}  // namespace

std::shared_ptr<LowRankSwitch> RunModel::adapter_switch() const {
  return adapter ? adapter->adapter->power() : nullptr;
}

RunModel load_run_model(const Recipe& recipe,
                        const std::filesystem::path& init_from,
                        torch::Device device) {
  const LoadOptions load = load_options(recipe, device);
  const bool from_adapter = recipe.adapter && AdapterFiles::exist_in(init_from);
  const std::filesystem::path path =
      init_from.empty() || from_adapter ? recipe.model.path : init_from;
  const bool random = recipe.model.init == "random" && path == recipe.model.path;
  RunModel run;
  run.source = random ? open_untrained(path) : open_checkpoint(path);
  run.model = random ? make_random_model(run.source->config(), recipe.job.seed, load)
                     : load_model(*run.source, load);
  if (recipe.adapter) {
    run.adapter = make_run_adapter(
        recipe, run.source, *run.model, from_adapter ? init_from : std::filesystem::path());
    run.source = run.adapter->source;
  }
  if (recipe.objective.weights.sparse_sparse > 0) {
    run.source = with_sparse_settings(std::move(run.source), recipe.objective.sparse);
  }
  check(recipe.data.seq_len <= run.source->config().max_position_embeddings,
        "data.seq_len ",
        recipe.data.seq_len,
        " is beyond the model's ",
        run.source->config().max_position_embeddings,
        " positions");
  run.adapter ? choose_adapter(run) : choose_all_weights(run);
  return run;
}

std::shared_ptr<CausalLM> load_teacher(const Recipe& recipe, const RunModel& run) {
  if (recipe.teacher.empty()) {
    return nullptr;
  }
  auto teacher = load_model(*open_checkpoint(recipe.teacher),
                            {.dtype = run.model->dtype(), .device = run.model->device()});
  check(teacher->config().vocab_size >= run.source->config().vocab_size - 3,
        "the teacher's vocabulary does not fit the model's");
  return teacher;
}

DataVocabulary run_vocabulary(const Recipe& recipe, const Checkpoint& source) {
  const ModelConfig& config = source.config();
  const Json json = source.tokenizer_json();
  const GistSettings gist =
      config.gist.is_null() ? GistSettings() : parse_gist_settings(config.gist);
  check(!recipe.data.gists || !gist.token_ids.empty(),
        recipe.model.path.string(),
        " has no gist tokens; 'ssa gistify' adds them, and so does [adapter] with gist_rows (or "
        "set objective.lm alone)");
  const std::optional<int64_t> eos =
      config.eos_token_ids.empty() ? std::nullopt : std::optional(config.eos_token_ids.front());
  if (json.is_null()) {
    DataVocabulary words;  // datasets of ids alone, chunks without regard to words
    words.gist_ids = gist.token_ids;
    words.bos_id = config.bos_token_id;
    words.eos_id = eos;
    return words;
  }
  return make_data_vocabulary(Tokenizer::from_json(json), gist.token_ids, config.bos_token_id, eos);
}

}  // namespace ssa
