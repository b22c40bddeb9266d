# ssa_add_cuda_kernels(NAME), behind ssa_add_module(NAME ...)
#
# src/NAME/cuda/*.cu = target ssa_NAME_cuda: kernels over plain pointers, no torch; their headers need no CUDA. Built where
# LibTorch has CUDA and there is an nvcc; ssa_NAME, and what links it, then sees SSA_HAVE_CUDA_KERNELS. Anywhere else
# nothing happens, and nothing is asked for.
option(SSA_CUDA "Build the CUDA kernels, if LibTorch has CUDA and nvcc is found" ON)
set(SSA_CUDA_ARCHITECTURES 80-virtual 90a-real CACHE STRING "As CMAKE_CUDA_ARCHITECTURES; PTX for 80 serves later GPUs")

set(ssa_have_nvcc OFF)
if(SSA_CUDA AND EXISTS "${SSA_TORCH}/lib/libtorch_cuda.so")
  find_program(SSA_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(SSA_NVCC)
    set(ssa_have_nvcc ON)
    set(CMAKE_CUDA_COMPILER ${SSA_NVCC})
    set(CMAKE_CUDA_ARCHITECTURES ${SSA_CUDA_ARCHITECTURES})
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25.1, Debian 12's, does not know nvcc's C++20
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
  else()
    message(STATUS "LibTorch has CUDA, but there is no nvcc: built without CUDA kernels of our own")
  endif()
endif()

function(ssa_add_cuda_kernels name)
  file(GLOB sources CONFIGURE_DEPENDS cuda/*.cu)
  if(NOT ssa_have_nvcc OR NOT sources)
    return()
  endif()
  add_library(ssa_${name}_cuda STATIC ${sources})
  target_include_directories(ssa_${name}_cuda PUBLIC ${PROJECT_SOURCE_DIR}/src)
  # cudart is linked statically, CMake's default: LibTorch's own copy need not be found. Both use the device's one context.
  set_target_properties(ssa_${name}_cuda PROPERTIES CUDA_STANDARD 20)
  target_link_libraries(ssa_${name} PUBLIC ssa_${name}_cuda)
  target_compile_definitions(ssa_${name} PUBLIC SSA_HAVE_CUDA_KERNELS)
  install(TARGETS ssa_${name}_cuda ARCHIVE OPTIONAL)
endfunction()
