#include "distributed/process_group.h"

#include <sstream>

#include "base/error.h"
#include "distributed/c10d_process_group.h"

namespace ssa {

namespace {

/// What an operation of one process leaves to be done.
class NothingPending : public PendingCollective {
 public:
  void wait() override {}
  double seconds() override { return 0; }
};

class SingleProcess : public ProcessGroup {
 public:
  explicit SingleProcess(torch::Device device) : ProcessGroup(LaunchEnvironment{}, device) {}

  std::unique_ptr<PendingCollective> all_reduce_async(Tensor) override {
    return std::make_unique<NothingPending>();
  }
  void all_gather_into(Tensor whole, const Tensor& part) override { copy_into(whole, part); }
  void reduce_scatter_into(Tensor part, Tensor whole) override { copy_into(part, whole); }
  void broadcast(Tensor, int) override {}
  void barrier() override {}
  std::vector<std::string> gather_text(const std::string& text) override { return {text}; }
  uint64_t operations() const override { return 0; }
  void on_failure(std::function<void(const std::string&)>) override {}

 private:
  static void copy_into(Tensor& out, const Tensor& in) {
    if (out.data_ptr() != in.data_ptr()) {
      out.view({-1}).copy_(in.reshape({-1}));
    }
  }
};

/// Where two texts first differ: "line 3 is 'lr = 1' instead of 'lr = 2'".
std::string describe_difference(const std::string& text, const std::string& expected) {
  std::istringstream lines(text), expected_lines(expected);
  std::string line, expected_line;
  for (int number = 1;; ++number) {
    const bool more = static_cast<bool>(std::getline(lines, line));
    const bool more_expected = static_cast<bool>(std::getline(expected_lines, expected_line));
    if (!more && !more_expected) {
      return "line ends";  // they differ in the last line's end alone
    }
    if (!more || !more_expected) {
      return concat("line ",
                    number,
                    " is ",
                    more ? "'" + line + "'" : "missing",
                    " instead of ",
                    more_expected ? "'" + expected_line + "'" : "missing");
    }
    if (line != expected_line) {
      return concat("line ", number, " is '", line, "' instead of '", expected_line, "'");
    }
  }
}

}  // namespace

std::shared_ptr<ProcessGroup> ProcessGroup::from_environment(torch::Device device,
                                                             const ProcessGroupOptions& options) {
  const LaunchEnvironment environment = read_launch_environment();
  if (environment.size == 1) {
    return single(device);
  }
  check(device.is_cpu() || device.is_cuda(),
        "several processes train on cpu or cuda, not on ",
        device.str());
  return join_c10d_group(environment, device, options);
}

std::shared_ptr<ProcessGroup> ProcessGroup::single(torch::Device device) {
  if (device.is_cuda() && !device.has_index()) {
    device = torch::Device(torch::kCUDA, 0);
  }
  return std::make_shared<SingleProcess>(device);
}

void ProcessGroup::all_reduce(Tensor tensor) {
  all_reduce_async(std::move(tensor))->wait();
}

void ProcessGroup::check_same(const std::string& name, const std::string& text) {
  const std::vector<std::string> texts = gather_text(text);
  for (size_t rank = 1; rank < texts.size(); ++rank) {
    check(texts[rank] == texts[0],
          name,
          " of rank ",
          rank,
          " differs from rank 0's: ",
          describe_difference(texts[rank], texts[0]));
  }
}

}  // namespace ssa
