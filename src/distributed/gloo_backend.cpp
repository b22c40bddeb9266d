// Gloo is compiled into libtorch_cpu, whose wheel lacks Gloo's headers. Those of Debian's
// libgloo-dev are older, which does no harm: what c10d's header inlines knows Gloo's types as
// pointers alone, and nothing here makes an object of Gloo or calls a virtual function of it.
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <cstdlib>

#include "distributed/backends.h"

namespace ssa {

namespace {

using Gloo = c10d::ProcessGroupGloo;

std::shared_ptr<::gloo::transport::Device> choose_device(const LaunchEnvironment& environment) {
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME")) {
    return Gloo::createDeviceForInterface(interface);
  }
  if (environment.local_size == environment.size) {
    return Gloo::createDeviceForHostname("127.0.0.1");
  }
  return Gloo::createDefaultDevice();
}

}  // namespace

c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const Store& store,
                                                    const LaunchEnvironment& environment,
                                                    std::chrono::milliseconds timeout) {
  auto options = Gloo::Options::create_default(timeout);
  options->devices = {choose_device(environment)};
  // One after the other, so that the times of operations add up.
  options->threads = 1;
  return c10::make_intrusive<Gloo>(store.c10d_store(), environment.rank, environment.size, options);
}

}  // namespace ssa
