// Files: memory-mapped reading, and writing that leaves either the whole new file or the old one.
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace ssa {

/// A file mapped read-only. Owns the mapping; move-only; safe to read from many threads. A file of
/// no bytes gives an empty span.
class MappedFile {
 public:
  /// Throws Error naming the path if it cannot be opened or mapped.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

/// A file written under a temporary name in the target's folder and renamed by commit(); destroyed
/// before that, it leaves nothing behind. A link's target is replaced, not the link; a device or a
/// pipe (/dev/null, /dev/stdout) is written to as it is. Not thread-safe.
class AtomicFile {
 public:
  /// Throws Error naming the path if the temporary cannot be made.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends; throws Error naming the path and the reason (a full disk, say).
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Flushes, syncs and renames onto the target.
  void commit();

 private:
  std::filesystem::path path_;       // as given
  std::filesystem::path target_;     // path_ behind links
  std::filesystem::path temporary_;  // empty: written in place
  std::FILE* file_ = nullptr;
};

/// Is there such a file or folder? No exception for a folder that may not be searched: opening the
/// file reports that.
bool is_present(const std::filesystem::path& path);

/// The whole file's bytes; `-` reads standard input. Throws Error naming the path.
std::string read_file(const std::filesystem::path& path);

/// Writes the whole file atomically.
void write_file(const std::filesystem::path& path, std::string_view text);

}  // namespace ssa
