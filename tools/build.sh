#!/usr/bin/env bash
# tools/build.sh PRESET TARGET: configure if needed, and build.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1 target=$2
flags=()
if [ -n "${SSA_OFFLINE:-}" ]; then
  flags+=("-DSSA_OFFLINE=$(realpath "$SSA_OFFLINE")")
  SSA_TORCH=${SSA_TORCH:-$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))')}
fi
[ -z "${SSA_TORCH:-}" ] || flags+=("-DSSA_TORCH=$SSA_TORCH")
if command -v ccache >/dev/null; then
  flags+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  # A precompiled header defeats ccache unless it is told not to mind the header's time stamps.
  export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset "$preset" "${flags[@]}" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
cmake --build --preset "$preset" --target "$target"
