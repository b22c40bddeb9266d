# All warnings in one target, linked PRIVATE by every module; errors only where a preset asks for them.
add_library(ssa_warnings INTERFACE)
target_compile_options(ssa_warnings INTERFACE
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>  # false alarms on std::string in g++ 12 (GCC bug 105651)
  # Files that SSA_UNITY joins look like headers, whose types must not hold those of an unnamed namespace.
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<BOOL:${SSA_UNITY}>>:-Wno-subobject-linkage>
  -Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow -Wnon-virtual-dtor -Wcast-align)
option(SSA_WERROR "Treat warnings as errors" OFF)
if(SSA_WERROR)
  target_compile_options(ssa_warnings INTERFACE -Werror)
endif()
