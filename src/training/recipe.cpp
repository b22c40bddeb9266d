#include "training/recipe.h"

#include <map>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "training/recipe_section.h"

namespace ssa {
namespace {

/// Chunk sizes as text "8", "4-4", a number, or a list.
ChunkSizes read_chunk(const toml::node& node, const std::string& key) {
  if (const auto number = node.value<int64_t>(); number && node.is_integer()) {
    check_chunk_sizes(ChunkSizes{*number}, key);
    return {*number};
  }
  check_node(node.is_string(), node, "recipe: ", key, " must be a chunk setting: 8, \"4-4\"");
  return parse_chunk_sizes(node.value<std::string>().value());
}

/// The weight of an entry {NAME, weight}; 1 where it has none.
double read_weight(const toml::table& entry, const std::string& name, const std::string& key) {
  for (const auto& [given, value] : entry) {
    check_node(given.str() == name || given.str() == "weight",
               value,
               "recipe: ",
               key,
               " has an entry with key '",
               std::string(given.str()),
               "'; known are ",
               name,
               ", weight");
  }
  const toml::node* weight = entry.get("weight");
  check_node(weight == nullptr || weight->is_number(),
             entry,
             "recipe: ",
             key,
             ": weight must be a number");
  return weight == nullptr ? 1.0 : weight->value<double>().value();
}

/// Lists of paths or of {path, weight}.
std::vector<DataSource> read_sources(Section& section, const char* key) {
  std::vector<DataSource> sources;
  const toml::node* node = section.find(key);
  if (node == nullptr) {
    return sources;
  }
  check_node(node->is_array(), *node, "recipe: ", section.full(key), " must be a list of datasets");
  for (const toml::node& each : *node->as_array()) {
    if (each.is_string()) {
      sources.push_back({each.value<std::string>().value(), 1});
      continue;
    }
    const toml::table* table = each.as_table();
    check_node(table != nullptr && table->get("path") != nullptr && table->get("path")->is_string(),
               each,
               "recipe: ",
               section.full(key),
               " holds an entry without path");
    sources.push_back({table->get("path")->value<std::string>().value(),
                       read_weight(*table, "path", section.full(key))});
  }
  return sources;
}

/// chunk = 8, or chunks = [8, {chunk = "4-4", weight = 0.5}].
void read_chunks(Section& section, DataOptions& data) {
  if (const toml::node* node = section.find("chunk")) {
    data.chunks = {{read_chunk(*node, section.full("chunk")), 1}};
  }
  const toml::node* node = section.find("chunks");
  if (node == nullptr) {
    return;
  }
  check_node(node->is_array() && !node->as_array()->empty(),
             *node,
             "recipe: ",
             section.full("chunks"),
             " must be a list");
  data.chunks.clear();
  for (const toml::node& each : *node->as_array()) {
    const toml::table* table = each.as_table();
    if (table == nullptr) {
      data.chunks.push_back({read_chunk(each, section.full("chunks")), 1});
      continue;
    }
    check_node(table->get("chunk") != nullptr,
               each,
               "recipe: ",
               section.full("chunks"),
               " holds an entry without chunk");
    data.chunks.push_back({read_chunk(*table->get("chunk"), section.full("chunks")),
                           read_weight(*table, "chunk", section.full("chunks"))});
  }
}

Pivot parse_pivot(const std::string& name) {
  static const std::map<std::string, Pivot> kPivots = {{"gist", Pivot::kGist},
                                                       {"mean", Pivot::kMean},
                                                       {"quest", Pivot::kQuest},
                                                       {"recent", Pivot::kRecent},
                                                       {"random", Pivot::kRandom}};
  const auto found = kPivots.find(name);
  check(found != kPivots.end(),
        "pivot '",
        name,
        "' is not known; known are gist, mean, quest, recent, random");
  return found->second;
}

void read_job(const toml::table& table, Recipe& recipe) {
  Section job(table, "job");
  job.read("output", recipe.job.output);
  job.read("seed", recipe.job.seed);
  job.check_unknown();
  check(!recipe.job.output.empty(),
        "recipe: job.output is missing: the folder for checkpoints and logs");
  Section model(table, "model");
  model.read("path", recipe.model.path);
  model.read("init", recipe.model.init);
  model.read("dtype", recipe.model.dtype);
  model.read("device", recipe.model.device);
  model.check_unknown();
  check(!recipe.model.path.empty(), "recipe: model.path is missing: a checkpoint");
  check(recipe.model.init == "weights" || recipe.model.init == "random",
        "recipe: model.init '",
        recipe.model.init,
        "' is not known; known are weights, random");
}

/// Behind the objective: whether gists are trained decides whether they need rows.
void read_adapter(const toml::table& table, Recipe& recipe) {
  Section section(table, "adapter");
  if (!table.contains("adapter")) {
    return;
  }
  AdapterSettings& adapter = recipe.adapter.emplace();
  adapter.gist_rows = recipe.data.gists;
  section.read("rank", adapter.config.rank);
  section.read("alpha", adapter.config.alpha);
  section.read("gist_rows", adapter.gist_rows);
  if (const toml::node* targets = section.find("targets")) {
    check_node(
        targets->is_array(), *targets, "recipe: adapter.targets must be a list of layers' names");
    adapter.config.targets.clear();
    for (const toml::node& target : *targets->as_array()) {
      adapter.config.targets.push_back(target.value<std::string>().value_or(""));
    }
  }
  section.check_unknown();
  check_adapter(adapter.config, "recipe: [adapter]");
}

void read_data(const toml::table& table, Recipe& recipe) {
  DataOptions& data = recipe.data;
  Section section(table, "data");
  std::string loss_on, boundaries;
  data.sources = read_sources(section, "sources");
  section.read("seq_len", data.seq_len);
  section.read("boundaries", boundaries);
  section.read("add_bos", data.add_bos);
  section.read("add_eos", data.add_eos);
  section.read("whole_rows", data.whole_rows);
  section.read("suffix_min", data.suffix_min);
  section.read("suffix_max", data.suffix_max);
  section.read("loss_on", loss_on);
  section.check_unknown();
  if (!loss_on.empty()) {
    data.loss_on = parse_loss_on(loss_on);
  }
  if (!boundaries.empty()) {
    data.boundaries = parse_boundaries(boundaries);
  }
  check(!data.sources.empty(),
        "recipe: data.sources is missing: datasets made by 'ssa data build'");
  Section gist(table, "gist");
  read_chunks(gist, data);
  gist.read("word_aware", data.word_aware);
  gist.read("sink", data.sink);
  gist.read("previous_chunks", recipe.previous_chunks);
  gist.check_unknown();
  check(recipe.previous_chunks >= 0,
        "recipe: gist.previous_chunks must not be below 0, not ",
        recipe.previous_chunks);
  data.seed = recipe.job.seed;
}

void read_objective(const toml::table& table, Recipe& recipe) {
  ObjectiveOptions& objective = recipe.objective;
  ObjectiveWeights& weights = objective.weights;
  Section section(table, "objective");
  std::string student = "gists", pivot = "gist";
  double ratio = 0;
  section.read("lm", weights.lm);
  section.read("cpt", weights.cpt);
  section.read("sft", weights.sft);
  section.read("distill", weights.distill);
  section.read("route", weights.route);
  section.read("align", weights.align);
  section.read("sparse_sparse", weights.sparse_sparse);
  section.read("route_queries", objective.route_queries);
  section.read("distill_student", student);
  section.read("teacher", recipe.teacher);
  section.read("pivot", pivot);
  section.read("ratio", ratio);
  section.check_unknown();
  check(student == "gists" || student == "ssa",
        "recipe: objective.distill_student '",
        student,
        "' is not known; known are gists, ssa");
  objective.distill_unfolds = student == "ssa";
  objective.selection.pivot = parse_pivot(pivot);
  if (ratio > 0) {
    objective.selection.ratio = ratio;
  }
  objective.rule = {recipe.data.sink, recipe.previous_chunks};
  for (const double weight : {weights.lm,
                              weights.cpt,
                              weights.sft,
                              weights.distill,
                              weights.route,
                              weights.align,
                              weights.sparse_sparse}) {
    check(weight >= 0, "recipe: objective weights must not be below 0, not ", weight);
  }
  check(weights.lm > 0 || weights.sparse_sparse > 0 || weights.any_gists(),
        "recipe: no objective has a weight; set one of objective.lm, cpt, sft, distill, route, "
        "align, sparse_sparse");
  recipe.data.gists = weights.any_gists();
}

void read_sparse(const toml::table& table, Recipe& recipe) {
  SparseSparseOptions& sparse = recipe.objective.sparse;
  Section section(table, "sparse");
  std::string variant = "ssa", alignment = "both", stream = "batch", rule = "exact";
  section.read("block_size", sparse.blocks.block_size);
  section.read("blocks", sparse.blocks.n_blocks);
  section.read("rule", rule);
  section.read("variant", variant);
  section.read("alignment_weight", sparse.alignment_weight);
  section.read("alignment", alignment);
  section.read("stream", stream);
  section.read("window", sparse.window);
  section.check_unknown();
  sparse.blocks.rule = parse_block_rule(rule);
  sparse.variant = parse_sparse_variant(variant);
  sparse.alignment = parse_alignment(alignment);
  sparse.stream = parse_stream_draw(stream);
  sparse.seed = recipe.job.seed;
  check_block_options(sparse.blocks);
  check(sparse.alignment_weight >= 0,
        "recipe: sparse.alignment_weight must not be below 0, not ",
        sparse.alignment_weight);
  check(sparse.window > 0, "recipe: sparse.window must be above 0, not ", sparse.window);
}

void read_optimizer(const toml::table& table, Recipe& recipe) {
  Section optimizer(table, "optimizer");
  optimizer.read("lr", recipe.schedule.peak);
  optimizer.read("beta1", recipe.optimizer.beta1);
  optimizer.read("beta2", recipe.optimizer.beta2);
  optimizer.read("eps", recipe.optimizer.eps);
  optimizer.read("weight_decay", recipe.optimizer.weight_decay);
  optimizer.check_unknown();
  check(recipe.schedule.peak > 0, "recipe: optimizer.lr must be above 0");
  Section scheduler(table, "lr_scheduler");
  std::string decay = "cosine";
  scheduler.read("warmup_steps", recipe.schedule.warmup_steps);
  scheduler.read("decay", decay);
  scheduler.read("min_ratio", recipe.schedule.min_ratio);
  scheduler.check_unknown();
  recipe.schedule.decay = parse_decay(decay);
}

void read_training(const toml::table& table, Recipe& recipe) {
  TrainingSettings& training = recipe.training;
  Section section(table, "training");
  section.read("steps", training.steps);
  section.read("global_batch_size", training.global_batch_size);
  section.read("micro_batch_size", training.micro_batch_size);
  section.read("max_norm", training.max_norm);
  section.read("activation_checkpointing", training.activation_checkpointing);
  section.read("max_loss_growth", training.max_loss_growth);
  section.check_unknown();
  check(training.steps > 0 && training.global_batch_size > 0 && training.micro_batch_size >= 0,
        "recipe: training.steps and training.global_batch_size must be above 0, and "
        "micro_batch_size not below");
  check(recipe.schedule.warmup_steps >= 0 && recipe.schedule.warmup_steps < training.steps,
        "recipe: lr_scheduler.warmup_steps ",
        recipe.schedule.warmup_steps,
        " is not within the ",
        training.steps,
        " steps");
  recipe.schedule.total_steps = training.steps;
  recipe.objective.recompute_layers = training.activation_checkpointing;
}

void read_outputs(const toml::table& table, Recipe& recipe) {
  Section validation(table, "validation");
  recipe.validation.sources = read_sources(validation, "sources");
  validation.read("interval", recipe.validation.interval);
  validation.read("rows", recipe.validation.rows);
  if (const toml::node* modes = validation.find("modes")) {
    check_node(modes->is_array(), *modes, "recipe: validation.modes must be a list");
    recipe.validation.modes.clear();
    for (const toml::node& mode : *modes->as_array()) {
      recipe.validation.modes.push_back(mode.value<std::string>().value_or(""));
    }
  } else if (!recipe.data.gists) {
    recipe.validation.modes = {"full"};
    if (recipe.objective.weights.sparse_sparse > 0) {
      recipe.validation.modes.emplace_back("sparse");
    }
  }
  validation.check_unknown();
  for (const std::string& mode : recipe.validation.modes) {
    parse_validation_mode(mode, recipe.objective.rule);
    check(mode != kBaseMode || recipe.adapter,
          "recipe: validation mode 'base' leaves the adapter out, and there is no [adapter]");
  }
  Section checkpoint(table, "checkpoint");
  checkpoint.read("interval", recipe.checkpoint.interval);
  checkpoint.read("keep", recipe.checkpoint.keep);
  checkpoint.check_unknown();
  Section metrics(table, "metrics");
  metrics.read("log_interval", recipe.metrics.log_interval);
  metrics.read("tensorboard", recipe.metrics.tensorboard);
  metrics.read("profile_step", recipe.metrics.profile_step);
  metrics.read("peak_tflops", recipe.metrics.peak_tflops);
  metrics.check_unknown();
  check(recipe.metrics.log_interval > 0, "recipe: metrics.log_interval must be above 0");
}

void check_sections(const toml::table& table) {
  static const std::vector<std::string> kSections = {"job",
                                                     "model",
                                                     "adapter",
                                                     "data",
                                                     "gist",
                                                     "objective",
                                                     "sparse",
                                                     "optimizer",
                                                     "lr_scheduler",
                                                     "training",
                                                     "validation",
                                                     "checkpoint",
                                                     "metrics"};
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (std::find(kSections.begin(), kSections.end(), name) == kSections.end()) {
      const std::string near = nearest_match(name, kSections);
      check_node(
          false,
          node,
          "recipe: [",
          name,
          "] is not a section",
          near.empty() ? "; known are " + join(kSections, ", ") : "; did you mean [" + near + "]?");
    }
  }
}

/// A value from the command line: TOML where it parses, else text.
void override_value(toml::table& table, const std::string& path, const std::string& value) {
  const size_t dot = path.find('.');
  if (!path.starts_with("--") || dot == std::string::npos) {
    throw UsageError(concat("'", path, "' is not of the form --section.key value"));
  }
  const std::string section = path.substr(2, dot - 2), key = path.substr(dot + 1);
  toml::table parsed;
  try {
    parsed = toml::parse("value = " + value);
  } catch (const toml::parse_error&) {
    parsed.insert("value", value);
  }
  if (table.get(section) == nullptr) {
    table.insert(section, toml::table());
  }
  check(table.get(section)->is_table(), "recipe: ", section, " is not a section");
  toml::table& target = *table.get(section)->as_table();
  parsed.get("value")->visit([&](auto&& node) { target.insert_or_assign(key, node); });
}

toml::table parse_recipe(const std::filesystem::path& path,
                         std::span<const std::string> overrides) {
  toml::table table;
  try {
    table = toml::parse(read_file(path), path.string());
  } catch (const toml::parse_error& error) {
    fail(path.string(),
         ", line ",
         error.source().begin.line,
         ": ",
         std::string(error.description()));
  }
  for (size_t i = 0; i < overrides.size(); ++i) {
    const std::string& argument = overrides[i];
    const size_t equals = argument.find('=');
    if (equals != std::string::npos) {
      override_value(table, argument.substr(0, equals), argument.substr(equals + 1));
    } else {
      if (i + 1 == overrides.size()) {
        throw UsageError(concat("'", argument, "' is without a value"));
      }
      override_value(table, argument, overrides[++i]);
    }
  }
  return table;
}

}  // namespace

Recipe read_recipe(const std::filesystem::path& path, std::span<const std::string> overrides) {
  const toml::table table = parse_recipe(path, overrides);
  check_sections(table);
  Recipe recipe;
  read_job(table, recipe);
  read_data(table, recipe);
  read_objective(table, recipe);
  read_sparse(table, recipe);
  read_adapter(table, recipe);
  read_optimizer(table, recipe);
  read_training(table, recipe);
  read_outputs(table, recipe);
  std::ostringstream text;
  text << table << '\n';
  recipe.text = text.str();
  return recipe;
}

TrainingAttentionOptions parse_validation_mode(const std::string& mode, const MaskRule& rule) {
  TrainingAttentionOptions options{TrainingMode::kUnfold, rule, {}, false};
  if (mode == "full" || mode == "gists" || mode == kBaseMode) {
    options.mode = mode == "gists" ? TrainingMode::kGists : TrainingMode::kFull;
    return options;
  }
  if (mode == "sparse" || mode.starts_with("sparse:")) {
    options.mode = TrainingMode::kSparse;
    options.n_blocks = mode == "sparse" ? 0 : std::atoll(mode.c_str() + 7);
    check(mode == "sparse" || options.n_blocks > 0,
          "validation mode '",
          mode,
          "': its blocks are not a number above 0");
    return options;
  }
  check(mode == "ssa" || mode.starts_with("ssa:"),
        "validation mode '",
        mode,
        "' is not known; known are full, sparse[:BLOCKS], gists, ssa[:PIVOT][:RATIO]");
  std::istringstream parts(mode.size() > 4 ? mode.substr(4) : "");
  for (std::string part; std::getline(parts, part, ':');) {
    if (part.find_first_of("0123456789.") == 0) {
      char* end = nullptr;
      options.selection.ratio = std::strtod(part.c_str(), &end);
      check(*end == '\0' && options.selection.ratio > 0.0,
            "validation mode '",
            mode,
            "': its ratio is not a number above 0");
    } else {
      options.selection.pivot = parse_pivot(part);
    }
  }
  return options;
}

}  // namespace ssa
