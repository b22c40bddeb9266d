#include "checkpoint/safetensors.h"

#include <cstdint>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/json.h"

namespace ssa {
namespace fs = std::filesystem;
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

/// The file beside the index that a weight_map value names. Only plain names: an index must not
/// reach other folders.
fs::path shard_path(const fs::path& folder, const std::string& tensor, const Json& value) {
  const std::string index = (folder / kIndexFile).string();
  check(value.is_string(),
        index,
        ": weight_map of ",
        dump_json(tensor),
        ": expected a file name, found ",
        dump_json(value).substr(0, 80));
  const auto file = value.get<std::string>();
  const bool is_plain = !file.empty() && file != "." && file != ".." &&
                        file.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  check(is_plain,
        index,
        ": weight_map of ",
        dump_json(tensor),
        ": ",
        dump_json(value),
        " is not the name of a file in that folder");
  return folder / file;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path)
    : file_(std::make_shared<MappedFile>(path)),
      header_(parse_safetensors_header(file_->bytes(), path.string())) {}

HostTensor SafetensorsFile::tensor(const std::string& name) const {
  const auto found = header_.tensors.find(name);
  check(found != header_.tensors.end(), path().string(), ": no tensor ", name);
  const SafetensorsEntry& entry = found->second;
  const std::span<const std::byte> bytes =
      file_->bytes().subspan(header_.data_begin + entry.begin, entry.end - entry.begin);
  if (reinterpret_cast<uintptr_t>(bytes.data()) % dtype_size(entry.dtype) == 0) {
    return {entry.dtype, entry.shape, bytes, file_, /*is_mapped=*/true};
  }
  const auto copy = std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
  return {entry.dtype, entry.shape, *copy, copy};
}

bool SafetensorsSet::exists_in(const fs::path& folder) {
  return is_present(folder / kSingleFile) || is_present(folder / kIndexFile);
}

SafetensorsSet::SafetensorsSet(const fs::path& folder) : folder_(folder) {
  // In the order in which transformers looks for them.
  if (is_present(folder / kSingleFile)) {
    files_.emplace_back(folder / kSingleFile);
    for (const auto& item : files_[0].header().tensors) {
      shard_of_.emplace(item.first, 0);
    }
    return;
  }
  const std::string index_path = (folder / kIndexFile).string();
  const Json index = read_json_file(index_path);
  const Json* map = find_key(index, "weight_map");
  check(map != nullptr && map->is_object(), index_path, ": weight_map is missing or not an object");
  std::map<fs::path, size_t> opened;
  for (const auto& [tensor, value] : map->items()) {
    const fs::path path = shard_path(folder, tensor, value);
    const auto [it, is_new] = opened.emplace(path, files_.size());
    if (is_new) {
      files_.emplace_back(path);
    }
    check(files_[it->second].header().tensors.contains(tensor),
          index_path,
          ": tensor ",
          dump_json(tensor),
          " is not in ",
          value.get<std::string>());
    shard_of_.emplace(tensor, it->second);
  }
}

std::vector<std::string> SafetensorsSet::names() const {
  std::vector<std::string> names;
  names.reserve(shard_of_.size());
  for (const auto& item : shard_of_) {
    names.push_back(item.first);
  }
  return names;
}

size_t SafetensorsSet::shard_of(const std::string& name) const {
  const auto found = shard_of_.find(name);
  check(found != shard_of_.end(), folder_.string(), ": no tensor ", name);
  return found->second;
}

const SafetensorsEntry& SafetensorsSet::entry(const std::string& name) const {
  return files_[shard_of(name)].header().tensors.at(name);
}

HostTensor SafetensorsSet::tensor(const std::string& name) const {
  return files_[shard_of(name)].tensor(name);
}

uint64_t SafetensorsSet::tensor_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, shard] : shard_of_) {
    const SafetensorsEntry& item = files_[shard].header().tensors.at(name);
    bytes = checked_add(bytes, item.end - item.begin, "bytes of all tensors");
  }
  return bytes;
}

}  // namespace ssa
