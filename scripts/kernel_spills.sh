#!/usr/bin/env bash
# Lists the CUDA kernels that keep anything in local memory (a stack, registers spilled), by what
# ptxas says: architecture, bytes of stack, of spilled stores and of loads, registers, kernel.
# Compiles every kernel, which takes minutes. Arguments: architectures, by default sm_80 sm_90.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- sm_80 sm_90
for arch in "$@"; do
  for file in core/cuda/*_cuda.cu ops/*/*_cuda.cu; do
    nvcc -arch="$arch" -cubin -o /dev/null -Xptxas -v -O3 -std=c++20 --expt-relaxed-constexpr \
      --extended-lambda -DFMT_CONSTEVAL= -DFMT_USE_CONSTEXPR=1 -I. "$file" 2>&1 | awk -v arch="$arch" '
        /Function properties for/ { kernel = $NF }
        /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
        /Used [0-9]+ registers/ && stack + stores + loads > 0 {
          print arch, stack, stores, loads, $5, kernel
        }'
  done
done | c++filt
