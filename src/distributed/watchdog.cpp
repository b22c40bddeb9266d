#include "distributed/watchdog.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "distributed/peer_watch.h"
#include "distributed/store.h"

namespace ssa {

namespace {

using Clock = PeerWatch::Clock;
using std::chrono::milliseconds;

constexpr const char* kFailureKey = "watchdog/failure";

std::string state_key(int rank) {
  return concat("watchdog/", rank);
}

}  // namespace

/// Two threads: one talks to the store, the other ends the process when the first gets no answer.
class Watchdog::Impl {
 public:
  Impl(std::shared_ptr<ProcessGroup> group, WatchdogOptions options)
      : group_(std::move(group)),
        options_(std::move(options)),
        store_(Store::connect(group_->environment(), /*host=*/false, options_.dead_after)),
        watch_(group_->rank(),
               group_->size(),
               {options_.dead_after, options_.hang_after},
               Clock::now()),
        last_round_(Clock::now()) {
    group_->on_failure([this](const std::string&) { wait_for_verdict(); });
    beat_thread_ = std::thread([this] { beat_until_stopped(); });
    guard_thread_ = std::thread([this] { guard_until_stopped(); });
  }

  ~Impl() {
    group_->on_failure({});
    if (std::uncaught_exceptions() > exceptions_) {
      report_failure("ended by an error");
    } else {
      leave();
    }
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    beat_thread_.join();
    {
      std::lock_guard lock(mutex_);
      beat_ended_ = true;
    }
    wake_.notify_all();
    guard_thread_.join();
  }

  void progress(int64_t step) { step_ = step; }
  void begin_long_task() { ++long_tasks_; }
  void end_long_task() { --long_tasks_; }

  void report_failure(const std::string& reason) {
    std::unique_lock lock(mutex_);
    if (!own_failure_.empty()) {
      return;
    }
    own_failure_ = concat("rank ", group_->rank(), " failed: ", reason);
    wake_.notify_all();
    wake_.wait_for(lock, options_.dead_after, [&] { return is_reported_; });
    lock.unlock();
    linger_as_host();
  }

 private:
  // The thread that talks to the store.

  void beat_until_stopped() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      lock.unlock();
      try {
        beat();
      } catch (const Error& error) {
        end_without_store(error.what());
      }
      lock.lock();
      wake_.wait_for(lock, options_.interval, [&] { return stopping_ || has_news(); });
    }
  }

  bool has_news() const {
    return (leaving_ && !has_left_) || (!own_failure_.empty() && !is_reported_);
  }

  void beat() {
    publish_own_failure();
    if (const auto failure = store_->get(kFailureKey)) {
      if (*failure != own_failure()) {
        end_process(*failure);
      }
      mark_round();
      return;  // this rank's own, which ends itself
    }
    publish_state();
    std::vector<std::optional<RankState>> states(group_->size());
    for (int rank = 0; rank < group_->size(); ++rank) {
      if (const auto text = store_->get(state_key(rank))) {
        states[rank] = RankState::from_text(*text);
      }
    }
    if (is_suspicious_) {
      watch_.expect_death_within(options_.interval * 5);
    }
    if (const auto verdict = watch_.update(states, Clock::now())) {
      store_->set(kFailureKey, *verdict);
      end_process(*verdict);
    }
    mark_round();
  }

  void publish_state() {
    state_.step = step_;
    state_.operations = group_->operations();
    state_.long_task = long_tasks_ > 0;
    ++state_.beat;
    {
      std::lock_guard lock(mutex_);
      state_.has_left = leaving_;
    }
    store_->set(state_key(group_->rank()), state_.to_text());
  }

  void publish_own_failure() {
    const std::string failure = own_failure();
    if (!failure.empty() && !store_->get(kFailureKey)) {
      store_->set(kFailureKey, failure);
    }
    if (!failure.empty()) {
      std::lock_guard lock(mutex_);
      is_reported_ = true;
      wake_.notify_all();
    }
  }

  std::string own_failure() {
    std::lock_guard lock(mutex_);
    return own_failure_;
  }

  void mark_round() {
    std::lock_guard lock(mutex_);
    last_round_ = Clock::now();
    has_left_ = state_.has_left;
    all_left_ = watch_.all_others_left();
    wake_.notify_all();
  }

  // The thread that watches the first.

  void guard_until_stopped() {
    std::unique_lock lock(mutex_);
    while (!beat_ended_) {
      const Clock::time_point before = Clock::now();
      wake_.wait_for(lock, options_.interval, [&] { return beat_ended_; });
      if (Clock::now() - before > options_.dead_after / 2) {
        last_round_ = Clock::now();  // this process has slept itself
      }
      if (!beat_ended_ && Clock::now() - last_round_ > options_.dead_after) {
        lock.unlock();
        end_without_store("no answer from the job's store");
      }
    }
  }

  // Ends.

  /// The host of the store is dead or hangs as a whole.
  void end_without_store(const std::string& reason) {
    const bool elsewhere = group_->environment().launcher_hosts_store || group_->rank() == 0;
    end_process(elsewhere ? reason : concat("rank 0 is dead or stopped: ", reason));
  }

  void end_process(const std::string& message) {
    if (has_ended_.exchange(true)) {
      std::this_thread::sleep_for(options_.dead_after);  // the other thread is at it
    } else {
      if (options_.on_failure) {
        options_.on_failure(message);
      }
      linger_as_host();
    }
    std::_Exit(1);
  }

  /// Gives the others the time to read the reason from the store that this process hosts.
  void linger_as_host() const {
    const LaunchEnvironment& environment = group_->environment();
    if (environment.rank == 0 && !environment.launcher_hosts_store) {
      std::this_thread::sleep_for(options_.interval * 3);
    }
  }

  /// An operation failed, most likely since another process is gone: which one, is known soon.
  void wait_for_verdict() {
    is_suspicious_ = true;
    std::this_thread::sleep_for(std::min(options_.interval * 8, options_.dead_after));
  }

  void leave() {
    std::unique_lock lock(mutex_);
    if (!own_failure_.empty()) {
      return;
    }
    leaving_ = true;
    wake_.notify_all();
    const bool waits_for_all = group_->rank() == 0;  // while the first thread watches over them
    wake_.wait(lock, [&] { return has_left_ && (all_left_ || !waits_for_all); });
  }

  std::shared_ptr<ProcessGroup> group_;
  WatchdogOptions options_;
  std::shared_ptr<Store> store_;  // a connection of its own: others wait for minutes
  const int exceptions_ = std::uncaught_exceptions();
  std::atomic<int64_t> step_ = -1;
  std::atomic<int> long_tasks_ = 0;
  std::atomic<bool> is_suspicious_ = false;
  std::atomic<bool> has_ended_ = false;

  // The first thread's own.
  RankState state_;
  PeerWatch watch_;

  std::mutex mutex_;
  std::condition_variable wake_;
  Clock::time_point last_round_;
  std::string own_failure_;
  bool is_reported_ = false;
  bool leaving_ = false;
  bool has_left_ = false;  // and the others know
  bool all_left_ = false;
  bool stopping_ = false;
  bool beat_ended_ = false;
  std::thread beat_thread_, guard_thread_;
};

Watchdog::Watchdog(std::shared_ptr<ProcessGroup> group, WatchdogOptions options) {
  if (group->size() > 1) {
    impl_ = std::make_unique<Impl>(std::move(group), std::move(options));
  }
}

Watchdog::~Watchdog() = default;

void Watchdog::progress(int64_t step) {
  if (impl_) {
    impl_->progress(step);
  }
}

void Watchdog::report_failure(const std::string& reason) {
  if (impl_) {
    impl_->report_failure(reason);
  }
}

Watchdog::LongTask::LongTask(Watchdog& watchdog) : watchdog_(watchdog) {
  if (watchdog_.impl_) {
    watchdog_.impl_->begin_long_task();
  }
}

Watchdog::LongTask::~LongTask() {
  if (watchdog_.impl_) {
    watchdog_.impl_->end_long_task();
  }
}

}  // namespace ssa
