#include "distributed/process_group.h"

#include <gtest/gtest.h>
#include <torch/cuda.h>

#include <algorithm>
#include <string>

#include "base/error.h"
#include "ranks.h"

namespace ssa {
namespace {

std::shared_ptr<ProcessGroup> join() {
  return ProcessGroup::from_environment(test_device());
}

/// 1 + 2 + ... + size.
int64_t sum_of_ranks(const ProcessGroup& group) {
  return group.size() * (group.size() + 1) / 2;
}

void test_sums(ProcessGroup& group) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64, torch::kBFloat16, torch::kInt64}) {
    Tensor sum = torch::full({1000}, group.rank() + 1, torch::dtype(dtype).device(group.device()));
    group.all_reduce(sum);
    EXPECT_TRUE(sum.eq(sum_of_ranks(group)).all().item<bool>()) << dtype;
  }
  std::vector<Tensor> tensors;
  std::vector<std::unique_ptr<PendingCollective>> pending;
  for (int i = 0; i < 5; ++i) {
    tensors.push_back(torch::full(
        {100'000}, i * (group.rank() + 1), torch::dtype(torch::kFloat32).device(group.device())));
    pending.push_back(group.all_reduce_async(tensors.back()));
  }
  for (int i = 0; i < 5; ++i) {
    pending[i]->wait();
    EXPECT_TRUE(tensors[i].eq(i * sum_of_ranks(group)).all().item<bool>()) << i;
    EXPECT_GT(pending[i]->seconds(), 0);
  }
}

void test_slices(ProcessGroup& group) {
  Tensor whole = torch::zeros({group.size() * 3}, group.device());
  Tensor part = whole.slice(0, group.rank() * 3, group.rank() * 3 + 3);
  part.fill_(group.rank() + 1);
  group.all_gather_into(whole, part);
  const Tensor expected = (torch::arange(group.size(), group.device()) + 1.f).repeat_interleave(3);
  EXPECT_TRUE(whole.equal(expected)) << whole;

  Tensor sum = torch::empty({2}, group.device());
  const Tensor addend =
      torch::arange(2 * group.size(), torch::dtype(torch::kFloat32).device(group.device()));
  group.reduce_scatter_into(sum, addend * (group.rank() + 1));
  const Tensor own = addend.slice(0, 2 * group.rank(), 2 * group.rank() + 2);
  EXPECT_TRUE(sum.equal(own * sum_of_ranks(group))) << sum;

  EXPECT_THROW(group.all_gather_into(whole, whole), Error);
}

void test_texts(ProcessGroup& group) {
  for (int round = 0; round < 4; ++round) {
    const std::vector<std::string> texts = group.gather_text(concat(round, "/", group.rank()));
    ASSERT_EQ(texts.size(), group.size());
    for (int rank = 0; rank < group.size(); ++rank) {
      EXPECT_EQ(texts[rank], concat(round, "/", rank));
    }
  }
  group.check_same("recipe", "lr = 1\nsteps = 5\n");
  try {
    group.check_same("recipe", group.rank() == 1 ? "lr = 1\nsteps = 6\n" : "lr = 1\nsteps = 5\n");
    FAIL() << "rank 1's recipe differs";
  } catch (const Error& error) {
    EXPECT_STREQ(
        error.what(),
        "recipe of rank 1 differs from rank 0's: line 2 is 'steps = 6' instead of 'steps = 5'");
  }
}

TEST(ProcessGroup, collectives) {
  if (!runs_as_rank({2, 4})) {
    return;
  }
  const auto group = join();
  EXPECT_EQ(group->size(), std::stoi(std::getenv("WORLD_SIZE")));
  EXPECT_EQ(group->is_main(), group->rank() == 0);
  test_sums(*group);
  test_slices(*group);
  Tensor tensor = torch::full({4}, group->rank(), group->device());
  group->broadcast(tensor, 1);
  EXPECT_TRUE(tensor.eq(1).all().item<bool>());
  test_texts(*group);
  const uint64_t before = group->operations();
  group->barrier();
  EXPECT_EQ(group->operations(), before + 1);
}

TEST(ProcessGroup, one_process_needs_no_store) {
  const auto group = ProcessGroup::single(torch::kCPU);
  EXPECT_EQ(group->size(), 1);
  EXPECT_TRUE(group->is_main());
  Tensor tensor = torch::arange(4.f), copy = torch::zeros(4);
  group->all_reduce(tensor);
  group->broadcast(tensor);
  group->barrier();
  group->all_gather_into(copy, tensor);
  EXPECT_TRUE(copy.equal(torch::arange(4.f)));
  copy.zero_();
  group->reduce_scatter_into(copy, tensor);
  EXPECT_TRUE(copy.equal(torch::arange(4.f)));
  EXPECT_EQ(group->gather_text("a"), std::vector<std::string>{"a"});
  group->check_same("recipe", "a");
}

TEST(ProcessGroup, refuses_more_processes_than_gpus) {
  const int n = std::max(2, static_cast<int>(torch::cuda::device_count()) + 1);
  if (!runs_as_rank({n})) {
    return;
  }
  try {
    ProcessGroup::from_environment(torch::kCUDA);
    FAIL() << "there are not enough GPUs";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what())
                  .find("rank 0: " + std::to_string(n) + " processes on a machine where "),
              0u)
        << error.what();
  }
}

TEST(ProcessGroup, refuses_two_processes_on_one_gpu) {
  if (torch::cuda::device_count() < 2) {
    GTEST_SKIP() << "needs two GPUs";
  }
  if (!runs_as_rank({2})) {
    return;
  }
  try {
    ProcessGroup::from_environment(torch::Device(torch::kCUDA, 1));
    FAIL() << "both are on GPU 1";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("ranks 0 and 1 both use GPU 1 of "), 0u)
        << error.what();
  }
}

TEST(ProcessGroup, names_a_rank_that_does_not_arrive) {
  setenv("WORLD_SIZE", "2", 1);
  setenv("RANK", "0", 1);
  setenv("LOCAL_RANK", "0", 1);
  setenv("LOCAL_WORLD_SIZE", "2", 1);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  setenv("MASTER_PORT", std::to_string(find_free_port()).c_str(), 1);
  std::string message;
  try {
    ProcessGroup::from_environment(torch::kCPU, {.join_timeout = std::chrono::seconds(1)});
  } catch (const Error& error) {
    message = error.what();
  }
  for (const char* name :
       {"WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    unsetenv(name);
  }
  EXPECT_EQ(message, "rank 1 of 2 did not arrive in time");
}

}  // namespace
}  // namespace ssa
