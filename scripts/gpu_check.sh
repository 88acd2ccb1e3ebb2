#!/usr/bin/env bash
# Checks and measures the CUDA backend on a machine with a card; 9 minutes at most, no network:
#   scripts/gpu_check.sh [DIR [STEP...]]
# DIR (default gpu_check/) gets gpu_check.log, gpu_check.json (written anew after every step) and the
# files of the steps. The steps are those of all_steps below, each with a time limit of its own; one
# that fails does not stop the others. Ends with a table of them. BUILD and PYTHON name the build
# folder and the Python that may have torch. Exit codes: 0 all passed or were skipped, 1 one failed, 2 no card, no CUDA compiler,
# or a wrong argument. docs/gpu.md says what each step shows.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export SG_REQUIRE_CUDA=1 # what would fall back to the CPU fails

all_steps=(build tests golden memcheck racecheck throughput ops compare)
total=530 # seconds for everything
build=${BUILD:-build-gpu}
python=${PYTHON:-python3}
out=${1:-gpu_check}
steps=("${all_steps[@]}")
[ $# -gt 1 ] && steps=("${@:2}")

refuse() {
  echo "gpu_check: $1" >&2
  exit 2
}
for step in "${steps[@]}"; do
  [[ " ${all_steps[*]} " == *" $step "* ]] ||
    refuse "'$step' is not a step; there are: ${all_steps[*]}"
done
wanted() { [[ " ${steps[*]} " == *" $1 "* ]]; }
if wanted build; then
  command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
  command -v nvcc >/dev/null ||
    refuse "no CUDA compiler: nvcc is neither on PATH nor in /usr/local/cuda/bin"
fi
fields=name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.mem
query() { timeout 30 nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -1; }
card=$(query $fields)
[ -n "$card" ] || refuse "no NVIDIA card: nvidia-smi is missing or finds none; nothing was checked"

mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
work=$out/steps
rm -rf "$work"
mkdir -p "$work"
exec > >(trap '' INT TERM && exec tee "$out/gpu_check.log") 2>&1
logger=$!

child=
names=() results=() reasons=() took=() # a row of the table each
left() { echo $((total - SECONDS)); }
add_row() { names+=("$1") results+=("$2") reasons+=("$3") took+=("$4"); }
skip() {
  add_row "$1" skipped "$2" 0
  echo "== $1: skipped: $2"
}

# attempt LIMIT COMMAND...: within LIMIT seconds and those left; 124: ended by the limit.
attempt() {
  local limit=$1 rest
  shift
  rest=$(left)
  [ "$rest" -lt "$limit" ] && limit=$rest
  [ "$limit" -gt 0 ] || return 124
  timeout --kill-after=5 "$limit" "$@" &
  child=$!
  wait $child # which a signal interrupts
}

# step NAME LIMIT COMMAND...: a row of the table.
step() {
  local name=$1 limit=$2 begin=$SECONDS status
  shift 2
  if [ "$(left)" -lt 5 ]; then
    skip "$name" "no time left"
    return
  fi
  echo "== $name: $*"
  mkdir -p "$(dirname "$work/$name.log")"
  attempt "$limit" "$@" >"$work/$name.log" 2>&1
  status=$?
  tail -n 100 "$work/$name.log"
  case $status in
    0) add_row "$name" passed "" $((SECONDS - begin)) ;;
    77)
      add_row "$name" skipped "$(sed -n 's/^SKIPPED: //p' "$work/$name.log" | head -1)" \
        $((SECONDS - begin))
      ;;
    124 | 137) add_row "$name" failed "out of time; see steps/$name.log" $((SECONDS - begin)) ;;
    *) add_row "$name" failed "exit code $status; see steps/$name.log" $((SECONDS - begin)) ;;
  esac
  write_json
  return $status
}

number() { sed -n "s/^ *\"$2\": *\([0-9.eE+-]*\),\{0,1\}\$/\1/p" "$1" | head -1; }
escaped() { printf '%s' "$1" | sed 's/[\\"]/\\&/g' | tr -d '\000-\037'; }
built() { # NAME PROGRAM: or a row that says what is missing
  [ -x "$build/bin/$2" ] && return
  skip "$1" "$build/bin/$2 is not built"
  return 1
}

# Tests that reach the device cuda: those that CTest labels gpu, by the rule of tests/CMakeLists.txt.
gpu_tests() {
  ls tests/ops/*_test.cpp
  grep -lE 'have_(cuda|gpu)\(|[^_]devices\(|--device cuda' tests/{core,sgformer,train,tools}/*_test.cpp
}

# Only what is used here, and only for this card where the compiler knows it; else for all, with code
# that the driver compiles. What fails to compile takes nothing else with it.
run_build() {
  local kind targets=() source arch=()
  kind=$(query compute_cap | tr -d .)
  if nvcc --list-gpu-code 2>/dev/null | grep -qx "sm_$kind"; then
    arch=("-DCMAKE_CUDA_ARCHITECTURES=$kind-real")
  fi
  step configure 60 cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSG_CUDA=ON \
    "${arch[@]}" || return
  for source in tools/*.cpp; do targets+=("$(basename "$source" .cpp)"); done
  for source in $(gpu_tests | xargs -n 1 dirname | sort -u); do
    targets+=("test_$(basename "$source")_gpu")
  done
  step build 240 cmake --build "$build" --target "${targets[@]}" -- -k 0
}

# A process a file: after a fault nothing works in the process that met it.
run_tests() {
  local source folder found=0 limit end=$((SECONDS + 180))
  for source in $(gpu_tests); do
    folder=$(basename "$(dirname "$source")")
    [ -x "$build/bin/test_${folder}_gpu" ] || continue
    found=1
    limit=$((end - SECONDS))
    [ $limit -gt 60 ] && limit=60
    step "tests/$folder/$(basename "$source" .cpp)" $limit "$build/bin/test_${folder}_gpu" \
      "--source-file=*$folder/$(basename "$source")"
  done
  [ $found = 1 ] || skip tests "$build/bin/test_*_gpu are not built"
}

run_golden() {
  built golden golden_check || return
  local shared=${SG_SHARED_DIR:-../shared}
  if [ ! -d "$shared/golden" ]; then
    skip golden "the golden files ($shared/golden) are not there"
    return
  fi
  local dtype
  for dtype in f32 bf16; do
    step golden_$dtype 40 "$build/bin/golden_check" --device cuda --dtype $dtype \
      "$shared/golden/"{modules,models,any_size}
  done
}

run_sanitizer() { # TOOL
  built "$1" sgbench || return
  local sanitizer
  sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer) || {
    skip "$1" "compute-sanitizer is not installed"
    return
  }
  step "$1" 90 "$sanitizer" --tool "$1" --error-exitcode 9 "$build/bin/sgbench" --device cuda \
    --dtype bf16 --model sgformer_nano --mode train --batch 2 --warmup 0 --repeats 1 --eager \
    --no-limits
}

# Being out of memory or of time is a result and goes into the table; other failures fail.
throughput_row() { # LIMIT MODEL MODE BATCH
  local file=$work/throughput-$2-$3-$4.json shown="" memory=""
  attempt "$1" "$build/bin/sgbench" --device cuda --dtype bf16 --model "$2" --mode "$3" \
    --batch "$4" --json >"$file" 2>"$file.log"
  case $? in
    0)
      shown=$(number "$file" images_per_second)
      memory=$(awk "BEGIN { printf \"%.2f\", $(number "$file" peak_memory_bytes) / 2^30 }")
      ;;
    124 | 137) shown="out of time" ;;
    *)
      shown=$(tail -1 "$file.log")
      grep -qi "out of memory" "$file.log" && shown="out of memory"
      ;;
  esac
  echo "| $2 | $3 | $4 | $shown | $memory |"
  [ -n "$memory" ] && return
  rm "$file"
  [[ $shown == "out of time" || $shown == "out of memory" ]]
}

# Fails too where no run succeeds.
run_throughput() {
  built throughput sgbench || return
  local model mode batch limit begin=$SECONDS failures=0 status=passed
  echo "== throughput: bf16, 224x224, random images"
  echo "| model | mode | batch | images/s | peak memory, GiB |"
  echo "|---|---|---:|---:|---:|"
  for mode in train infer; do
    for model in sgformer_s sgformer_m sgformer_b; do
      for batch in 256 64 1; do
        [ $mode = train ] && [ $batch = 1 ] && continue
        limit=$((90 - SECONDS + begin))
        [ $limit -gt 25 ] && limit=25 # one that hangs leaves time for the others
        throughput_row $limit $model $mode $batch || failures=$((failures + 1))
      done
    done
  done
  [ $failures = 0 ] && compgen -G "$work/throughput-*.json" >/dev/null || status=failed
  add_row throughput $status "$([ $failures = 0 ] || echo "$failures runs")" $((SECONDS - begin))
}

run_ops() {
  built ops sgbench || return
  local mode run
  for mode in train infer; do
    run=("$build/bin/sgbench" --device cuda --dtype bf16 --model sgformer_s --mode "$mode"
      --batch 256 --ops)
    step ops_$mode 30 "${run[@]}" || continue
    attempt 30 "${run[@]}" --json >"$work/ops-$mode.json" || rm "$work/ops-$mode.json"
  done
}

run_compare() {
  built compare sgbench || return
  if ! attempt 60 "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    skip compare "$python has no torch that sees the card; our own figures are those of throughput"
    return
  fi
  local budget=$(($(left) - 15))
  if [ $budget -lt 30 ]; then
    skip compare "no time left"
    return
  fi
  step compare $((budget + 10)) "$python" tools/bench/compare_torch.py --device cuda \
    --budget $budget --sgbench "$build/bin/sgbench" --json "$work/compare.json"
}

# The values of all the files that a pattern finds, in JSON: {"name": ..., ...}.
files_json() {
  local file comma=""
  printf '{'
  for file in "$work"/$1; do
    [ -s "$file" ] || continue
    printf '%s"%s": ' "$comma" "$(basename "$file" .json)"
    cat "$file"
    comma=", "
  done
  printf '}'
}

write_json() {
  local i comma="" file=$out/gpu_check.json
  {
    printf '{"date": "%s", "commit": "%s", "card": "%s", "cuda": "%s",\n' "$date" \
      "$(escaped "$commit")" "$(escaped "$card")" "$(escaped "$cuda")"
    printf ' "seconds": %d,\n "steps": [' $SECONDS
    for i in "${!names[@]}"; do
      printf '%s\n  {"name": "%s", "result": "%s", "reason": "%s", "seconds": %d}' "$comma" \
        "${names[i]}" "${results[i]}" "$(escaped "${reasons[i]}")" "${took[i]}"
      comma=","
    done
    printf '],\n "throughput": '
    files_json 'throughput-*.json'
    printf ',\n "ops": '
    files_json 'ops-*.json'
    printf ',\n "compare": '
    if [ -s "$work/compare.json" ]; then cat "$work/compare.json"; else echo null; fi
    printf '}\n'
  } >"$file.new"
  mv "$file.new" "$file"
}

# Who ends it gets what there is: no step has time left.
trap 'total=0; kill "$child" 2>/dev/null' INT TERM

date=$(date -u '+%Y-%m-%d %H:%M UTC')
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain -uno 2>/dev/null)" ] || commit+=" with changes"
cuda=$(nvcc --version 2>/dev/null | sed -n 's/.*release //p')
echo "$date; commit $commit; $card; nvcc $cuda"

for name in "${all_steps[@]}"; do
  wanted "$name" || continue
  case $name in
    build) run_build ;;
    tests) run_tests ;;
    golden) run_golden ;;
    memcheck | racecheck) run_sanitizer "$name" ;;
    throughput) run_throughput ;;
    ops) run_ops ;;
    compare) run_compare ;;
  esac
  write_json
done
failed=0
echo
echo "| step | result | seconds |"
echo "|---|---|---:|"
for i in "${!names[@]}"; do
  echo "| ${names[i]} | ${results[i]}${reasons[i]:+: ${reasons[i]}} | ${took[i]} |"
  [ "${results[i]}" = failed ] && failed=1
done
[ $failed = 0 ] || echo "
What a step printed is in $work. To have a kernel that faults named, run its command again with
CUDA_LAUNCH_BLOCKING=1; sgbench and sgtrain then need --eager too."
exec >&- 2>&-
wait "$logger"
exit $failed
