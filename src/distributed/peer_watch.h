// Who is dead, and who hangs: the rules of Watchdog, apart from clocks, threads and sockets.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ssa {

/// What a rank says about itself at every heartbeat.
struct RankState {
  int64_t beat = 0;         ///< heartbeats so far
  int64_t step = -1;        ///< finished last; -1: none
  uint64_t operations = 0;  ///< of the group, started
  bool long_task = false;   ///< does what the others may have to wait for
  bool has_left = false;    ///< has ended well

  std::string to_text() const;
  /// Throws Error for what to_text() does not write.
  static RankState from_text(const std::string& text);
};

struct PeerLimits {
  std::chrono::milliseconds dead_after;
  std::chrono::milliseconds hang_after;
};

/// One process's view of the job. Not thread-safe.
class PeerWatch {
 public:
  using Clock = std::chrono::steady_clock;

  PeerWatch(int rank, int size, PeerLimits limits, Clock::time_point now);

  /// Takes in the states of all ranks, in order, the own among them (nothing: no word yet), and
  /// returns what is wrong, naming the rank, if anything is.
  std::optional<std::string> update(const std::vector<std::optional<RankState>>& states,
                                    Clock::time_point now);

  /// From now on a rank is dead after this time: something points to it already.
  void expect_death_within(std::chrono::milliseconds dead_after);

  /// The others have all ended well.
  bool all_others_left() const;

 private:
  struct Peer {
    std::optional<RankState> state;
    Clock::time_point last_beat;
    std::optional<Clock::time_point> behind_since;  ///< others have been ahead, and it stands still
  };

  void note(Peer& peer, const RankState& state, Clock::time_point now) const;
  std::optional<std::string> find_dead(Clock::time_point now) const;
  std::optional<std::string> find_hung(Clock::time_point now);

  int rank_;
  PeerLimits limits_;
  Clock::time_point last_update_;
  std::vector<Peer> peers_;  // by rank
};

}  // namespace ssa
