#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"

namespace ssa {
namespace fs = std::filesystem;

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(fd >= 0, "cannot open ", path.string(), ": ", std::strerror(errno));
  struct stat status {};
  const bool readable = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  void* data = nullptr;
  const auto size = static_cast<size_t>(status.st_size);
  if (readable && size > 0) {
    data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  }
  const int error = errno;
  ::close(fd);
  check(readable, path.string(), " is not a regular file");
  check(data != MAP_FAILED, "cannot map ", path.string(), ": ", std::strerror(error));
  bytes_ = {static_cast<const std::byte*>(data), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) {
    ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  std::error_code ignored;
  const fs::file_type type = fs::status(path_, ignored).type();
  if (type == fs::file_type::character || type == fs::file_type::fifo ||
      type == fs::file_type::socket) {
    file_ = std::fopen(path_.c_str(), "wbe");
    check(file_ != nullptr, "cannot write ", path_.string(), ": ", std::strerror(errno));
    return;
  }
  const fs::path target = fs::is_symlink(path_, ignored) ? fs::canonical(path_, ignored) : path_;
  target_ = target.empty() ? path_ : target;
  temporary_ = target_;
  temporary_ += concat(".partial-", ::getpid());
  file_ = std::fopen(temporary_.c_str(), "wbe");
  check(file_ != nullptr, "cannot write ", path_.string(), ": ", std::strerror(errno));
  remove_on_interrupt(temporary_);
}

AtomicFile::~AtomicFile() {
  if (file_ == nullptr) {
    return;
  }
  std::fclose(file_);
  if (!temporary_.empty()) {
    std::error_code ignored;
    fs::remove(temporary_, ignored);
    keep_on_interrupt(temporary_);
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) {
    return;
  }
  const size_t written = std::fwrite(bytes.data(), 1, bytes.size(), file_);
  check(written == bytes.size(), "cannot write ", path_.string(), ": ", std::strerror(errno));
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text)));
}

void AtomicFile::commit() {
  const bool flushed =
      std::fflush(file_) == 0 && (temporary_.empty() || ::fsync(::fileno(file_)) == 0);
  check(flushed, "cannot write ", path_.string(), ": ", std::strerror(errno));
  std::fclose(std::exchange(file_, nullptr));
  if (temporary_.empty()) {
    return;
  }
  std::error_code error;
  fs::rename(temporary_, target_, error);
  keep_on_interrupt(temporary_);
  if (error) {
    std::error_code ignored;
    fs::remove(temporary_, ignored);
    fail("cannot write ", path_.string(), ": ", error.message());
  }
}

std::string read_file(const fs::path& path) {
  if (path == "-") {
    return {std::istreambuf_iterator<char>(std::cin), {}};
  }
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(fd >= 0, "cannot open ", path.string(), ": ", std::strerror(errno));
  std::string text;
  char buffer[1 << 16];
  ssize_t n = 0;
  while ((n = ::read(fd, buffer, sizeof buffer)) > 0) {
    text.append(buffer, static_cast<size_t>(n));
  }
  const int error = errno;
  ::close(fd);
  check(n == 0, "cannot read ", path.string(), ": ", std::strerror(error));
  return text;
}

bool is_present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

void write_file(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace ssa
