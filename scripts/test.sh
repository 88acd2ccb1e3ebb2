#!/usr/bin/env bash
# Installs what is missing, builds, runs every test, and ends with how many passed and failed.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh --test
[ -d "${SG_SHARED_DIR:-../shared}/golden" ] ||
  echo "WARNING: the golden files (../shared/golden) are not there: tests against them are SKIPPED"
# One test at a time: each uses all cores.
log=build/test.log
status=0
ctest --test-dir build --output-on-failure --no-tests=error 2>&1 | tee "$log" || status=$?
total=$(sed -n 's/.* tests failed out of \([0-9]*\)$/\1/p' "$log" | tail -1)
failed=$(sed -n 's/.*tests passed, \([0-9]*\) tests failed out of.*/\1/p' "$log" | tail -1)
echo "$((${total:-0} - ${failed:-0})) passed, ${failed:-0} failed"
exit "$status"
