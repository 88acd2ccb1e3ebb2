#!/usr/bin/env bash
# Installs what is missing, builds, trains a small SG-Former on the 60,000 images of Fashion-MNIST,
# evaluates it on the 10,000 test images, and writes a report to look at. Minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh --demo
data=/usr/share/datasets/fashion-mnist
run=demo/$(date +%Y%m%d-%H%M%S)
build/bin/sgtrain --data "$data" --model sgformer_nano --output "$run" "$@"
echo "Evaluating on the test images:"
build/bin/sgeval --data "$data" --checkpoint "$run/checkpoints/last.safetensors"
echo "Report: $PWD/$run/report.html"
