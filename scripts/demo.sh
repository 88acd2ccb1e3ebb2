#!/usr/bin/env bash
# Installs what is missing, builds, trains a small SG-Former, evaluates it, and writes a report to look
# at. Minutes on two cores.
#   scripts/demo.sh                 the 60,000 images of Fashion-MNIST, ten classes
#   scripts/demo.sh segmentation    street scenes (CamVid, where ../shared/data has it), or garments
#                                   drawn before a background: a class for every pixel
# Further words are flags of sgtrain.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh --demo
run=demo/$(date +%Y%m%d-%H%M%S)
if [ "${1:-}" = segmentation ]; then
  shift
  data=${SG_SHARED_DIR:-../shared}/data/camvid
  flags=(--reduce-zero-label --img-size 128 --image-scale 720 144)
  if [ ! -d "$data" ]; then
    data=demo/scenes flags=(--img-size 96 --image-scale 384 96)
    [ -d "$data" ] || build/bin/demo_scenes "$data"
  fi
  build/bin/sgtrain --task segmentation --head semantic_fpn --data "$data" --model sgformer_nano \
    "${flags[@]}" --output "$run" "$@"
  measured="validation images"
else
  data=/usr/share/datasets/fashion-mnist
  build/bin/sgtrain --data "$data" --model sgformer_nano --output "$run" "$@"
  measured="test images"
fi
echo "Evaluating on the $measured:"
build/bin/sgeval --data "$data" --checkpoint "$run/checkpoints/last.safetensors"
echo "Report: $PWD/$run/report.html"
