#!/usr/bin/env bash
# Formats every source with clang-format 14, that of Debian 12; --check changes nothing and fails
# where something would change.
set -euo pipefail
cd "$(dirname "$0")/.."
action=(-i)
[ "${1:-}" = --check ] && action=(--dry-run -Werror)
find . -path './build*' -prune -o -regex '.*\.\(h\|cpp\|cuh\|cu\)' -print0 |
  xargs -0 clang-format-14 "${action[@]}"
