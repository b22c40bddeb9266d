// Signals that end a program, and the temporary files and folders that it must not leave behind
// then.
#pragma once

#include <filesystem>

namespace ssa {

/// Ctrl-C stopped what was asked for; the program exits with 130.
struct Interrupted {};

/// Sets the signal's handler, unless whoever started the program had it ignored: so nohup does, and
/// it stays ignored. Returns whether the handler is set.
bool catch_signal(int signal, void (*handler)(int));

/// Registers a file, or a folder with the files that lie in it by then (but no folders), for
/// removal by remove_interrupted_files(). Thread-safe; at most 64 at once, more are not recorded.
void remove_on_interrupt(const std::filesystem::path& path);
/// Takes the path off the list again.
void keep_on_interrupt(const std::filesystem::path& path);
/// Removes what is registered. Safe to call from a signal handler.
void remove_interrupted_files();

/// While it lives, the first Ctrl-C behind arm() is only noted; a second one, or one before arm(),
/// does what it did before. One at a time.
class NotedInterrupt {
 public:
  NotedInterrupt();
  ~NotedInterrupt();
  NotedInterrupt(const NotedInterrupt&) = delete;
  NotedInterrupt& operator=(const NotedInterrupt&) = delete;

  void arm();
  bool noted() const;

 private:
  void (*before_)(int);
};

}  // namespace ssa
