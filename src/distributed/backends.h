// c10d's two ways to move tensors between processes.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>

#include "distributed/launch_environment.h"
#include "distributed/store.h"

namespace c10d {
class Backend;
}

namespace ssa {

/// For CPU tensors. Between processes of one machine over its loopback; otherwise over the
/// interface that GLOO_SOCKET_IFNAME names, or that of the host's name.
c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const Store& store,
                                                    const LaunchEnvironment& environment,
                                                    std::chrono::milliseconds timeout);

/// For CUDA tensors, with the time of each operation measured. Throws Error in a build without
/// CUDA.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const Store& store,
                                                    const LaunchEnvironment& environment,
                                                    std::chrono::milliseconds timeout);

}  // namespace ssa
