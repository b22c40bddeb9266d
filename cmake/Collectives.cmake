# Headers of what c10d moves tensors with. The libraries are inside LibTorch's own: none is linked.
#
# Gloo's are missing from torch's wheel, and come from Debian's libgloo-dev (src/distributed/gloo_backend.cpp says why its
# version does no harm). NCCL's and CUDA's lie in the packages beside a CUDA wheel, or in a toolkit.
find_path(GLOO_INCLUDE_DIR gloo/context.h REQUIRED)
target_include_directories(ssa_distributed SYSTEM PRIVATE ${GLOO_INCLUDE_DIR})
if(SSA_UNITY)  # each defines what chooses LibTorch's headers
  set_source_files_properties(gloo_backend.cpp nccl_backend.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endif()

if(EXISTS ${SSA_TORCH}/lib/libtorch_cuda.so)
  file(GLOB wheels ${SSA_TORCH}/../nvidia/*/include)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${wheels})
  # By a header that the wheels of CUDA's runtime lack, since the others need it.
  find_path(CUDA_INCLUDE_DIR crt/host_config.h HINTS ENV CUDA_HOME /usr/local/cuda ${wheels} PATH_SUFFIXES include)
  if(NCCL_INCLUDE_DIR AND CUDA_INCLUDE_DIR)
    target_include_directories(ssa_distributed SYSTEM PRIVATE ${NCCL_INCLUDE_DIR} ${CUDA_INCLUDE_DIR})
    set_source_files_properties(nccl_backend.cpp PROPERTIES COMPILE_DEFINITIONS SSA_WITH_NCCL)
  else()
    message(STATUS "no headers of NCCL or of CUDA's toolkit: several processes train on the CPU only")
  endif()
endif()
