# LibTorch as one target, ssa_torch, straight from a torch package's folder (venv wheel or system).
#
# torch's own CMake config asks for a whole CUDA toolkit when the wheel was built with CUDA; we call LibTorch alone, so
# its headers and libraries are all we need, and a machine without CUDA is never asked for it.
if(NOT SSA_TORCH)
  file(GLOB venv_torch ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  set(SSA_TORCH "${venv_torch}" CACHE PATH "" FORCE)
endif()
if(NOT EXISTS "${SSA_TORCH}/include/torch/csrc/api/include/torch/torch.h")
  message(FATAL_ERROR "no LibTorch at SSA_TORCH='${SSA_TORCH}'; run 'make setup', or name a torch package's folder")
endif()
file(READ ${SSA_TORCH}/version.py torch_version_file)
string(REGEX MATCH "__version__ = '([^']+)'" _ "${torch_version_file}")
set(SSA_TORCH_VERSION ${CMAKE_MATCH_1})
message(STATUS "LibTorch ${SSA_TORCH_VERSION}: ${SSA_TORCH}")

add_library(ssa_torch INTERFACE)
target_include_directories(ssa_torch SYSTEM INTERFACE
  ${SSA_TORCH}/include ${SSA_TORCH}/include/torch/csrc/api/include)
# CMake compiles programs with -fPIE and libraries with -fPIC; one precompiled header serves both only if they agree.
target_compile_options(ssa_torch INTERFACE -fPIC)
# at::parallel_for is a template: without -fopenmp it would quietly run on one thread. Our libgomp.so.1 is LibTorch's own,
# by its soname, so there is one pool of threads.
target_compile_options(ssa_torch INTERFACE -fopenmp)
target_link_options(ssa_torch INTERFACE -fopenmp)
target_link_directories(ssa_torch INTERFACE ${SSA_TORCH}/lib)
list(APPEND CMAKE_BUILD_RPATH ${SSA_TORCH}/lib)
# Ahead of libtorch.so, which exports pieces of a C++ library of its own (in 2.11: std::filesystem, std::exception_ptr):
# exceptions that cross a thread would be lost, and walking folders crash.
target_link_options(ssa_torch INTERFACE "SHELL:-Wl,--push-state,--no-as-needed -lstdc++ -Wl,--pop-state")
target_link_options(ssa_torch INTERFACE "LINKER:--version-script=${CMAKE_CURRENT_LIST_DIR}/private_symbols.map")
target_link_libraries(ssa_torch INTERFACE torch torch_cpu c10)
if(EXISTS ${SSA_TORCH}/lib/libtorch_cuda.so)
  # Nothing in our code names a symbol of it: without --no-as-needed the linker would drop it, and the device with it.
  target_link_libraries(ssa_torch INTERFACE
    -Wl,--push-state,--no-as-needed torch_cuda c10_cuda -Wl,--pop-state)
  # The CUDA wheel's own dependencies lie beside it, found by its rpath at run time.
  target_link_options(ssa_torch INTERFACE -Wl,--allow-shlib-undefined)
endif()

# One precompiled header, shared by every module that sees torch: 3 s a file instead of 12. It holds the parts of LibTorch
# that many files name. All of torch/torch.h would double what every file pays for it, used or not: g++ makes the
# templates that a precompiled header asks for anew in each.
file(WRITE ${CMAKE_BINARY_DIR}/ssa_pch.cpp "")
add_library(ssa_pch OBJECT ${CMAKE_BINARY_DIR}/ssa_pch.cpp)
target_link_libraries(ssa_pch PRIVATE ssa_torch ssa_sanitizers ssa_warnings)
target_precompile_headers(ssa_pch PRIVATE
  <torch/types.h> <torch/autograd.h> <torch/cuda.h> <torch/nn/module.h> <torch/utils.h>)
