// A folder that is there whole or not at all.
#pragma once

#include <filesystem>

namespace ssa {

/// A folder of files under a temporary name beside its target, which it becomes on commit();
/// destroyed before that, or by remove_interrupted_files(), it leaves nothing behind. Not
/// thread-safe.
class AtomicFolder {
 public:
  /// Throws Error naming the target if it exists and is not an empty folder, or if the temporary
  /// cannot be made.
  explicit AtomicFolder(const std::filesystem::path& target);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Where to write the files. Valid until commit().
  const std::filesystem::path& path() const { return temporary_; }
  /// Renames onto the target; throws Error naming it.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

}  // namespace ssa
