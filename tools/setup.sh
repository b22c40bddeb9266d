#!/usr/bin/env bash
# What the build needs: Debian packages, and LibTorch from the torch wheel in .venv. Does nothing where all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
torch_version=2.13.0

# Off line, packages come from SSA_OFFLINE, and LibTorch from the PyTorch that python3 has (tools/build.sh).
[ -z "${SSA_OFFLINE:-}" ] || exit 0
tools/install_packages.sh tools/packages.txt

if [ -z "${SSA_TORCH:-}" ] && [ ! -e .venv/torch-$torch_version ]; then
  echo "setup: torch $torch_version into .venv" >&2
  python3 -m venv .venv
  # Its Python dependencies are of no use here; only a CUDA build's libraries are.
  .venv/bin/pip install -q --disable-pip-version-check --no-deps "torch==$torch_version"
  if ls .venv/lib/python3*/site-packages/torch/lib/libtorch_cuda.so >/dev/null 2>&1; then
    .venv/bin/pip install -q --disable-pip-version-check "torch==$torch_version"
  fi
  touch .venv/torch-$torch_version
fi
