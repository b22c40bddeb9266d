// ssa info: what a checkpoint is, and what it needs.
#include <cstdio>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/block_flags.h"
#include "cli/command.h"
#include "cli/model_flags.h"
#include "engine/kv_cache.h"
#include "models/factory.h"

namespace ssa {
namespace {

struct InfoFlags {
  ModelFlags model;
  int64_t ctx_size = 0;
  bool json = false;
};

const char* rope_name(RopeType type) {
  switch (type) {
    case RopeType::kDefault:
      return "default";
    case RopeType::kLinear:
      return "linear";
    case RopeType::kLlama3:
      return "llama3";
    case RopeType::kYarn:
      return "yarn";
  }
  return "?";
}

/// What a llama-nsa checkpoint says of its sparse attention; empty for others.
Json describe_sparse(const ModelConfig& config) {
  if (config.architecture != Architecture::kLlamaNsa) {
    return Json::object();
  }
  return {{"inference mode", config.nsa_inference_mode},
          {"block size", config.nsa_block_size},
          {"blocks", config.nsa_block_counts},
          {"window size", config.nsa_window_size},
          {"variant", variant_name(resolve_variant({}, config))}};
}

Json describe(const Checkpoint& checkpoint, const InfoFlags& flags) {
  const ModelConfig config = resolve_config(flags.model, checkpoint);
  const torch::ScalarType dtype = resolve_dtype(flags.model, config);
  const int64_t context = flags.ctx_size > 0 ? flags.ctx_size : config.max_position_embeddings;
  const uint64_t weights = parameter_bytes(config, dtype, resolve_weights(flags.model));
  const uint64_t cache = KvCache::bytes(config, dtype, context);
  Json facts = {{"format", checkpoint.format()},
                {"architecture", architecture_name(config.architecture)},
                {"parameters", parameter_count(config)},
                {"layers", config.n_layers},
                {"hidden size", config.hidden_size},
                {"MLP size", config.intermediate_size},
                {"heads", config.n_heads},
                {"key/value heads", config.n_kv_heads},
                {"head size", config.head_dim},
                {"vocabulary", config.vocab_size},
                {"positions", config.max_position_embeddings},
                {"RoPE", rope_name(config.rope.type)},
                {"RoPE theta", config.rope.theta},
                {"tied embeddings", config.tie_word_embeddings},
                {"tensors as stored", checkpoint.tensor_bytes()},
                {"run as", torch::toString(dtype)},
                {"context", context},
                {"memory for weights", weights},
                {"memory for keys and values", cache},
                {"memory in all", weights + cache}};
  facts.update(describe_sparse(config));
  return facts;
}

bool is_bytes(const std::string& key) {
  return key.starts_with("memory") || key.starts_with("tensors");
}

void print_table(const Json& facts) {
  for (const auto& [key, value] : facts.items()) {
    const std::string text = is_bytes(key)       ? format_bytes(value.get<uint64_t>())
                             : value.is_string() ? value.get<std::string>()
                                                 : dump_json(value);
    std::printf("%-28s %s\n", key.c_str(), text.c_str());
  }
}

Json describe_adapter(const std::string& folder) {
  if (folder.empty()) {
    return Json::object();
  }
  const AdapterConfig config = AdapterFiles(folder).config();
  return {{"adapter rank", config.rank},
          {"adapter alpha", config.alpha},
          {"adapter layers", join(config.targets, ", ")},
          {"adapter gist rows", config.gist_ids.size()}};
}

void run_info(const InfoFlags& flags) {
  const auto checkpoint = open_model(flags.model).checkpoint;
  Json facts = describe(*checkpoint, flags);
  facts.update(describe_adapter(flags.model.adapter));
  if (flags.json) {
    std::printf("%s\n", dump_json(facts, 2).c_str());
  } else {
    print_table(facts);
  }
}

}  // namespace

void add_info_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("info", "A checkpoint's shapes, parameters and memory needs");
  const auto flags = std::make_shared<InfoFlags>();
  add_model_flags(*app, flags->model);
  app->add_option(
         "-c,--ctx-size", flags->ctx_size, "Context to size memory for (0: the model's positions)")
      ->check(CLI::NonNegativeNumber);
  app->add_flag("--json", flags->json, "Print JSON");
  app->callback([flags] { run_info(*flags); });
}

}  // namespace ssa
