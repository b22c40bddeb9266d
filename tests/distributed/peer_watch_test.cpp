#include "distributed/peer_watch.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace ssa {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Three ranks, seen from rank 0, a second a heartbeat.
class Job {
 public:
  Job() : watch_(0, 3, {.dead_after = seconds(20), .hang_after = seconds(40)}, now_) {
    states_.resize(3, RankState{});
  }

  RankState& rank(int rank) { return *states_[rank]; }
  void silence(int rank) { is_silent_[rank] = true; }
  PeerWatch& watch() { return watch_; }

  /// The first verdict within `time`, and when, as "25 s: ..."; empty if there is none.
  std::string run(seconds time) {
    for (seconds passed(1); passed <= time; ++passed) {
      now_ += seconds(1);
      for (int rank = 0; rank < 3; ++rank) {
        states_[rank]->beat += is_silent_[rank] ? 0 : 1;
      }
      if (const auto verdict = watch_.update(states_, now_)) {
        return concat(passed.count(), " s: ", *verdict);
      }
    }
    return "";
  }

  void sleep(seconds time) { now_ += time; }

 private:
  PeerWatch::Clock::time_point now_{};
  std::vector<std::optional<RankState>> states_;
  bool is_silent_[3] = {};
  PeerWatch watch_;
};

TEST(PeerWatch, names_the_dead) {
  Job job;
  job.rank(1).step = 17;
  EXPECT_EQ(job.run(seconds(300)), "");
  job.silence(1);
  EXPECT_EQ(job.run(seconds(60)),
            "21 s: rank 1 is dead: no sign of life for 20 s, last heard of after step 17");
}

TEST(PeerWatch, is_quick_where_death_is_expected) {
  Job job;
  job.run(seconds(5));
  job.silence(2);
  job.watch().expect_death_within(seconds(5));
  EXPECT_EQ(job.run(seconds(60)),
            "6 s: rank 2 is dead: no sign of life for 5 s, last heard of before its first step");
}

TEST(PeerWatch, names_who_keeps_the_others_waiting) {
  Job job;
  job.rank(0).operations = 7;
  job.rank(1).operations = 7;
  job.rank(2).operations = 6;
  job.rank(2).step = 3;
  EXPECT_EQ(job.run(seconds(60)),
            "42 s: rank 2 hangs after step 3: the others have waited for it for 40 s");
}

TEST(PeerWatch, lets_slow_ranks_be) {
  Job job;
  for (int i = 0; i < 20; ++i) {  // always behind, but moving
    job.rank(0).operations += 1;
    job.rank(1).operations += 1;
    EXPECT_EQ(job.run(seconds(30)), "");
    job.rank(2).operations += i % 2;
    job.rank(2).step += 1;
  }
}

TEST(PeerWatch, lets_all_compute_for_long) {
  Job job;
  EXPECT_EQ(job.run(seconds(3600)), "");
}

TEST(PeerWatch, waits_for_a_long_task) {
  Job job;
  job.rank(1).operations = job.rank(2).operations = 1;  // wait for rank 0's checkpoint
  job.rank(0).long_task = true;
  EXPECT_EQ(job.run(seconds(600)), "");
  job.rank(0).long_task = false;
  EXPECT_NE(job.run(seconds(60)), "");
}

TEST(PeerWatch, notices_death_in_a_long_task) {
  Job job;
  job.rank(1).long_task = true;
  job.silence(1);
  EXPECT_NE(job.run(seconds(30)), "");
}

TEST(PeerWatch, does_not_blame_others_for_its_own_sleep) {
  Job job;
  job.run(seconds(5));
  job.sleep(seconds(100));  // stopped and continued; the others as well
  EXPECT_EQ(job.run(seconds(60)), "");
}

TEST(PeerWatch, lets_ranks_leave) {
  Job job;
  EXPECT_FALSE(job.watch().all_others_left());
  job.rank(1).has_left = true;
  job.run(seconds(1));
  EXPECT_FALSE(job.watch().all_others_left());
  job.silence(1);
  job.rank(2).has_left = true;
  job.silence(2);
  EXPECT_EQ(job.run(seconds(60)), "");
  EXPECT_TRUE(job.watch().all_others_left());
}

TEST(RankState, survives_the_way_through_the_store) {
  const RankState out = RankState::from_text(
      RankState{.beat = 4, .step = -1, .operations = 9, .long_task = true, .has_left = false}
          .to_text());
  EXPECT_EQ(out.beat, 4);
  EXPECT_EQ(out.step, -1);
  EXPECT_EQ(out.operations, 9u);
  EXPECT_TRUE(out.long_task);
  EXPECT_FALSE(out.has_left);
  EXPECT_THROW(RankState::from_text("nonsense"), Error);
}

}  // namespace
}  // namespace ssa
