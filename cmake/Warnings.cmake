# All warnings in one target, linked PRIVATE by every module; errors only where a preset asks for them.
add_library(ssa_warnings INTERFACE)
target_compile_options(ssa_warnings INTERFACE
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>  # false alarms on std::string in g++ 12 (GCC bug 105651)
  -Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow -Wnon-virtual-dtor -Wcast-align)
option(SSA_WERROR "Treat warnings as errors" OFF)
if(SSA_WERROR)
  target_compile_options(ssa_warnings INTERFACE -Werror)
endif()
