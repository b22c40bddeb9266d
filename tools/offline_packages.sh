#!/usr/bin/env bash
# Gathers into .offline the .deb files that a build needs beside compiler, CMake and PyTorch, for machines without a
# network: make build SSA_OFFLINE=.offline
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(libbenchmark-dev libbenchmark1debian libcli11-dev libgloo-dev libgmock-dev libgtest-dev googletest libpcre2-8-0 libpcre2-dev
          libtomlplusplus-dev libutf8proc-dev libutf8proc2 nlohmann-json3-dev)
mkdir -p .offline
rm -f .offline/*.deb
root=()
[ "$(id -u)" = 0 ] || root=(sudo)
"${root[@]}" apt-get update -qq
(cd .offline && apt-get download -qq "${packages[@]}")
du -sh .offline >&2
