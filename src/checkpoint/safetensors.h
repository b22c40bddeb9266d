// Reading tensors from safetensors files without copying them.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/host_tensor.h"
#include "checkpoint/safetensors_header.h"

namespace ssa {

/// One mapped file. Cheap to copy: copies, and the tensors handed out, share the mapping. Safe to
/// read from many threads.
class SafetensorsFile {
 public:
  /// Throws Error naming the file if it cannot be mapped or its header does not describe it.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const SafetensorsHeader& header() const { return header_; }
  const std::filesystem::path& path() const { return file_->path(); }
  /// Points into the mapping; copied only where the file does not align it to its elements. Throws
  /// Error if it is missing.
  HostTensor tensor(const std::string& name) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  SafetensorsHeader header_;
};

/// A folder's model.safetensors, or the shards that its model.safetensors.index.json names. Safe to
/// read from many threads.
class SafetensorsSet {
 public:
  /// Throws Error naming the file that is missing or broken, or the tensor that is not in the shard
  /// the index says.
  explicit SafetensorsSet(const std::filesystem::path& folder);
  /// True if the folder holds either file.
  static bool exists_in(const std::filesystem::path& folder);

  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return shard_of_.contains(name); }
  /// Throws Error naming the folder if it is missing.
  const SafetensorsEntry& entry(const std::string& name) const;
  HostTensor tensor(const std::string& name) const;
  /// Bytes of all tensors.
  uint64_t tensor_bytes() const;
  size_t n_files() const { return files_.size(); }

 private:
  size_t shard_of(const std::string& name) const;

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> shard_of_;  // tensor name -> index into files_
};

}  // namespace ssa
