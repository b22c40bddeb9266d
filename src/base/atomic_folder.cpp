#include "base/atomic_folder.h"

#include <unistd.h>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/list_folder.h"
#include "base/remove_folder.h"

namespace ssa {
namespace fs = std::filesystem;
namespace {

/// True if a folder of that name may be made: nothing is there, or an empty folder.
bool is_free(const fs::path& target, std::error_code& error) {
  if (!fs::exists(target, error)) {
    return true;
  }
  return fs::is_directory(target, error) && list_folder(target).empty();
}

}  // namespace

AtomicFolder::AtomicFolder(const fs::path& target)
    : target_(fs::absolute(target).lexically_normal()) {
  if (!target_.has_filename()) {  // "out/"
    target_ = target_.parent_path();
  }
  std::error_code error;
  const bool free = is_free(target_, error);
  check(!error, "cannot write ", target.string(), ": ", error.message());
  check(free, "cannot write ", target.string(), ": it exists and is not an empty folder");
  temporary_ = target_;
  temporary_ += concat(".partial-", ::getpid());
  fs::create_directory(temporary_, error);
  check(!error, "cannot write ", target.string(), ": ", error.message());
  remove_on_interrupt(temporary_);
}

AtomicFolder::~AtomicFolder() {
  if (!committed_) {
    remove_folder(temporary_);
    keep_on_interrupt(temporary_);
  }
}

void AtomicFolder::commit() {
  std::error_code error;
  fs::rename(temporary_, target_, error);  // an empty folder of that name gives way
  check(!error, "cannot write ", target_.string(), ": ", error.message());
  committed_ = true;
  keep_on_interrupt(temporary_);
}

}  // namespace ssa
