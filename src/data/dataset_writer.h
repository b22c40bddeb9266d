// Writing a dataset, entry by entry.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "base/atomic_folder.h"
#include "base/file.h"
#include "data/dataset_meta.h"
#include "data/token_dataset.h"

namespace ssa {

/// The folder is there after commit(), whole, or not at all. Memory does not grow with the data.
/// Not thread-safe.
class DatasetWriter {
 public:
  /// `meta` with everything but the counts. Throws Error naming the target if it exists and is not
  /// an empty folder, or cannot be made.
  DatasetWriter(const std::filesystem::path& target, DatasetMeta meta);

  /// An entry of kind text.
  void add_document(std::span<const int64_t> ids);
  /// An entry of kind qa.
  void add_qa_row(const QaRow& row);

  /// With the counts so far.
  const DatasetMeta& meta() const { return meta_; }
  /// Throws Error if nothing was added, or the files cannot be written.
  void commit();

 private:
  void add_field(std::span<const int64_t> ids, bool gold);
  void end_entry();

  DatasetMeta meta_;
  AtomicFolder folder_;
  AtomicFile tokens_, fields_;
  std::optional<AtomicFile> entries_, gold_;  // kind qa
};

}  // namespace ssa
