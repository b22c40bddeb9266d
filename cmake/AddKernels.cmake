# ssa_add_kernels(NAME DEPS folder...)
#
# src/NAME/cpu = target ssa_NAME_cpu: loops over plain pointers, no torch. A file's name says which instruction set it is
# compiled for: *_avx2.cpp, *_avx512.cpp; the rest runs anywhere. Which one runs is decided at run time
# (base/cpu_features.h), so nothing but functions of a table may leave such a file: an inline function shared with other
# files would be kept once, in whichever instruction set the linker met first.
set(ssa_avx2_flags -mavx2 -mfma -mf16c)
set(ssa_avx512_flags ${ssa_avx2_flags} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16
  -mprefer-vector-width=512
  -Wno-maybe-uninitialized)  # false alarms in g++ 12's own immintrin.h (GCC bug 105593)

function(ssa_add_kernels name)
  cmake_parse_arguments(arg "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS cpu/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_library(ssa_${name}_cpu STATIC ${sources})
  target_include_directories(ssa_${name}_cpu PUBLIC ${PROJECT_SOURCE_DIR}/src)
  foreach(dep IN LISTS arg_DEPS)
    target_link_libraries(ssa_${name}_cpu PUBLIC ssa_${dep})
  endforeach()
  target_link_libraries(ssa_${name}_cpu PRIVATE ssa_warnings PUBLIC ssa_sanitizers)
  target_compile_options(ssa_${name}_cpu PRIVATE $<$<NOT:$<CONFIG:Debug>>:-O3>)
  foreach(source IN LISTS sources)
    if(source MATCHES "_(avx2|avx512)\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${ssa_${CMAKE_MATCH_1}_flags}")
    endif()
  endforeach()
  install(TARGETS ssa_${name}_cpu ARCHIVE OPTIONAL)
endfunction()
