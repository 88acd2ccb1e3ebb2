#!/usr/bin/env bash
# Builds everything into build/ (release). Quick when nothing has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh "$@"
[ -f build/build.ninja ] || cmake --preset release >build-configure.log || {
  cat build-configure.log >&2
  exit 1
}
rm -f build-configure.log
cmake --build --preset release
