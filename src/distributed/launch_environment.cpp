#include "distributed/launch_environment.h"

#include <charconv>
#include <cstdlib>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace ssa {

namespace {

constexpr const char* kNeeded[] = {
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"};
constexpr int kMaxProcesses = 65536;

int to_number(const char* name, const std::string& text, int least, int most) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  check(error == std::errc() && rest == end && value >= least && value <= most,
        name,
        "='",
        text,
        "' in the environment; expected a number from ",
        least,
        " to ",
        most);
  return value;
}

void check_all_there(const Variables& variables, int size) {
  std::vector<std::string> missing;
  for (const char* name : kNeeded) {
    if (!variables(name)) {
      missing.push_back(name);
    }
  }
  check(missing.empty(),
        "WORLD_SIZE=",
        size,
        ", but the environment lacks ",
        join(missing, ", "),
        "; start with torchrun, or `ssa train --spawn ",
        size,
        "`");
}

}  // namespace

LaunchEnvironment read_launch_environment(const Variables& variables) {
  LaunchEnvironment out;
  const auto size = variables("WORLD_SIZE");
  if (!size) {
    return out;
  }
  out.size = to_number("WORLD_SIZE", *size, 1, kMaxProcesses);
  if (out.size == 1) {
    return out;
  }
  check_all_there(variables, out.size);
  const auto number = [&](const char* name, int least, int most) {
    return to_number(name, *variables(name), least, most);
  };
  out.rank = number("RANK", 0, out.size - 1);
  out.local_size = number("LOCAL_WORLD_SIZE", 1, out.size);
  out.local_rank = number("LOCAL_RANK", 0, out.local_size - 1);
  out.master_address = *variables("MASTER_ADDR");
  check(!out.master_address.empty(), "MASTER_ADDR is empty; expected a host name or address");
  out.master_port = static_cast<uint16_t>(number("MASTER_PORT", 1, 65535));
  out.launcher_hosts_store = variables("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (variables("TORCHELASTIC_RESTART_COUNT")) {
    out.restart = number("TORCHELASTIC_RESTART_COUNT", 0, 1 << 30);
  }
  return out;
}

LaunchEnvironment read_launch_environment() {
  return read_launch_environment([](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  });
}

}  // namespace ssa
