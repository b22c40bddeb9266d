#include "distributed/launcher.h"

#include <arpa/inet.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>
#include <optional>
#include <thread>

#include "base/error.h"

extern char** environ;

namespace ssa {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMaxSpawned = 1024;
constexpr std::chrono::milliseconds kPollInterval(20);
constexpr int kCannotStart = 127;  ///< what a shell returns for a command that it does not find

/// An array of C strings that execve takes.
class CStrings {
 public:
  explicit CStrings(std::vector<std::string> texts) : texts_(std::move(texts)) {
    for (std::string& text : texts_) {
      pointers_.push_back(text.data());
    }
    pointers_.push_back(nullptr);
  }
  CStrings(const CStrings&) = delete;
  CStrings& operator=(const CStrings&) = delete;
  char** data() { return pointers_.data(); }

 private:
  std::vector<std::string> texts_;
  std::vector<char*> pointers_;
};

/// This process's environment with the variables of the job in it.
std::vector<std::string> child_environment(int rank, int size, uint16_t port) {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string::npos) {
      variables[text.substr(0, equals)] = text.substr(equals + 1);
    }
  }
  variables["RANK"] = variables["LOCAL_RANK"] = std::to_string(rank);
  variables["WORLD_SIZE"] = variables["LOCAL_WORLD_SIZE"] = std::to_string(size);
  variables["MASTER_ADDR"] = "127.0.0.1";
  variables["MASTER_PORT"] = std::to_string(port);
  variables.erase("TORCHELASTIC_USE_AGENT_STORE");
  variables.erase("TORCHELASTIC_RESTART_COUNT");
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  variables.try_emplace("OMP_NUM_THREADS", std::to_string(std::max(1, cores / size)));
  std::vector<std::string> out;
  for (const auto& [name, value] : variables) {
    out.push_back(name + "=" + value);
  }
  return out;
}

/// The last signal that came and has not been taken: its number, plus kFromTerminal.
std::atomic<int> g_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);
constexpr int kFromTerminal = 0x100;

void note_signal(int signal, siginfo_t* info, void*) {
  g_signal = info->si_code == SI_KERNEL ? signal + kFromTerminal : signal;
}

/// What the children get, too.
constexpr std::array kPassedOn = {SIGTERM, SIGINT, SIGHUP};

/// kPassedOn are noted while one lives; before and after they do what they did. One that is ignored
/// (SIGHUP under nohup) stays so, here and in the children.
class NotedSignals {
 public:
  NotedSignals() {
    g_signal = 0;
    struct sigaction note = {};
    note.sa_sigaction = note_signal;
    note.sa_flags = SA_SIGINFO | SA_RESTART;
    for (size_t i = 0; i < kPassedOn.size(); ++i) {
      sigaction(kPassedOn[i], nullptr, &before_[i]);
      if (before_[i].sa_handler != SIG_IGN) {
        sigaction(kPassedOn[i], &note, nullptr);
      }
    }
  }
  ~NotedSignals() { restore(); }
  NotedSignals(const NotedSignals&) = delete;
  NotedSignals& operator=(const NotedSignals&) = delete;

  /// Safe between fork and exec.
  void restore() const {
    for (size_t i = 0; i < kPassedOn.size(); ++i) {
      sigaction(kPassedOn[i], &before_[i], nullptr);
    }
  }

 private:
  std::array<struct sigaction, kPassedOn.size()> before_;
};

/// Holds signals back, so that none reaches a child between fork and exec and is lost.
class HeldSignals {
 public:
  HeldSignals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : kPassedOn) {
      sigaddset(&set, signal);
    }
    pthread_sigmask(SIG_BLOCK, &set, &before_);
  }
  ~HeldSignals() { release(); }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;
  void release() const { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

class Job {
 public:
  explicit Job(const LaunchOptions& options) : options_(options) {}
  ~Job() { send(SIGKILL); }  // none is left unless starting failed
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  void start() {
    const uint16_t port = find_free_port();
    for (int rank = 0; rank < options_.processes; ++rank) {
      start_child(rank, port);
    }
  }

  int wait() {
    while (!ranks_.empty()) {
      std::this_thread::sleep_for(kPollInterval);
      if (const int signal = g_signal.exchange(0)) {
        pass_on(signal);
      }
      collect_ended();
      if (kill_at_ && Clock::now() >= *kill_at_) {
        send(SIGKILL);
      }
    }
    return exit_code_;
  }

 private:
  void start_child(int rank, uint16_t port) {
    CStrings arguments(options_.command);
    CStrings environment(child_environment(rank, options_.processes, port));
    const pid_t parent = getpid();
    const HeldSignals held;
    const pid_t pid = fork();
    check(pid >= 0,
          "cannot start process ",
          rank,
          " of ",
          options_.processes,
          ": ",
          std::strerror(errno));
    if (pid == 0) {  // nothing here allocates
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) {
        _exit(kCannotStart);
      }
      signals_.restore();
      held.release();
      execvpe(arguments.data()[0], arguments.data(), environment.data());
      _exit(kCannotStart);
    }
    ranks_[pid] = rank;
  }

  void pass_on(int signal) {
    passed_on_ = signal & ~kFromTerminal;
    // The terminal has sent its Ctrl-C to the whole group, the children among it.
    if (signal == passed_on_) {
      send(signal);
    }
  }

  void collect_ended() {
    for (auto child = ranks_.begin(); child != ranks_.end();) {
      int status = 0;
      const auto [pid, rank] = *child;
      if (waitpid(pid, &status, WNOHANG) != pid) {
        ++child;
        continue;
      }
      child = ranks_.erase(child);
      if (status != 0 && exit_code_ == 0) {
        on_first_failure(rank, status);
      }
    }
  }

  void on_first_failure(int rank, int status) {
    exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (passed_on_ != 0 && exit_code_ == 128 + passed_on_) {
      return;  // it was asked to; the others may still write their checkpoint
    }
    if (options_.report) {
      options_.report(describe(rank, status));
    }
    send(SIGTERM);
    kill_at_ = Clock::now() + options_.grace;
  }

  std::string describe(int rank, int status) const {
    if (WIFSIGNALED(status)) {
      const int signal = WTERMSIG(status);
      return concat("rank ", rank, " was ended by signal ", signal, " (", strsignal(signal), ")");
    }
    if (WEXITSTATUS(status) == kCannotStart) {
      return concat("rank ", rank, " could not be started: ", options_.command[0]);
    }
    return concat("rank ", rank, " ended with exit code ", WEXITSTATUS(status));
  }

  void send(int signal) const {
    for (const auto& [pid, rank] : ranks_) {
      kill(pid, signal);
    }
  }

  const LaunchOptions& options_;
  NotedSignals signals_;
  std::map<pid_t, int> ranks_;  // of the children that run
  int passed_on_ = 0;
  int exit_code_ = 0;
  std::optional<Clock::time_point> kill_at_;
};

}  // namespace

int launch_processes(const LaunchOptions& options) {
  check(options.processes >= 1 && options.processes <= kMaxSpawned,
        "cannot spawn ",
        options.processes,
        " processes; expected 1 to ",
        kMaxSpawned);
  check(!options.command.empty(), "no command to spawn");
  Job job(options);
  job.start();
  return job.wait();
}

uint16_t find_free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof(address);
  const bool ok = fd >= 0 && bind(fd, plain, length) == 0 && getsockname(fd, plain, &length) == 0;
  const std::string reason = ok ? "" : std::strerror(errno);
  if (fd >= 0) {
    close(fd);
  }
  check(ok, "no free port for the job's store: ", reason);
  return ntohs(address.sin_port);
}

}  // namespace ssa
