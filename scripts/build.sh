#!/usr/bin/env bash
# Builds into build/ (release), after installing what is missing. Quick when nothing has changed.
#   scripts/build.sh           everything
#   scripts/build.sh --demo    the programs alone, and the data of the demo
#   scripts/build.sh --test    everything, and what the tests need besides
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh "$@"
[ -f build/build.ninja ] || cmake --preset release >build-configure.log || {
  cat build-configure.log >&2
  exit 1
}
rm -f build-configure.log
# Without a pass of the preprocessor before each compilation: compilers list what they include.
export CCACHE_DEPEND=1
target=all
[ "${1:-}" = --demo ] && target=programs
cmake --build --preset release --target "$target"
