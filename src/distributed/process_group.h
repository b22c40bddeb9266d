// Processes that train together, and what they say to each other: collectives over c10d (Gloo on
// the CPU, NCCL on CUDA). One process needs none of it: no store, no sockets, every operation
// trivial.
#pragma once

#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "distributed/launch_environment.h"

namespace ssa {

using torch::Tensor;

struct ProcessGroupOptions {
  std::chrono::seconds join_timeout{300};         ///< until all processes must have arrived
  std::chrono::seconds collective_timeout{1800};  ///< of one operation; a Watchdog is faster
};

/// An operation under way. Its tensors must stay as they are until wait() has returned.
class PendingCollective {
 public:
  virtual ~PendingCollective() = default;
  /// On the CPU blocks until the result is there; on CUDA the current stream waits for it. Throws
  /// Error if the operation failed.
  virtual void wait() = 0;
  /// Seconds from start to end; known after wait(), on CUDA only once the device has got there
  /// (which this call waits for). 0 where there is one process.
  virtual double seconds() = 0;
};

/// All processes must call the same operations in the same order, with tensors of equal shape and
/// dtype (float32, float64, bfloat16, int64, ...), contiguous and on device(). Operations throw
/// Error if another process is gone or the timeout has passed. Not thread-safe.
class ProcessGroup {
 public:
  /// Joins the job that the environment describes (launch_environment.h), and waits until all are
  /// there. `device` is CPU or CUDA; CUDA without an index is the GPU numbered LOCAL_RANK. Throws
  /// Error for missing variables, more local ranks than GPUs, two processes on one GPU, and ranks
  /// that do not arrive.
  static std::shared_ptr<ProcessGroup> from_environment(torch::Device device,
                                                        const ProcessGroupOptions& options = {});
  /// A group of this process alone.
  static std::shared_ptr<ProcessGroup> single(torch::Device device);

  virtual ~ProcessGroup() = default;
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return environment_.rank; }
  int size() const { return environment_.size; }
  int local_rank() const { return environment_.local_rank; }
  /// Rank 0: the one that prints and writes.
  bool is_main() const { return rank() == 0; }
  /// Where this process computes; CUDA with its index.
  torch::Device device() const { return device_; }
  const LaunchEnvironment& environment() const { return environment_; }

  /// `tensor` becomes the sum over all processes, in place.
  void all_reduce(Tensor tensor);
  virtual std::unique_ptr<PendingCollective> all_reduce_async(Tensor tensor) = 0;
  /// `whole`, size() times as many elements as `part`: every rank's `part`, in order of ranks.
  /// `part` may be the own slice of `whole`.
  virtual void all_gather_into(Tensor whole, const Tensor& part) = 0;
  /// `part` becomes the slice number rank() of the sum of `whole` over all processes; `whole` is
  /// left undefined.
  virtual void reduce_scatter_into(Tensor part, Tensor whole) = 0;
  /// `tensor` becomes that of rank `root`.
  virtual void broadcast(Tensor tensor, int root = 0) = 0;
  /// Returns when all processes have called it (on CUDA: and their devices have got there).
  virtual void barrier() = 0;

  /// Every rank's text, in order of ranks, on all ranks. For small texts (up to about 1 MB).
  virtual std::vector<std::string> gather_text(const std::string& text) = 0;
  /// Throws Error on all ranks unless all gave the same text: "NAME of rank 2 differs from rank
  /// 0's: line 3 is 'lr = 1' instead of 'lr = 2'".
  void check_same(const std::string& name, const std::string& text);

  /// Operations started so far; equal on all processes when all have come equally far. May be read
  /// from any thread.
  virtual uint64_t operations() const = 0;
  /// Called with the reason before an operation throws; may block, or end the process with a better
  /// reason (Watchdog). Empty: nothing.
  virtual void on_failure(std::function<void(const std::string& reason)> handler) = 0;

 protected:
  ProcessGroup(LaunchEnvironment environment, torch::Device device)
      : environment_(std::move(environment)), device_(device) {}

 private:
  LaunchEnvironment environment_;
  torch::Device device_;
};

}  // namespace ssa
