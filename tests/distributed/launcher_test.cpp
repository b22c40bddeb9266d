#include "distributed/launcher.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "ranks.h"

namespace ssa {
namespace {

namespace fs = std::filesystem;

/// Runs a shell script as every rank.
class Launcher : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("ssa_launcher_", getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { remove_folder(folder_); }

  int run(int processes, const std::string& script) {
    LaunchOptions options;
    options.processes = processes;
    options.command = {"sh", "-c", "cd " + folder_.string() + "; " + script};
    options.grace = std::chrono::milliseconds(500);
    options.report = [&](const std::string& line) { reports_.push_back(line); };
    const auto start = std::chrono::steady_clock::now();
    const int code = launch_processes(options);
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return code;
  }

  std::string read(const std::string& name) const {
    std::string line;
    std::ifstream file(folder_ / name);
    std::getline(file, line);
    return line;
  }

  fs::path folder_;
  std::vector<std::string> reports_;
  double seconds_ = 0;
};

TEST_F(Launcher, gives_every_rank_its_place) {
  EXPECT_EQ(run(3,
                "echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR >$RANK;"
                "echo $MASTER_PORT >port$RANK; test $OMP_NUM_THREADS -ge 1"),
            0);
  for (const char* rank : {"0", "1", "2"}) {
    EXPECT_EQ(read(rank), concat(rank, " ", rank, " 3 3 127.0.0.1"));
    EXPECT_EQ(read(concat("port", rank)), read("port0"));
  }
  EXPECT_TRUE(reports_.empty());
}

TEST_F(Launcher, names_the_rank_that_fails_and_ends_the_others) {
  EXPECT_EQ(run(3, "test $RANK = 1 && exit 7; exec sleep 60"), 7);
  EXPECT_EQ(reports_, std::vector<std::string>{"rank 1 ended with exit code 7"});
  EXPECT_LT(seconds_, 10);
}

TEST_F(Launcher, kills_those_that_do_not_end) {
  EXPECT_EQ(run(2, "test $RANK = 1 && kill -9 $$; trap '' TERM; exec sleep 60"), 128 + SIGKILL);
  EXPECT_EQ(reports_, std::vector<std::string>{"rank 1 was ended by signal 9 (Killed)"});
  EXPECT_LT(seconds_, 10);
}

TEST_F(Launcher, passes_signals_on) {
  // A rank asks its parent, the launcher, to end; both then end well by their own handlers.
  EXPECT_EQ(
      run(2,
          "trap 'echo asked >got$RANK; exit 0' TERM; echo >ready$RANK;"
          "if test $RANK = 0; then while ! test -e ready1; do sleep 0.02; done; kill $PPID; fi;"
          "while :; do sleep 0.02; done"),
      0);
  EXPECT_EQ(read("got0"), "asked");
  EXPECT_EQ(read("got1"), "asked");
  EXPECT_TRUE(reports_.empty());
}

TEST_F(Launcher, passes_a_hangup_on_unless_it_is_ignored) {
  const std::string hang_up = "test $RANK = 0 && kill -HUP $PPID; ";
  EXPECT_EQ(run(2, hang_up + "exec sleep 60"), 128 + SIGHUP);
  EXPECT_TRUE(reports_.empty());
  const auto before = std::signal(SIGHUP, SIG_IGN);
  EXPECT_EQ(run(2, hang_up + "kill -HUP $$; sleep 0.1"), 0);
  std::signal(SIGHUP, before);
}

TEST_F(Launcher, does_not_call_a_requested_end_a_failure) {
  EXPECT_EQ(run(2, "test $RANK = 0 && kill $PPID; exec sleep 60"), 128 + SIGTERM);
  EXPECT_TRUE(reports_.empty());
}

TEST_F(Launcher, refuses_what_cannot_be_started) {
  LaunchOptions options;
  options.command = {"no-such-program"};
  options.report = [&](const std::string& line) { reports_.push_back(line); };
  EXPECT_EQ(launch_processes(options), 127);
  EXPECT_EQ(reports_, std::vector<std::string>{"rank 0 could not be started: no-such-program"});
  for (const int processes : {0, -1, 1025}) {
    options.processes = processes;
    EXPECT_THROW(launch_processes(options), Error) << processes;
  }
}

}  // namespace
}  // namespace ssa
