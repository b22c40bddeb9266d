#!/usr/bin/env bash
# What the build needs: Debian packages, and LibTorch from the torch wheel in .venv. Does nothing where all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
torch_version=2.13.0

if [ -z "${SSA_OFFLINE:-}" ]; then
  mapfile -t packages < tools/packages.txt
  missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok' || missing+=("$package")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    echo "setup: installing ${missing[*]}" >&2
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    "${root[@]}" apt-get update -qq
    "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
fi

# LibTorch: SSA_TORCH, or with SSA_OFFLINE the PyTorch that python3 has, else our own virtual environment.
if [ -z "${SSA_TORCH:-}" ] && [ -z "${SSA_OFFLINE:-}" ] && [ ! -e .venv/torch-$torch_version ]; then
  echo "setup: torch $torch_version into .venv" >&2
  python3 -m venv .venv
  # Its Python dependencies are of no use here; only a CUDA build's libraries are.
  .venv/bin/pip install -q --disable-pip-version-check --no-deps "torch==$torch_version"
  if ls .venv/lib/python3*/site-packages/torch/lib/libtorch_cuda.so >/dev/null 2>&1; then
    .venv/bin/pip install -q --disable-pip-version-check "torch==$torch_version"
  fi
  touch .venv/torch-$torch_version
fi
