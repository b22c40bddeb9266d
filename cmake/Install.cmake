# make install: bin/ssa, the headers as include/ssa/FOLDER/NAME.h, the archives, and what the program needs at run time.
#
# LibTorch of our own virtual environment is copied, so that the program outlives this tree. One that SSA_TORCH names,
# and one with CUDA (gigabytes, tied to the packages around it), stays where it is.
install(DIRECTORY src/ DESTINATION include/ssa FILES_MATCHING PATTERN *.h)
set(run_path $ORIGIN/../lib)

cmake_path(IS_PREFIX PROJECT_SOURCE_DIR "${SSA_TORCH}" NORMALIZE own_torch)
if(own_torch AND NOT EXISTS ${SSA_TORCH}/lib/libtorch_cuda.so)
  file(GLOB libraries ${SSA_TORCH}/lib/libtorch_cpu.so ${SSA_TORCH}/lib/libc10.so ${SSA_TORCH}/lib/libgomp*.so*)
  install(FILES ${libraries} TYPE LIB)
else()
  list(APPEND run_path ${SSA_TORCH}/lib)
endif()

if(SSA_OFFLINE)  # the system lacks these
  file(GLOB libraries ${offline_lib}/libpcre2-8.so.* ${offline_lib}/libutf8proc.so.*)
  install(FILES ${libraries} TYPE LIB)
endif()

set_target_properties(ssa PROPERTIES INSTALL_RPATH "${run_path}")
install(TARGETS ssa)
