#!/usr/bin/env bash
# Installs what is missing, builds, runs every test, names those that were skipped and why, and ends
# with how many passed, failed and were skipped. A test is skipped, not passed, where it lacks golden
# files (SG_SHARED_DIR, default ../shared), a GPU, or a right; that alone is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh --test
# One test at a time, as each uses all cores; two where both have one thread (PROCESSORS).
results=build/test.xml
rm -f "$results"
status=0
ctest --test-dir build -j2 --output-on-failure --no-tests=error --output-junit "${results#build/}" || status=$?
# A test counts as skipped where it said so itself, and as passed where it ran to a good end.
awk -F'"' '
  /^\t<testcase name=/ {
    name = $2
    ++tests
    if ($0 ~ /status="run">/) ++passed
  }
  /^\t\t<skipped message="SKIP_RETURN_CODE/ { ++skipped; print "skipped: " name }
  /^(<!\[CDATA\[|\t\t<system-out>)?SKIPPED: / { sub(/^.*SKIPPED: /, ""); print "  " $0 }
  END { printf "%d passed, %d failed, %d skipped\n", passed, tests - passed - skipped, skipped }
' "$results"
exit "$status"
