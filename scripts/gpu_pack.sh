#!/usr/bin/env bash
# Packs all that scripts/gpu_run.sh needs on a machine that has a GPU and nothing of ours: programs and
# GPU tests with their libraries, golden files, some real images, the scripts. cuBLASLt, NCCL and cuDNN,
# which are hundreds of MB, are not packed but looked for there (docs/gpu.md). Needs the CUDA toolkit, no
# GPU. Writes gpu_pack/sgformer-gpu.tar.xz, which git ignores, and prints its size; takes seconds when
# nothing has changed.
#   scripts/gpu_pack.sh
# Variables: TRAIN_IMAGES and VAL_IMAGES of each class are taken along (default 60 and 10), LIMIT is the
# most bytes that may travel (62,000,000), PRESET that of xz (9; 1 is four times as fast and makes 5 %
# more), ARCHIVE the file to write. Exit codes: 0 done, 1 failed or too large.
set -euo pipefail
cd "$(dirname "$0")/.."
train=${TRAIN_IMAGES:-60} val=${VAL_IMAGES:-10} limit=${LIMIT:-62000000} preset=${PRESET:-9}
shared=${SG_SHARED_DIR:-../shared}
archive=${ARCHIVE:-gpu_pack/sgformer-gpu.tar.xz}

fail() {
  echo "gpu_pack: $1" >&2
  exit 1
}
command -v nvcc >/dev/null || fail "no CUDA compiler: nvcc is not on PATH"
scripts/setup.sh
[ -f build/build.ninja ] || cmake --preset release >/dev/null
architectures=$(sed -n 's/^CMAKE_CUDA_ARCHITECTURES:[A-Z]*=//p' build/CMakeCache.txt)
[[ ";$architectures;" =~ ";90" ]] || fail "build/ has no code for H100 and H200 (sm_90): $architectures"
cmake --build build --target gpu_programs
for folder in golden/modules golden/models golden/any_size golden/dense data/imagenette224; do
  [ -d "$shared/$folder" ] || fail "$shared/$folder is not there (SG_SHARED_DIR names the folder)"
done

# The first images of each class, by name.
images() {
  local split count class
  for split in train:$train val:$val; do
    count=${split#*:} split=${split%:*}
    for class in "$shared/data/imagenette224/$split"/*/; do
      find "$class" -type f | LC_ALL=C sort | sed -n "1,${count}p"
    done
  done
}
# Of the dense kinds those of segmentation that run on a device, as far as there is room.
dense=("$shared"/golden/dense/modules/{fpn_odd,fcn_head_train,semantic_fpn_odd_train,upernet_odd_train}.*
  "$shared"/golden/dense/losses/segmentation_loss*
  "$shared"/golden/dense/resize/{interpolate,adaptive_pool}_*)
files=(scripts/gpu_run.sh tools/bench/*.py "$shared"/golden/{modules,models,any_size}/* "${dense[@]}")
commit="commit $(git rev-parse --short=12 HEAD)"
[ -z "$(git status --porcelain -uno)" ] || commit+=" with changes"
commit+="; $(nvcc --version | sed -n 's/.*release \([0-9.]*\),.*/CUDA \1/p'), sm ${architectures//;/ }"

mkdir -p "$(dirname "$archive")"
key=$({
  echo "$commit, xz $preset"
  find build/bin -maxdepth 1 -type f | LC_ALL=C sort | xargs sha256sum
  images
  sha256sum "${files[@]}"
} | sha256sum)
if [ ! -f "$archive" ] || [ "$(cat "$archive.key" 2>/dev/null)" != "$key" ]; then
  stage=$(mktemp -d)
  trap 'rm -rf "$stage"' EXIT
  # Not the component of libavif, whose codecs would be a third of the archive: no test there needs it.
  cmake --install build --strip --component Unspecified --prefix "$stage" >/dev/null
  cp build/gpu_tests.txt "$stage"
  mkdir -p "$stage"/{scripts,tools/bench,shared/golden/dense}
  cp scripts/gpu_run.sh "$stage/scripts"
  cp tools/bench/*.py "$stage/tools/bench"
  cp -r "$shared"/golden/{modules,models,any_size} "$stage/shared/golden"
  cp "${dense[@]}" "$stage/shared/golden/dense"
  images | while read -r image; do
    to=$stage/shared/${image#"$shared/"}
    mkdir -p "${to%/*}"
    cp "$image" "$to"
  done
  chmod -R u+w "$stage"
  echo "$commit" >"$stage/COMMIT"
  # Programs that need no GPU stay here. A window of 512 MiB sees what all the others share.
  rm "$stage"/bin/{sgpack,sgconvert,demo_scenes}
  (cd "$stage" && tar --sort=name --owner=0 --group=0 --mtime=@0 -cf - COMMIT gpu_tests.txt bin lib \
    scripts tools shared) | xz --lzma2="preset=$preset,dict=512MiB" -T1 >"$archive.new"
  mv "$archive.new" "$archive"
  echo "$key" >"$archive.key"
fi
bytes=$(stat -c %s "$archive")
echo "$archive: $bytes bytes ($commit)"
[ "$bytes" -le "$limit" ] || fail "it is larger than $limit bytes; take fewer images (TRAIN_IMAGES)"
