#!/usr/bin/env bash
# Runs the CUDA kernels of all operations on the host under AddressSanitizer and ThreadSanitizer:
# accesses out of bounds, and races between the threads of a block. Takes a while; arguments are
# those of the test program, e.g. --source-file='*layer_norm*'.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh --test
programs=(test_kernels_address test_kernels_thread_all)
cmake --build --preset release --target "${programs[@]}"
# One thread emulates. Those of the CPU's kernels are not watched, and ThreadSanitizer does not know
# what orders them: no test may start one.
export OMP_NUM_THREADS=1 OMP_THREAD_LIMIT=1
for program in "${programs[@]}"; do
  echo "== $program"
  "build/bin/$program" "$@"
done
