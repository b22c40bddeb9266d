#include "base/interrupt.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <mutex>

namespace ssa {
namespace {

// A signal handler may neither lock nor allocate: fixed slots, each published by its flag.
struct Slot {
  std::atomic<bool> used = false;
  char path[1024];
};
std::array<Slot, 64> slots;
std::mutex slots_mutex;

}  // namespace

void remove_on_interrupt(const std::filesystem::path& path) {
  const std::string text = std::filesystem::absolute(path).string();
  const std::lock_guard lock(slots_mutex);
  for (Slot& slot : slots) {
    if (!slot.used && text.size() < sizeof slot.path) {
      std::memcpy(slot.path, text.c_str(), text.size() + 1);
      slot.used = true;
      return;
    }
  }
}

void keep_on_interrupt(const std::filesystem::path& path) {
  const std::string text = std::filesystem::absolute(path).string();
  const std::lock_guard lock(slots_mutex);
  for (Slot& slot : slots) {
    if (slot.used && text == slot.path) {
      slot.used = false;
    }
  }
}

void remove_interrupted_files() {
  for (Slot& slot : slots) {
    if (slot.used) {
      ::unlink(slot.path);
    }
  }
}

}  // namespace ssa
