#include "distributed/peer_watch.h"

#include <algorithm>
#include <sstream>

#include "base/error.h"

namespace ssa {

namespace {

std::string in_seconds(std::chrono::milliseconds time) {
  return concat(static_cast<double>(time.count()) / 1000, " s");
}

std::string last_step(const std::optional<RankState>& state) {
  return !state || state->step < 0 ? "before its first step" : concat("after step ", state->step);
}

}  // namespace

std::string RankState::to_text() const {
  return concat(beat, ' ', step, ' ', operations, ' ', long_task, ' ', has_left);
}

RankState RankState::from_text(const std::string& text) {
  RankState out;
  std::istringstream in(text);
  in >> out.beat >> out.step >> out.operations >> out.long_task >> out.has_left;
  check(!in.fail(), "not a heartbeat: '", text, "'");
  return out;
}

PeerWatch::PeerWatch(int rank, int size, PeerLimits limits, Clock::time_point now)
    : rank_(rank), limits_(limits), last_update_(now), peers_(size) {
  for (Peer& peer : peers_) {
    peer.last_beat = now;
  }
}

std::optional<std::string> PeerWatch::update(const std::vector<std::optional<RankState>>& states,
                                             Clock::time_point now) {
  // Who has slept himself (a stopped job, a busy machine) cannot say that the others were silent.
  const bool has_slept = now - last_update_ > limits_.dead_after / 2;
  last_update_ = now;
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    Peer& peer = peers_[rank];
    if (has_slept) {
      peer.last_beat = now;
      peer.behind_since.reset();
    }
    if (states[rank]) {
      note(peer, *states[rank], now);
    }
  }
  auto verdict = find_dead(now);
  return verdict ? verdict : find_hung(now);
}

void PeerWatch::note(Peer& peer, const RankState& state, Clock::time_point now) const {
  if (!peer.state || peer.state->beat != state.beat) {
    peer.last_beat = now;
  }
  const bool moved =
      !peer.state || peer.state->operations != state.operations || peer.state->step != state.step;
  if (moved) {
    peer.behind_since.reset();
  }
  peer.state = state;
}

std::optional<std::string> PeerWatch::find_dead(Clock::time_point now) const {
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    const Peer& peer = peers_[rank];
    const bool has_left = peer.state && peer.state->has_left;
    if (static_cast<int>(rank) != rank_ && !has_left && now - peer.last_beat > limits_.dead_after) {
      return concat("rank ",
                    rank,
                    " is dead: no sign of life for ",
                    in_seconds(limits_.dead_after),
                    ", last heard of ",
                    last_step(peer.state));
    }
  }
  return std::nullopt;
}

std::optional<std::string> PeerWatch::find_hung(Clock::time_point now) {
  uint64_t foremost = 0;
  bool may_wait = false;
  for (const Peer& peer : peers_) {
    if (peer.state) {
      foremost = std::max(foremost, peer.state->operations);
      may_wait = may_wait || peer.state->long_task;
    }
  }
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    Peer& peer = peers_[rank];
    const bool is_behind = peer.state && !peer.state->has_left && peer.state->operations < foremost;
    if (may_wait || !is_behind) {
      peer.behind_since.reset();
    } else if (!peer.behind_since) {
      peer.behind_since = now;
    } else if (now - *peer.behind_since > limits_.hang_after) {
      return concat("rank ",
                    rank,
                    " hangs ",
                    last_step(peer.state),
                    ": the others have waited for it for ",
                    in_seconds(limits_.hang_after));
    }
  }
  return std::nullopt;
}

void PeerWatch::expect_death_within(std::chrono::milliseconds dead_after) {
  limits_.dead_after = std::min(limits_.dead_after, dead_after);
}

bool PeerWatch::all_others_left() const {
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    const Peer& peer = peers_[rank];
    if (static_cast<int>(rank) != rank_ && !(peer.state && peer.state->has_left)) {
      return false;
    }
  }
  return true;
}

}  // namespace ssa
