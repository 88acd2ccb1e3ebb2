#!/usr/bin/env bash
# Installs what building and running needs: Debian packages and nothing else. Does nothing, and
# needs neither network nor root, when all of them are there.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config
  libdnnl-dev libopenblas-openmp-dev libhwy-dev librandom123-dev
  nlohmann-json3-dev libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev libxxhash-dev libgloo-dev
  libjpeg62-turbo-dev libpng-dev libwebp-dev libtiff-dev libavif-dev libstb-dev zlib1g-dev
  doctest-dev
)
case "${1:-}" in
  --demo) packages+=(dataset-fashion-mnist) ;;
  --test) packages+=(clang-format-14 dataset-fashion-mnist) ;;
esac

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "Installing ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "setup: root is needed to install: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
log=$(mktemp)
install() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; }
{ "${as_root[@]}" apt-get update -q && install; } >"$log" 2>&1 || {
  cat "$log" >&2
  echo "setup: installing failed; the output of apt-get is above" >&2
  exit 1
}
rm -f "$log"
