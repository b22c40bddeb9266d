#include "distributed/c10d_process_group.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Logging.h>
#include <torch/cuda.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>

#include "base/error.h"
#include "base/text.h"
#include "distributed/backends.h"
#include "distributed/process_identity.h"

namespace ssa {

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using WorkPtr = c10::intrusive_ptr<c10d::Work>;

/// How long the operations of a CPU backend ran, which runs them one after the other: the time that
/// one waits for another is not its own.
class SerialClock {
 public:
  double length(Clock::time_point queued, Clock::time_point ended) {
    std::lock_guard lock(mutex_);
    const Clock::time_point began = std::max(queued, last_end_);
    last_end_ = std::max(last_end_, ended);
    return Seconds(ended - began).count();
  }

 private:
  std::mutex mutex_;
  Clock::time_point last_end_;
};

/// Turns what a backend throws into Error, after the group's failure handler has seen it.
class FailureReporter {
 public:
  template <class Operation>
  auto guard(const char* name, Operation&& operation) {
    try {
      return operation();
    } catch (const Error& error) {
      report(error.what());
    } catch (const std::exception& error) {
      report(concat(name, " failed: ", reason_of(error)));
    }
  }

  void set_handler(std::function<void(const std::string&)> handler) {
    handler_ = std::move(handler);
  }

  [[noreturn]] void report(const std::string& reason) {
    if (handler_) {
      handler_(reason);
    }
    fail(reason);
  }

 private:
  std::function<void(const std::string&)> handler_;
};

class CpuCollective : public PendingCollective {
 public:
  CpuCollective(WorkPtr work,
                std::shared_ptr<FailureReporter> failures,
                std::shared_ptr<SerialClock> clock)
      : work_(std::move(work)), failures_(std::move(failures)) {
    const auto note_length =
        [length = length_, clock = std::move(clock), queued = Clock::now()](c10::ivalue::Future&) {
          *length = clock->length(queued, Clock::now());
        };
    work_->getFuture()->addCallback(note_length);
  }

  void wait() override {
    failures_->guard("all_reduce", [&] { work_->wait(); });
  }

  double seconds() override { return *length_; }

 private:
  WorkPtr work_;
  std::shared_ptr<FailureReporter> failures_;
  std::shared_ptr<std::atomic<double>> length_ = std::make_shared<std::atomic<double>>(0);
};

class CudaCollective : public PendingCollective {
 public:
  CudaCollective(WorkPtr work, std::shared_ptr<FailureReporter> failures)
      : work_(std::move(work)), failures_(std::move(failures)) {}

  void wait() override {
    failures_->guard("all_reduce", [&] { work_->wait(); });
  }

  double seconds() override {
    return failures_->guard("all_reduce", [&] {
      if (!work_->isCompleted()) {
        torch::cuda::synchronize();
      }
      return 1e-3 * work_->getDuration();
    });
  }

 private:
  WorkPtr work_;
  std::shared_ptr<FailureReporter> failures_;
};

class C10dProcessGroup : public ProcessGroup {
 public:
  C10dProcessGroup(const LaunchEnvironment& environment,
                   torch::Device device,
                   std::shared_ptr<Store> store,
                   const ProcessGroupOptions& options)
      : ProcessGroup(environment, device), store_(std::move(store)), options_(options) {}

  ~C10dProcessGroup() override {
    if (!backend_) {
      return;
    }
    try {
      std::uncaught_exceptions() > 0 ? backend_->abort() : backend_->shutdown();
    } catch (const std::exception&) {
      // The operations have reported what is wrong.
    }
  }

  /// Makes the backend. Until then there are only texts to gather.
  void open_backend() {
    const auto make = device().is_cuda() ? make_nccl_backend : make_gloo_backend;
    failures_->guard("connecting the processes",
                     [&] { backend_ = make(*store_, environment(), options_.collective_timeout); });
  }

  std::unique_ptr<PendingCollective> all_reduce_async(Tensor tensor) override {
    std::vector<Tensor> tensors = {std::move(tensor)};
    ++operations_;
    auto work = failures_->guard(
        "all_reduce", [&] { return backend_->allreduce(tensors, c10d::AllreduceOptions()); });
    if (device().is_cuda()) {
      return std::make_unique<CudaCollective>(std::move(work), failures_);
    }
    return std::make_unique<CpuCollective>(std::move(work), failures_, clock_);
  }

  void all_gather_into(Tensor whole, const Tensor& part) override {
    check_sizes("all_gather_into", whole, part);
    Tensor input = part;
    finish("all_gather_into",
           [&] { return backend_->_allgather_base(whole, input, c10d::AllgatherOptions()); });
  }

  void reduce_scatter_into(Tensor part, Tensor whole) override {
    check_sizes("reduce_scatter_into", whole, part);
    finish("reduce_scatter_into", [&] {
      return backend_->_reduce_scatter_base(part, whole, c10d::ReduceScatterOptions());
    });
  }

  void broadcast(Tensor tensor, int root) override {
    std::vector<Tensor> tensors = {std::move(tensor)};
    c10d::BroadcastOptions broadcast;
    broadcast.rootRank = root;
    finish("broadcast", [&] { return backend_->broadcast(tensors, broadcast); });
  }

  void barrier() override {
    c10d::BarrierOptions barrier;
    if (device().is_cuda()) {
      barrier.device_ids = {device().index()};
    }
    finish("barrier", [&] { return backend_->barrier(barrier); });
  }

  std::vector<std::string> gather_text(const std::string& text) override {
    return gather_text(text, options_.collective_timeout);
  }

  /// The same, with a time of its own until all must have come.
  std::vector<std::string> gather_text(const std::string& text, std::chrono::seconds timeout) {
    ++operations_;
    const int64_t round = text_round_++;
    const Clock::time_point deadline = Clock::now() + timeout;
    return failures_->guard("gather_text", [&] {
      if (round >= 2) {  // read by all: they have written the round after it
        store_->remove(text_key(round - 2, rank()));
      }
      store_->set(text_key(round, rank()), text);
      std::vector<std::string> texts;
      for (int from = 0; from < size(); ++from) {
        texts.push_back(wait_for_rank(text_key(round, from), from, deadline));
      }
      acknowledge(concat("read/", round, "/"), deadline);
      return texts;
    });
  }

  uint64_t operations() const override { return operations_; }

  void on_failure(std::function<void(const std::string&)> handler) override {
    failures_->set_handler(std::move(handler));
  }

 private:
  static std::string text_key(int64_t round, int rank) { return concat("text/", round, "/", rank); }

  std::string wait_for_rank(const std::string& key, int from, Clock::time_point deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    auto found = store_->wait_for(key, std::max(left, std::chrono::milliseconds(1)));
    check(found.has_value(), "rank ", from, " of ", size(), " did not arrive in time");
    return std::move(*found);
  }

  /// Rank 0 may end next, and its store with it: not before all others have read.
  void acknowledge(const std::string& prefix, Clock::time_point deadline) {
    if (rank() != 0) {
      store_->set(concat(prefix, rank()), "");
      return;
    }
    for (int from = 1; from < size(); ++from) {
      const std::string key = concat(prefix, from);
      wait_for_rank(key, from, deadline);
      store_->remove(key);
    }
  }

  template <class Start>
  void finish(const char* name, Start&& start) {
    ++operations_;
    failures_->guard(name, [&] { start()->wait(); });
  }

  void check_sizes(const char* name, const Tensor& whole, const Tensor& part) const {
    check(whole.numel() == part.numel() * size(),
          name,
          ": ",
          whole.numel(),
          " elements in all, ",
          part.numel(),
          " a process, ",
          size(),
          " processes");
  }

  std::shared_ptr<Store> store_;  // outlives the backend, which uses it
  ProcessGroupOptions options_;
  std::shared_ptr<FailureReporter> failures_ = std::make_shared<FailureReporter>();
  std::shared_ptr<SerialClock> clock_ = std::make_shared<SerialClock>();
  c10::intrusive_ptr<c10d::Backend> backend_;
  std::atomic<uint64_t> operations_ = 0;
  int64_t text_round_ = 0;
};

/// LibTorch's warnings about sockets, with backtraces, would bury the line that names a rank.
void silence_warnings() {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) {
    FLAGS_caffe2_log_level = 2;  // errors
  }
}

ProcessIdentity identify(const LaunchEnvironment& environment, torch::Device device) {
  ProcessIdentity out;
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  out.host = host;
  if (device.is_cuda()) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    out.gpu = visible_gpu(device.index(),
                          visible == nullptr ? std::nullopt : std::optional<std::string>(visible));
    out.problem = gpu_problem(device.index(),
                              environment.local_rank,
                              environment.local_size,
                              static_cast<int>(torch::cuda::device_count()));
  }
  return out;
}

}  // namespace

std::shared_ptr<ProcessGroup> join_c10d_group(const LaunchEnvironment& environment,
                                              torch::Device device,
                                              const ProcessGroupOptions& options) {
  if (device.is_cuda() && !device.has_index()) {
    device = torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(environment.local_rank));
  }
  silence_warnings();
  auto store = Store::connect(environment, /*host=*/true, options.join_timeout);
  auto group = std::make_shared<C10dProcessGroup>(environment, device, std::move(store), options);
  std::vector<ProcessIdentity> processes;
  for (const std::string& text :
       group->gather_text(identify(environment, device).to_text(), options.join_timeout)) {
    processes.push_back(ProcessIdentity::from_text(text));
  }
  check_identities(processes);
  if (device.is_cuda()) {
    c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
  }
  group->open_backend();
  return group;
}

}  // namespace ssa
