#include "distributed/gradient_reducer.h"

#include <torch/autograd.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <deque>

#include "base/error.h"
#include "distributed/stream_timer.h"

namespace ssa {

namespace {

/// LibTorch calls it whenever a backward pass has added to a parameter's gradient.
class GradientHook : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit GradientHook(std::function<void()> ready) : ready_(std::move(ready)) {}
  void operator()(const torch::autograd::Variable&) override { ready_(); }

 private:
  std::function<void()> ready_;
};

/// A bucket's way through a step.
struct BucketState {
  GradientBucket bucket;
  std::vector<bool> ready;  ///< by parameter, since begin()
  size_t waiting_for = 0;   ///< parameters that are not ready
};

/// What a step's reductions took, known once the device has got there.
struct StepRecord {
  std::vector<std::unique_ptr<PendingCollective>> reductions;
  StreamTimer blocked;
};

}  // namespace

double ReductionTimes::hidden_share() const {
  return under_way > 0 ? std::clamp(1 - blocked / under_way, 0.0, 1.0) : 1.0;
}

class GradientReducer::Impl {
 public:
  Impl(std::shared_ptr<ProcessGroup> group,
       const std::vector<FlatGradients>& gradients,
       const GradientReducerOptions& options)
      : group_(std::move(group)) {
    for (const FlatGradients& flat : gradients) {
      buffers_.push_back(flat.buffer);
    }
    for (GradientBucket& bucket : cut_into_buckets(gradients, options.bucket_bytes)) {
      buckets_.push_back({.bucket = std::move(bucket), .ready = {}, .waiting_for = 0});
    }
    if (group_->size() > 1) {
      for_each_parameter([this](const Tensor& parameter, size_t bucket, size_t number) {
        auto ready = [this, bucket, number, address = parameter.grad().data_ptr()] {
          on_gradient(bucket, number, address);
        };
        torch::autograd::impl::set_post_acc_grad_hooks(parameter,
                                                       std::make_unique<GradientHook>(ready));
      });
    }
  }

  ~Impl() {
    if (group_->size() > 1) {
      for_each_parameter([](const Tensor& parameter, size_t, size_t) {
        torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
      });
    }
  }

  void begin() {
    for (BucketState& state : buckets_) {
      state.ready.assign(state.bucket.parameters.size(), false);
      state.waiting_for = state.bucket.parameters.size();
    }
    reductions_.clear();
    armed_ = true;
  }

  void finish(double scale) {
    armed_ = false;
    if (group_->size() > 1) {
      while (reductions_.size() < buckets_.size()) {
        start_next();
      }
      wait_for_all();
    }
    const torch::NoGradGuard no_grad;
    for (Tensor& buffer : buffers_) {
      if (scale != 1) {
        buffer.mul_(scale);
      }
    }
    ++times_.steps;
  }

  int64_t bucket_count() const { return static_cast<int64_t>(buckets_.size()); }

  ReductionTimes times() {
    while (!records_.empty()) {
      add_oldest_record();
    }
    return times_;
  }

 private:
  template <class Visit>
  void for_each_parameter(const Visit& visit) {
    for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
      const std::vector<Tensor>& parameters = buckets_[bucket].bucket.parameters;
      for (size_t i = 0; i < parameters.size(); ++i) {
        visit(parameters[i], bucket, i);
      }
    }
  }

  void on_gradient(size_t bucket, size_t number, const void* address) {
    if (!armed_) {
      return;  // an earlier micro-batch
    }
    BucketState& state = buckets_[bucket];
    check(state.bucket.parameters[number].grad().data_ptr() == address,
          "a gradient has left its flat buffer: it was unset instead of zeroed");
    check(!state.ready[number], "a gradient came twice in a step's last backward pass");
    state.ready[number] = true;
    --state.waiting_for;
    // In order of buckets, since that is the order on every rank.
    while (reductions_.size() < buckets_.size() && buckets_[reductions_.size()].waiting_for == 0) {
      start_next();
    }
  }

  void start_next() {
    const GradientBucket& bucket = buckets_[reductions_.size()].bucket;
    reductions_.push_back(group_->all_reduce_async(bucket.gradients));
  }

  void wait_for_all() {
    StreamTimer blocked(group_->device());
    for (const auto& reduction : reductions_) {
      reduction->wait();
    }
    blocked.stop();
    records_.push_back({.reductions = std::move(reductions_), .blocked = std::move(blocked)});
    reductions_.clear();
    while (!records_.empty() && records_.front().blocked.is_done()) {
      add_oldest_record();
    }
  }

  void add_oldest_record() {
    times_.blocked += records_.front().blocked.seconds();
    for (const auto& reduction : records_.front().reductions) {
      times_.under_way += reduction->seconds();
    }
    records_.pop_front();
  }

  std::shared_ptr<ProcessGroup> group_;
  std::vector<Tensor> buffers_;
  std::vector<BucketState> buckets_;
  bool armed_ = false;
  std::vector<std::unique_ptr<PendingCollective>> reductions_;  // of the first buckets, this step
  std::deque<StepRecord> records_;                              // not yet in times_
  ReductionTimes times_;
};

GradientReducer::GradientReducer(std::shared_ptr<ProcessGroup> group,
                                 const std::vector<FlatGradients>& gradients,
                                 const GradientReducerOptions& options)
    : impl_(std::make_unique<Impl>(std::move(group), gradients, options)) {}

GradientReducer::~GradientReducer() = default;

void GradientReducer::begin() {
  impl_->begin();
}
void GradientReducer::finish(double scale) {
  impl_->finish(scale);
}
int64_t GradientReducer::bucket_count() const {
  return impl_->bucket_count();
}
ReductionTimes GradientReducer::times() {
  return impl_->times();
}

}  // namespace ssa
