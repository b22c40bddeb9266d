#include "distributed/launch_environment.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "distributed/process_identity.h"

namespace ssa {
namespace {

using VariableMap = std::map<std::string, std::string>;

LaunchEnvironment read(const VariableMap& map) {
  return read_launch_environment([&](const char* name) -> std::optional<std::string> {
    const auto entry = map.find(name);
    return entry == map.end() ? std::nullopt : std::optional<std::string>(entry->second);
  });
}

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

const VariableMap kWhole = {{"RANK", "5"},
                            {"LOCAL_RANK", "1"},
                            {"WORLD_SIZE", "8"},
                            {"LOCAL_WORLD_SIZE", "4"},
                            {"MASTER_ADDR", "node0"},
                            {"MASTER_PORT", "29500"}};

VariableMap with(const std::string& name, const std::string& value) {
  VariableMap map = kWhole;
  map[name] = value;
  return map;
}

TEST(LaunchEnvironment, reads_what_torchrun_sets) {
  const LaunchEnvironment environment = read(kWhole);
  EXPECT_EQ(environment.rank, 5);
  EXPECT_EQ(environment.size, 8);
  EXPECT_EQ(environment.local_rank, 1);
  EXPECT_EQ(environment.local_size, 4);
  EXPECT_EQ(environment.master_address, "node0");
  EXPECT_EQ(environment.master_port, 29500);
  EXPECT_FALSE(environment.launcher_hosts_store);
  EXPECT_TRUE(read(with("TORCHELASTIC_USE_AGENT_STORE", "True")).launcher_hosts_store);
  EXPECT_EQ(read(with("TORCHELASTIC_RESTART_COUNT", "2")).restart, 2);
}

TEST(LaunchEnvironment, one_process_needs_nothing) {
  EXPECT_EQ(read({}).size, 1);
  EXPECT_EQ(read({{"WORLD_SIZE", "1"}, {"RANK", "nonsense"}}).size, 1);
}

TEST(LaunchEnvironment, names_what_is_missing) {
  EXPECT_EQ(error_of([] {
              read({{"WORLD_SIZE", "2"}, {"RANK", "0"}, {"MASTER_ADDR", "a"}});
            }),
            "WORLD_SIZE=2, but the environment lacks LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_PORT; "
            "start with torchrun, or `ssa train --spawn 2`");
}

TEST(LaunchEnvironment, refuses_values_out_of_range) {
  for (const auto& [name, value] : VariableMap{{"WORLD_SIZE", "0"},
                                               {"LOCAL_WORLD_SIZE", "9"},
                                               {"RANK", "8"},
                                               {"LOCAL_RANK", "4"},
                                               {"MASTER_PORT", "65536"}}) {
    const std::string error = error_of([&] { read(with(name, value)); });
    EXPECT_EQ(error.find(name + "='" + value + "' in the environment; expected a number"), 0u)
        << error;
  }
  for (const char* rank : {"", "-1", "one", "1x", "99999999999"}) {
    EXPECT_NE(error_of([&] { read(with("RANK", rank)); }), "") << rank;
  }
  EXPECT_NE(error_of([] { read(with("MASTER_ADDR", "")); }), "");
}

TEST(ProcessIdentity, finds_the_physical_gpu) {
  EXPECT_EQ(visible_gpu(1, std::nullopt), "1");
  EXPECT_EQ(visible_gpu(0, "3"), "3");
  EXPECT_EQ(visible_gpu(1, "GPU-a,GPU-b,GPU-c"), "GPU-b");
  EXPECT_EQ(visible_gpu(2, "4,5,6"), "6");
  EXPECT_EQ(visible_gpu(2, "4,5"), "2");
}

TEST(ProcessIdentity, survives_the_way_to_other_ranks) {
  const ProcessIdentity in{.host = "node \"0\"", .gpu = "3", .problem = "none\tat all"};
  const ProcessIdentity out = ProcessIdentity::from_text(in.to_text());
  EXPECT_EQ(out.host, in.host);
  EXPECT_EQ(out.gpu, in.gpu);
  EXPECT_EQ(out.problem, in.problem);
  EXPECT_NE(error_of([] { ProcessIdentity::from_text("not ours"); }), "");
}

TEST(ProcessIdentity, refuses_two_processes_on_one_gpu) {
  const auto error = [](std::vector<ProcessIdentity> processes) {
    return error_of([&] { check_identities(processes); });
  };
  EXPECT_EQ(error({{"a", "0", ""}, {"a", "1", ""}, {"b", "0", ""}, {"b", "1", ""}}), "");
  EXPECT_EQ(error({{"a", "", ""}, {"a", "", ""}}), "") << "the CPU is shared";
  EXPECT_EQ(error({{"a", "0", ""}, {"b", "0", ""}, {"b", "0", ""}}),
            "ranks 1 and 2 both use GPU 0 of b; a process needs a GPU of its own");
  EXPECT_EQ(
      error({{"a", "0", ""}, {"a", "1", gpu_problem(1, 1, 2, 1)}}),
      "rank 1: 2 processes on a machine where 1 GPU is visible; a process needs one of its own");
  EXPECT_EQ(gpu_problem(3, 0, 2, 2), "local rank 0 asks for GPU 3 of 2");
  EXPECT_EQ(gpu_problem(1, 1, 2, 2), "");
}

}  // namespace
}  // namespace ssa
