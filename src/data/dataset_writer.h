// Writing a dataset, entry by entry.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "base/file.h"
#include "data/dataset_meta.h"
#include "data/token_dataset.h"

namespace ssa {

/// Writes into a temporary folder beside the target, which it becomes on commit(); destroyed before
/// that, it leaves nothing behind. Memory does not grow with the data. Not thread-safe.
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
  /// A folder that removes itself unless it was renamed.
  class Folder {
   public:
    explicit Folder(const std::filesystem::path& target);
    ~Folder();
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    const std::filesystem::path& path() const { return temporary_; }
    void commit();

   private:
    std::filesystem::path target_, temporary_;
    bool committed_ = false;
  };

  void add_field(std::span<const int64_t> ids, bool gold);
  void end_entry();

  DatasetMeta meta_;
  Folder folder_;
  AtomicFile tokens_, fields_;
  std::optional<AtomicFile> entries_, gold_;  // kind qa
};

}  // namespace ssa
