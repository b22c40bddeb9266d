#include "distributed/watchdog.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "ranks.h"

namespace ssa {
namespace {

using std::chrono::milliseconds;

constexpr const char* kFolderVariable = "SSA_TEST_FOLDER";

int rank_count() {
  return test_device().is_cuda() ? 2 : 3;
}
int last_rank() {
  return rank_count() - 1;
}

/// What a rank's watchdog said before it ended its process.
std::filesystem::path message_path(int rank) {
  return std::filesystem::path(std::getenv(kFolderVariable)) / std::to_string(rank);
}

WatchdogOptions quick(int rank) {
  WatchdogOptions options;
  options.interval = milliseconds(100);
  options.dead_after = milliseconds(3000);
  // NCCL takes seconds to set itself up in the first operation.
  options.hang_after = milliseconds(test_device().is_cuda() ? 8000 : 4500);
  options.on_failure = [rank](const std::string& message) {
    std::ofstream(message_path(rank)) << message;
  };
  return options;
}

struct Outcome {
  int exit_code = 0;
  double seconds = 0;
  std::vector<std::string> messages;  // of the watchdogs, by rank; empty: none
};

/// Runs this test in some processes. These must end by themselves after one has failed; those that
/// do not, are killed after `grace`.
Outcome run_ranks(milliseconds grace = std::chrono::seconds(30)) {
  const auto folder = std::filesystem::temp_directory_path() / concat("ssa_watchdog_", getpid());
  std::filesystem::create_directories(folder);
  setenv(kFolderVariable, folder.c_str(), 1);
  LaunchOptions options;
  options.processes = rank_count();
  options.command = this_test();
  options.grace = grace;
  const auto start = std::chrono::steady_clock::now();
  Outcome out;
  out.exit_code = launch_processes(options);
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (int rank = 0; rank < rank_count(); ++rank) {
    std::ostringstream message;
    message << std::ifstream(message_path(rank)).rdbuf();
    out.messages.push_back(message.str());
  }
  remove_folder(folder);
  return out;
}

/// A step of training, to which `rank` is late by `delay`.
void step(ProcessGroup& group,
          Watchdog& watchdog,
          int64_t number,
          int late_rank = -1,
          milliseconds delay = milliseconds(0)) {
  if (group.rank() == late_rank) {
    std::this_thread::sleep_for(delay);
  }
  Tensor sum = torch::ones(10, group.device());
  group.all_reduce(sum);
  sum.cpu();
  watchdog.progress(number);
}

/// Joins, and meets all others: how long processes take to start is not what is watched here.
std::shared_ptr<ProcessGroup> join_watched() {
  std::signal(SIGTERM, SIG_IGN);  // the launcher's, when the first rank has failed
  auto group = ProcessGroup::from_environment(test_device());
  Tensor sum = torch::ones(1, group->device());
  group->all_reduce(sum);
  sum.cpu();
  return group;
}

TEST(Watchdog, ends_the_job_when_a_rank_is_killed) {
  if (is_rank()) {
    const auto group = join_watched();
    Watchdog watchdog(group, quick(group->rank()));
    step(*group, watchdog, 0);
    if (group->rank() == last_rank()) {
      raise(SIGKILL);
    }
    step(*group, watchdog, 1);
    FAIL() << "the operation cannot have worked";
  }
  const Outcome outcome = run_ranks();
  EXPECT_EQ(outcome.exit_code, 128 + SIGKILL);
  const std::string expected = concat("rank ", last_rank(), " is dead");
  for (int survivor = 0; survivor < last_rank(); ++survivor) {
    EXPECT_EQ(outcome.messages[survivor].find(expected), 0u) << outcome.messages[survivor];
  }
  EXPECT_LT(outcome.seconds, 45);
}

TEST(Watchdog, ends_the_job_when_the_host_of_the_store_is_killed) {
  if (is_rank()) {
    const auto group = join_watched();
    Watchdog watchdog(group, quick(group->rank()));
    step(*group, watchdog, 0);
    if (group->rank() == 0) {
      raise(SIGKILL);
    }
    step(*group, watchdog, 1);
    FAIL() << "the operation cannot have worked";
  }
  const Outcome outcome = run_ranks();
  for (int survivor = 1; survivor < rank_count(); ++survivor) {
    EXPECT_EQ(outcome.messages[survivor].find("rank 0 is dead"), 0u) << outcome.messages[survivor];
  }
  EXPECT_LT(outcome.seconds, 45);
}

TEST(Watchdog, ends_the_job_when_the_host_of_the_store_is_stopped) {
  if (is_rank()) {
    const auto group = join_watched();
    Watchdog watchdog(group, quick(group->rank()));
    step(*group, watchdog, 0);
    if (group->rank() == 0) {
      raise(SIGSTOP);
    }
    step(*group, watchdog, 1);
    FAIL() << "the operation cannot have worked";
  }
  const Outcome outcome = run_ranks(std::chrono::seconds(2));
  for (int survivor = 1; survivor < rank_count(); ++survivor) {
    EXPECT_EQ(outcome.messages[survivor],
              "rank 0 is dead or stopped: no answer from the job's store");
  }
  EXPECT_LT(outcome.seconds, 45);
}

TEST(Watchdog, ends_the_job_when_a_rank_hangs) {
  if (is_rank()) {
    const auto group = join_watched();
    Watchdog watchdog(group, quick(group->rank()));
    step(*group, watchdog, 0);
    step(*group, watchdog, 1, /*late_rank=*/1, std::chrono::seconds(60));
    FAIL() << "the operation cannot have worked";
  }
  const Outcome outcome = run_ranks();
  EXPECT_EQ(outcome.exit_code, 1);
  for (const std::string& message : outcome.messages) {
    EXPECT_EQ(message, "rank 1 hangs after step 0: the others have waited for it for 4.5 s");
  }
  EXPECT_LT(outcome.seconds, 45);
}

TEST(Watchdog, tells_the_others_why_a_rank_failed) {
  if (is_rank()) {
    const auto group = join_watched();
    Watchdog watchdog(group, quick(group->rank()));
    step(*group, watchdog, 0);
    if (group->rank() == 1) {
      watchdog.report_failure("the loss is NaN");
      std::_Exit(3);
    }
    step(*group, watchdog, 1);
    FAIL() << "the operation cannot have worked";
  }
  const Outcome outcome = run_ranks();
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_EQ(outcome.messages[0], "rank 1 failed: the loss is NaN");
  EXPECT_EQ(outcome.messages[1], "") << "it ends by itself";
  for (int rank = 2; rank < rank_count(); ++rank) {
    EXPECT_EQ(outcome.messages[rank], "rank 1 failed: the loss is NaN");
  }
}

TEST(Watchdog, waits_for_a_long_checkpoint_and_for_stragglers_at_the_end) {
  if (is_rank()) {
    const auto group = join_watched();
    Watchdog watchdog(group, quick(group->rank()));
    step(*group, watchdog, 0);
    if (group->is_main()) {
      const auto task = watchdog.long_task();
      std::this_thread::sleep_for(milliseconds(2500));
    }
    step(*group, watchdog, 1);
    std::this_thread::sleep_for(milliseconds(500) * group->rank());
    return;
  }
  const Outcome outcome = run_ranks();
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.messages, std::vector<std::string>(rank_count()));
}

TEST(Watchdog, one_process_needs_none) {
  Watchdog watchdog(ProcessGroup::single(torch::kCPU), {});
  watchdog.progress(1);
  const auto task = watchdog.long_task();
}

}  // namespace
}  // namespace ssa
