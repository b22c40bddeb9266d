# Sanitizers come through presets alone (SSA_SANITIZE), never through global flags.
add_library(ssa_sanitizers INTERFACE)
if(SSA_SANITIZE)
  target_compile_options(ssa_sanitizers INTERFACE
    -fsanitize=${SSA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(ssa_sanitizers INTERFACE -fsanitize=${SSA_SANITIZE})
endif()
if(SSA_FUZZ)  # coverage feedback in every module; main() comes with tests/fuzz
  target_compile_options(ssa_sanitizers INTERFACE -fsanitize=fuzzer-no-link)
endif()
