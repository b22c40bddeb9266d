#include "distributed/process_identity.h"

#include <map>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace ssa {

std::string ProcessIdentity::to_text() const {
  return dump_json(Json{{"host", host}, {"gpu", gpu}, {"problem", problem}});
}

ProcessIdentity ProcessIdentity::from_text(const std::string& text) {
  const Json json = parse_json(text, "a process that joined the job");
  const auto field = [&](const char* key) { return get_or<std::string>(json, key, ""); };
  return {.host = field("host"), .gpu = field("gpu"), .problem = field("problem")};
}

void check_identities(const std::vector<ProcessIdentity>& by_rank) {
  std::map<std::pair<std::string, std::string>, size_t> owners;
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    const ProcessIdentity& process = by_rank[rank];
    check(process.problem.empty(), "rank ", rank, ": ", process.problem);
    if (process.gpu.empty()) {
      continue;
    }
    const auto [owner, is_new] = owners.try_emplace({process.host, process.gpu}, rank);
    check(is_new,
          "ranks ",
          owner->second,
          " and ",
          rank,
          " both use GPU ",
          process.gpu,
          " of ",
          process.host,
          "; a process needs a GPU of its own");
  }
}

std::string visible_gpu(int index, const std::optional<std::string>& cuda_visible_devices) {
  if (!cuda_visible_devices) {
    return std::to_string(index);
  }
  size_t begin = 0;
  for (int i = 0; i < index; ++i) {
    const size_t comma = cuda_visible_devices->find(',', begin);
    if (comma == std::string::npos) {
      return std::to_string(index);
    }
    begin = comma + 1;
  }
  return cuda_visible_devices->substr(begin, cuda_visible_devices->find(',', begin) - begin);
}

std::string gpu_problem(int index, int local_rank, int local_size, int gpus) {
  if (local_size > gpus) {
    return concat(local_size,
                  " processes on a machine where ",
                  gpus,
                  gpus == 1 ? " GPU is" : " GPUs are",
                  " visible; a process needs one of its own");
  }
  if (index >= gpus) {
    return concat("local rank ", local_rank, " asks for GPU ", index, " of ", gpus);
  }
  return "";
}

}  // namespace ssa
