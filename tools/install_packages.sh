#!/usr/bin/env bash
# tools/install_packages.sh LIST: installs the Debian packages that a file names, one a line, where they are missing.
set -euo pipefail
mapfile -t packages < "$1"
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok' || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
echo "setup: installing ${missing[*]}" >&2
root=()
[ "$(id -u)" = 0 ] || root=(sudo)
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
