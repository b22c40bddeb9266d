#include "base/interrupt.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
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

std::atomic<bool> interrupt_armed = false, interrupt_noted = false;
std::atomic<void (*)(int)> interrupt_before = SIG_DFL;

extern "C" void note_interrupt(int signal) {
  if (interrupt_armed && !interrupt_noted.exchange(true)) {
    return;
  }
  void (*before)(int) = interrupt_before;
  if (before == SIG_DFL) {
    std::signal(signal, SIG_DFL);
    ::raise(signal);
  } else {
    before(signal);
  }
}

/// Removes a folder and the files in it. Its entries are read by the bare system call: opendir
/// allocates.
void remove_folder(const char* path) {
  const int folder = ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) {
    return;
  }
  alignas(dirent64) static char buffer[1 << 14];
  long n_bytes = 0;
  while ((n_bytes = ::syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < n_bytes;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      ::unlinkat(folder, entry->d_name, 0);  // refuses "." and ".."
      at += entry->d_reclen;
    }
  }
  ::close(folder);
  ::rmdir(path);
}

}  // namespace

bool catch_signal(int signal, void (*handler)(int)) {
  struct sigaction present = {};
  if (::sigaction(signal, nullptr, &present) == 0 && present.sa_handler == SIG_IGN) {
    return false;
  }
  return std::signal(signal, handler) != SIG_ERR;
}

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

NotedInterrupt::NotedInterrupt() : before_(SIG_IGN) {
  struct sigaction present = {};
  if (::sigaction(SIGINT, nullptr, &present) == 0 && present.sa_handler != SIG_IGN) {
    before_ = present.sa_handler;
    interrupt_before = before_;
    interrupt_armed = false;
    interrupt_noted = false;
    std::signal(SIGINT, note_interrupt);
  }
}

NotedInterrupt::~NotedInterrupt() {
  if (before_ != SIG_IGN) {
    std::signal(SIGINT, before_);
  }
}

void NotedInterrupt::arm() {
  interrupt_armed = true;
}

bool NotedInterrupt::noted() const {
  return interrupt_noted;
}

void remove_interrupted_files() {
  for (Slot& slot : slots) {
    if (slot.used && ::unlink(slot.path) != 0) {
      remove_folder(slot.path);
    }
  }
}

}  // namespace ssa
