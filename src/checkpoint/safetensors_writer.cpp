#include "checkpoint/safetensors_writer.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <set>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace ssa {
namespace fs = std::filesystem;
namespace {

/// Large elements first: behind the padded header every tensor then lies on a multiple of its
/// element's size. Within a size by name, as the official library orders them.
void sort_for_alignment(std::vector<TensorSpec>& specs) {
  std::sort(specs.begin(), specs.end(), [](const TensorSpec& a, const TensorSpec& b) {
    const size_t size_a = dtype_size(a.dtype);
    const size_t size_b = dtype_size(b.dtype);
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
}

/// Length and JSON, padded with spaces to a multiple of 8 bytes. Written by hand: a document tree
/// searches all its keys for each one added.
std::string make_header(const std::vector<TensorSpec>& specs, const SafetensorsMetadata& metadata) {
  std::string json;
  const auto add = [&](const std::string& key, const Json& value) {
    json += json.empty() ? '{' : ',';
    json.append(dump_json(key)).append(":").append(dump_json(value));
  };
  if (!metadata.empty()) {
    add("__metadata__", metadata);
  }
  std::set<std::string> names;
  uint64_t offset = 0;
  for (const TensorSpec& spec : specs) {
    check(spec.name != "__metadata__" && names.insert(spec.name).second,
          "tensor name ",
          dump_json(spec.name),
          " is taken");
    const uint64_t end = checked_add(offset, spec_bytes(spec), spec.name.c_str());
    add(spec.name,
        {{"dtype", dtype_name(spec.dtype)},
         {"shape", spec.shape},
         {"data_offsets", Json::array({offset, end})}});
    offset = end;
  }
  json += json.empty() ? "{}" : "}";
  json.append((8 - json.size() % 8) % 8, ' ');
  const uint64_t length = json.size();
  std::string header(sizeof length, '\0');
  std::memcpy(header.data(), &length, sizeof length);
  return header + json;
}

void check_matches(const HostTensor& tensor, const TensorSpec& spec) {
  check(tensor.dtype == spec.dtype && tensor.shape == spec.shape &&
            tensor.bytes.size() == spec_bytes(spec),
        "tensor ",
        spec.name,
        " changed between planning and writing: announced ",
        dtype_name(spec.dtype),
        " of ",
        spec_bytes(spec),
        " bytes, got ",
        dtype_name(tensor.dtype),
        " of ",
        tensor.bytes.size(),
        " bytes");
}

/// Cuts the list, in its order, into runs of at most `shard_bytes`.
std::vector<std::vector<TensorSpec>> plan_shards(const std::vector<TensorSpec>& specs,
                                                 uint64_t shard_bytes) {
  std::vector<std::vector<TensorSpec>> shards;
  uint64_t filled = 0;
  for (const TensorSpec& spec : specs) {
    const uint64_t bytes = spec_bytes(spec);
    const uint64_t sum = checked_add(filled, bytes, "bytes of all tensors");
    if (shards.empty() || (filled > 0 && sum > shard_bytes)) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(spec);
    filled += bytes;
  }
  return shards;
}

std::string shard_name(size_t index, size_t n_shards) {
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, n_shards);
  return name;
}

}  // namespace

uint64_t spec_bytes(const TensorSpec& spec) {
  const char* what = spec.name.c_str();
  return checked_mul(checked_numel(spec.shape, what), dtype_size(spec.dtype), what);
}

void write_safetensors(const fs::path& path,
                       std::vector<TensorSpec> specs,
                       const TensorSource& source,
                       const SafetensorsMetadata& metadata) {
  sort_for_alignment(specs);
  AtomicFile file(path);
  file.write(make_header(specs, metadata));
  for (const TensorSpec& spec : specs) {
    const HostTensor tensor = source(spec);
    check_matches(tensor, spec);
    file.write(tensor.bytes);
  }
  file.commit();
}

void write_safetensors(const fs::path& path,
                       const std::vector<NamedTensor>& tensors,
                       const SafetensorsMetadata& metadata) {
  std::vector<TensorSpec> specs;
  std::map<std::string, const HostTensor*> by_name;
  for (const NamedTensor& named : tensors) {
    specs.push_back({named.name, named.tensor.dtype, named.tensor.shape});
    by_name[named.name] = &named.tensor;
  }
  write_safetensors(
      path,
      std::move(specs),
      [&](const TensorSpec& spec) { return *by_name.at(spec.name); },
      metadata);
}

void write_safetensors_shards(const fs::path& folder,
                              const std::vector<TensorSpec>& specs,
                              const TensorSource& source,
                              uint64_t shard_bytes) {
  const std::vector<std::vector<TensorSpec>> shards = plan_shards(specs, shard_bytes);
  if (shards.size() <= 1) {
    write_safetensors(folder / "model.safetensors", specs, source);
    return;
  }
  uint64_t total = 0;
  std::map<std::string, std::string> weight_map;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    write_safetensors(folder / name, shards[i], source);
    for (const TensorSpec& spec : shards[i]) {
      total += spec_bytes(spec);
      weight_map[spec.name] = name;
    }
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file(folder / "model.safetensors.index.json", dump_json(index, 2) + "\n");
}

}  // namespace ssa
