// The job's key-value store: c10d's TCPStore behind what this folder needs of it.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "distributed/launch_environment.h"

namespace c10d {
class Store;
}

namespace ssa {

/// One connection. Operations are one round trip to the store unless they say that they wait, and
/// throw Error if it is gone. A waiting one holds up those of other threads: a thread that must not
/// wait needs a connection of its own.
class Store {
 public:
  /// Rank 0 hosts the store in this process if `host` says so (once a job) and the launcher does
  /// not. Waits for the host at most `timeout`.
  static std::shared_ptr<Store> connect(const LaunchEnvironment& environment,
                                        bool host,
                                        std::chrono::milliseconds timeout);
  virtual ~Store() = default;

  virtual void set(const std::string& key, const std::string& value) = 0;
  /// The value, if the key is there now.
  virtual std::optional<std::string> get(const std::string& key) = 0;
  /// Waits until the key is there; nothing if `timeout` passes before.
  virtual std::optional<std::string> wait_for(const std::string& key,
                                              std::chrono::milliseconds timeout) = 0;
  virtual void remove(const std::string& key) = 0;

  virtual const c10::intrusive_ptr<c10d::Store>& c10d_store() const = 0;
};

/// The first line of an exception of LibTorch, without its backtrace.
std::string reason_of(const std::exception& error);

}  // namespace ssa
