#!/usr/bin/env bash
# Checks and measures the CUDA backend on a machine that has a GPU and nothing of ours: no package, no
# network, no compiler.
#   scripts/gpu_run.sh PART FROM OUT [STEP...]
#   PART  check    tests, golden files, sanitizers, throughput, time by op     (400 s)
#         compare  side by side with PyTorch                                   (260 s)
#         curves   loss curves beside PyTorch                                  (200 s)
#   FROM  the archive that scripts/gpu_pack.sh makes, which is unpacked once into UNPACKED
#         (/tmp/sgformer-gpu), or a folder of its form; a build folder has no shared/: set SG_SHARED_DIR
#   OUT   gets PART.log, PART.json and PART.tar.gz (all that the steps printed and wrote), written anew
#         after every step
# A step that fails, hangs or is missing something stops no other. Limits are variables, in seconds:
# TOTAL for the part, LIMIT_<step> for a step. PYTHON names the Python that may have PyTorch.
# Exit codes: 0 all steps passed or were skipped, 1 one failed, 2 no GPU or a wrong argument.
# docs/gpu.md says what each step shows.
set -uo pipefail

refuse() {
  echo "gpu_run: $1" >&2
  exit 2
}

declare -A steps_of=(
  [check]="about smoke bench_train bench_infer bench_segment golden_f32 golden_bf16 tests matmul_log guard
    memcheck throughput racecheck memcheck_nano racecheck_nano"
  [compare]="about compare"
  [curves]="about curves"
)
# Below the limits above: a machine that is lent by the minute also counts its start and transfers.
declare -A total_of=([check]=350 [compare]=225 [curves]=165)
declare -A limits=(
  [about]=40 [smoke]=30 [bench_train]=40 [bench_infer]=30 [bench_segment]=40 [golden_f32]=40 [golden_bf16]=40
  [tests]=120 [guard]=40 [memcheck]=80 [racecheck]=80 [matmul_log]=30 [throughput]=70
  [memcheck_nano]=40 [racecheck_nano]=40 [compare]=220 [curves]=160
)

[ $# -ge 3 ] || refuse "expected PART FROM OUT; the first lines of this file explain them"
part=$1 from=$2 out=$3
shift 3
[ -n "${steps_of[$part]:-}" ] || refuse "'$part' is not a part; there are: check, compare, curves"
read -r -d '' -a steps <<<"${steps_of[$part]}"
if [ $# -gt 0 ]; then
  for step in "$@"; do
    [[ " ${steps[*]} " == *" $step "* ]] ||
      refuse "'$step' is not a step of $part; there are: ${steps[*]}"
  done
  steps=("$@")
fi
total=${TOTAL:-${total_of[$part]}}
python=${PYTHON:-python3}

query() { timeout 30 nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -1; }
gpu=$(query name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.mem)
[ -n "$gpu" ] || refuse "no NVIDIA GPU: nvidia-smi is missing or finds none; nothing was checked"

# The archive is unpacked once, whole or not at all.
unpack() { # ARCHIVE
  local key folder=${UNPACKED:-/tmp/sgformer-gpu}
  key=$(sha256sum "$1" | cut -d ' ' -f 1)
  if [ "$(cat "$folder/.unpacked" 2>/dev/null)" != "$key" ]; then
    rm -rf "$folder"
    mkdir -p "$folder" || return 1
    if command -v xz >/dev/null; then
      xz -dc -T0 "$1"
    else
      "$python" -c 'import lzma, shutil, sys
shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer, 1 << 24)' "$1"
    fi | tar -xf - -C "$folder" || return 1
    echo "$key" >"$folder/.unpacked"
  fi
  from=$folder
}
archive=
if [ -f "$from" ]; then
  archive=$from
  unpack "$archive" || refuse "$archive could not be unpacked"
fi
[ -d "$from/bin" ] || refuse "$from: neither an archive of scripts/gpu_pack.sh nor a folder with bin/"
mkdir -p "$out" || refuse "$out cannot be made"
from=$(cd "$from" && pwd) out=$(cd "$out" && pwd)
bin=$from/bin shared=${SG_SHARED_DIR:-$from/shared}
bench=$from/tools/bench
[ -d "$bench" ] || bench=$(cd "$(dirname "$0")/.." && pwd)/tools/bench
# Nothing may pass unseen on the CPU; golden files are those of the archive.
export SG_REQUIRE_CUDA=1 SG_SHARED_DIR=$shared

work=$(mktemp -d) || exit 1
mkdir "$work/steps"
log=$out/$part.log
exec > >(trap '' INT TERM && exec tee "$log") 2>&1
logger=$!

children=()
names=() results=() reasons=() took=() # a row of the table each
left() { echo $((total - SECONDS)); }
add_row() { names+=("$1") results+=("$2") reasons+=("$3") took+=("$4"); }
skip() { # NAME REASON
  add_row "$1" skipped "$2" 0
  echo "== $1: skipped: $2"
}
limit_of() { # STEP
  local variable=LIMIT_$1
  echo "${!variable:-${limits[$1]}}"
}

has_time() { # STEP
  [ "$(left)" -ge 5 ] && return
  skip "$1" "no time left"
  return 1
}

# attempt LIMIT COMMAND...: within LIMIT seconds and those left; 124: ended by the limit.
attempt() {
  local limit=$1 rest
  shift
  rest=$(left)
  [ "$rest" -lt "$limit" ] && limit=$rest
  [ "$limit" -gt 0 ] || return 124
  timeout --kill-after=5 "$limit" "$@" &
  children=($!)
  wait "${children[0]}" # which a signal interrupts
}

# step NAME LIMIT COMMAND...: a row of the table; all that it prints is in steps/NAME.log.
step() {
  local name=$1 limit=$2 begin=$SECONDS
  shift 2
  has_time "$name" || return
  echo "== $name: $*"
  attempt "$limit" "$@" >"$work/steps/$name.log" 2>&1
  report "$name" $? $((SECONDS - begin))
}

report() { # NAME STATUS SECONDS
  local file=$work/steps/$1.log
  shorten "$file"
  tail -n 60 "$file"
  case $2 in
    0) add_row "$1" passed "" "$3" ;;
    77) add_row "$1" skipped "nothing failed; $(grep -c '^SKIPPED' "$file") cases were skipped" "$3" ;;
    124 | 137) add_row "$1" failed "out of time" "$3" ;;
    *)
      if grep -q 'Device not supported' "$file"; then # compute-sanitizer on some virtual machines
        add_row "$1" skipped "compute-sanitizer does not support this device" "$3"
      else
        add_row "$1" failed "exit code $2" "$3"
      fi
      ;;
  esac
  return "$2"
}

# A file that floods keeps its ends: results are to stay small.
shorten() { # FILE
  local half=1000000
  [ "$(stat -c %s "$1")" -le $((2 * half)) ] && return
  { head -c $half "$1" && printf '\n... cut ...\n' && tail -c $half "$1"; } >"$1.short"
  mv "$1.short" "$1"
}

has() { # NAME FILE: that a folder may lack, and an archive never
  [ -e "$from/$2" ] && return
  if [ -n "$archive" ]; then
    add_row "$1" failed "$2 is not in $archive" 0
  else
    skip "$1" "$from/$2 is missing"
  fi
  return 1
}

run_about() {
  step about "$(limit_of about)" bash -c '
    nvidia-smi
    nvidia-smi --query-gpu=uuid,ecc.mode.current,clocks.sm,clocks.mem,temperature.gpu --format=csv
    uname -a
    grep -m 1 "model name" /proc/cpuinfo; echo "$(nproc) cores"; head -1 /proc/meminfo
    ls -d /usr/local/cuda*
    df -h /tmp /dev/shm
    set -eo pipefail
    "$1/sginfo" sgformer_s | tail -3
    missing=$(for program in "$1"/*; do ldd "$program"; done | grep "=> not found" || true)
    [ -z "$missing" ] || { echo "libraries are missing: $missing"; exit 1; }
    "$2" -c "import torch; print(\"PyTorch\", torch.__version__, torch.cuda.is_available())" ||
      echo "no PyTorch in $2"' about "$bin" "$python"
}

bench_row() { # STEP MODEL MODE BATCH DTYPE [FLAG...]: sgbench once for people, once for programs
  has "$1" bin/sgbench || return
  local name=$1
  local run=("$bin/sgbench" --device cuda --model "$2" --mode "$3" --batch "$4" --dtype "$5")
  shift 5
  step "$name" "$(limit_of "$name")" "${run[@]}" "$@" || return
  attempt "$(limit_of "$name")" "${run[@]}" "$@" --json >"$work/steps/$name.json" \
    2>>"$work/steps/$name.log" && return
  rm "$work/steps/$name.json"
  add_row "${name}_json" failed "the same run with --json" 0
}
run_smoke() { bench_row smoke sgformer_nano train 8 f32 --repeats 3; }
run_bench_train() { bench_row bench_train sgformer_s train 256 bf16 --ops; }
run_bench_infer() { bench_row bench_infer sgformer_s infer 256 bf16 --ops; }
run_bench_segment() {
  bench_row bench_segment sgformer_s train 16 bf16 --task segmentation --head upernet --ops
}

run_golden() { # STEP DTYPE
  has "$1" bin/golden_check || return
  if [ ! -d "$shared/golden" ]; then
    skip "$1" "the golden files ($shared/golden) are not there"
    return
  fi
  step "$1" "$(limit_of "$1")" "$bin/golden_check" --device cuda --dtype "$2" \
    "$shared"/golden/{modules,models,any_size,dense}
}
run_golden_f32() { run_golden golden_f32 f32; }
run_golden_bf16() { run_golden golden_bf16 bf16; }

# A process a file, since nothing works in one after a fault; four at a time, since most of the time
# goes into references on the CPU.
run_tests() {
  has tests gpu_tests.txt || return
  local test name rest end=$((SECONDS + $(limit_of tests))) threads=$((($(nproc) + 3) / 4))
  local -A test_of begin_of
  children=()
  while read -r test; do
    [ ${#children[@]} -ge 4 ] && finish_test
    name=tests_${test//\//_}
    rest=$((end - SECONDS))
    [ "$(left)" -lt "$rest" ] && rest=$(left)
    if [ "$rest" -lt 1 ]; then
      skip "$name" "no time left"
      continue
    fi
    OMP_NUM_THREADS=$threads timeout --kill-after=5 "$rest" "$bin/test_${test%%/*}_gpu" \
      "--source-file=*$test.cpp" >"$work/steps/$name.log" 2>&1 &
    children+=($!) test_of[$!]=$name begin_of[$!]=$SECONDS
  done <"$from/gpu_tests.txt"
  while [ ${#children[@]} -gt 0 ]; do finish_test; done
}
# Waits for one of run_tests. Not by `wait -n`: bash forgets a job that a signal ended meanwhile.
finish_test() {
  local pid status i
  while :; do
    for i in "${!children[@]}"; do
      pid=${children[i]}
      kill -0 "$pid" 2>/dev/null && continue
      wait "$pid" 2>/dev/null
      status=$?
      unset "children[i]"
      echo "== ${test_of[$pid]}"
      report "${test_of[$pid]}" $status $((SECONDS - begin_of[$pid]))
      write_results
      return
    done
    sleep 0.1
  done
}

one_step=(--mode train --warmup 0 --repeats 1 --eager --no-roofline --device cuda --dtype bf16)
run_guard() {
  has guard bin/sgbench || return
  step guard "$(limit_of guard)" env SG_ALLOCATOR_GUARD=4096 "$bin/sgbench" --model sgformer_s \
    --batch 2 "${one_step[@]}"
}
run_sanitizer() { # STEP TOOL MODEL
  has "$1" bin/sgbench || return
  local sanitizer
  sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer) || {
    skip "$1" "compute-sanitizer is not installed"
    return
  }
  local flags=(--error-exitcode 9)
  # Blocks have their exact size, but lie side by side: padding is what an overrun meets.
  [ "$2" = memcheck ] && flags+=(--padding 4096)
  step "$1" "$(limit_of "$1")" env SG_ALLOCATOR_GUARD=0 "$sanitizer" --tool "$2" "${flags[@]}" \
    "$bin/sgbench" --model "$3" --batch 2 "${one_step[@]}" || return
  # One that attached to nothing has said nothing.
  grep -qE 'SUMMARY: 0 (errors|hazards)' "$work/steps/$1.log" && return
  [ "${results[-1]}" = passed ] && results[-1]=failed reasons[-1]="no summary of the sanitizer"
}
# The S model has the widths of the convolution kernels for 64 and 96 channels and the head width of
# attention's asynchronous copies; nano is quick and has neither.
run_memcheck() { run_sanitizer memcheck memcheck sgformer_s; }
run_racecheck() { run_sanitizer racecheck racecheck sgformer_s; }
run_memcheck_nano() { run_sanitizer memcheck_nano memcheck sgformer_nano; }
run_racecheck_nano() { run_sanitizer racecheck_nano racecheck sgformer_nano; }

# What cuBLASLt was asked for and what it chose, in one training step.
run_matmul_log() {
  has matmul_log bin/sgbench || return
  step matmul_log "$(limit_of matmul_log)" env CUBLASLT_LOG_LEVEL=5 \
    CUBLASLT_LOG_FILE="$work/steps/cublaslt.log" "$bin/sgbench" --model sgformer_s \
    --batch 256 "${one_step[@]}"
  [ -f "$work/steps/cublaslt.log" ] && shorten "$work/steps/cublaslt.log"
}

number() { sed -n "s/^ *\"$2\": *\([0-9.eE+-]*\),\{0,1\}\$/\1/p" "$1" | head -1; }

# Out of memory or of time is a result and goes into the table; other failures fail.
throughput_row() { # LIMIT MODEL MODE BATCH
  local file=$work/steps/throughput-$2-$3-$4.json shown="" memory=""
  attempt "$1" "$bin/sgbench" --device cuda --dtype bf16 --model "$2" --mode "$3" --batch "$4" \
    --no-roofline --json >"$file" 2>"$file.log"
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

run_throughput() {
  has throughput bin/sgbench && has_time throughput || return
  local model mode batch rest limit begin=$SECONDS failures=0
  limit=$(limit_of throughput)
  echo "== throughput: bf16, 224x224, random images"
  echo "| model | mode | batch | images/s | peak memory, GiB |"
  echo "|---|---|---:|---:|---:|"
  for mode in train infer; do
    for model in sgformer_s sgformer_m sgformer_b; do
      for batch in 256 64 1; do
        [ $mode = train ] && [ $batch = 1 ] && continue
        rest=$((limit - SECONDS + begin))
        [ $rest -gt 25 ] && rest=25 # one that hangs leaves time for the others
        throughput_row $rest $model $mode $batch || failures=$((failures + 1))
      done
    done
  done
  if [ $failures = 0 ] && compgen -G "$work/steps/throughput-*.json" >/dev/null; then
    add_row throughput passed "" $((SECONDS - begin))
  else
    add_row throughput failed "$failures runs failed" $((SECONDS - begin))
  fi
}

has_torch() { # STEP [MODULE that it needs too]
  attempt 120 "$python" -c "import torch, ${2:-torch}; assert torch.cuda.is_available()" \
    2>"$work/steps/import_torch.log" && return
  skip "$1" "$python has no PyTorch that sees the GPU${2:+, or no $2}: $(tail -1 "$work/steps/import_torch.log")"
  return 1
}
budget_of() { # STEP: seconds for a script that ends by itself, a little before its limit
  local budget
  budget=$(limit_of "$1")
  [ "$(left)" -lt "$budget" ] && budget=$(left)
  echo $((budget - 8))
}
run_compare() {
  has compare bin/sgbench && has_torch compare || return
  step compare "$(limit_of compare)" "$python" "$bench/compare_torch.py" --device cuda \
    --budget "$(budget_of compare)" --sgbench "$bin/sgbench" --json "$work/steps/compare.json"
}
run_curves() {
  has curves bin/sgtrain && has_torch curves timm || return
  # Checkpoints of these runs are thrown away: keep them in memory where there is room for them.
  local room workers=8
  room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)
  [ "${room:-0}" -gt 4000000 ] && export TMPDIR=/dev/shm
  [ "${room:-0}" -gt 1000000 ] || workers=2 # PyTorch's hand over their batches there
  step curves "$(limit_of curves)" "$python" "$bench/compare_training.py" \
    --data "$shared/data/imagenette224" --budget "$(budget_of curves)" --sgtrain "$bin/sgtrain" \
    --json "$work/steps/curves.json" -- --device cuda --model sgformer_s --batch-size 64 \
    --epochs 5 --cooldown-epochs 0 --lr 3e-4 --workers $workers
}

escaped() { printf '%s' "$1" | sed 's/[\\"]/\\&/g' | tr -d '\000-\037'; }
write_results() {
  local i comma="" file=$out/$part.json
  {
    printf '{"date": "%s", "commit": "%s", "gpu": "%s", "seconds": %d,\n "steps": [' "$date" \
      "$(escaped "$commit")" "$(escaped "$gpu")" $SECONDS
    for i in "${!names[@]}"; do
      printf '%s\n  {"name": "%s", "result": "%s", "reason": "%s", "seconds": %d}' "$comma" \
        "${names[i]}" "${results[i]}" "$(escaped "${reasons[i]}")" "${took[i]}"
      comma=","
    done
    printf '],\n "figures": {'
    comma=""
    for i in "$work"/steps/*.json; do
      [ -s "$i" ] || continue
      printf '%s"%s": ' "$comma" "$(basename "$i" .json)"
      cat "$i"
      comma=", "
    done
    printf '}}\n'
  } >"$file.new"
  mv "$file.new" "$file"
  tar -czf "$out/$part.tar.gz.new" -C "$work" steps && mv "$out/$part.tar.gz.new" "$out/$part.tar.gz"
}

# Who ends it gets what there is: no step has time left. Nor does a mistake in here lose results.
trap write_results EXIT
trap 'total=0; kill "${children[@]}" 2>/dev/null' INT TERM

date=$(date -u '+%Y-%m-%d %H:%M UTC')
commit=$(cat "$from/COMMIT" 2>/dev/null || echo "a build of unknown commit")
echo "$date; $commit; $gpu"
for name in "${steps[@]}"; do
  "run_$name"
  write_results
done

failed=0
echo
echo "| step | result | seconds |"
echo "|---|---|---:|"
for i in "${!names[@]}"; do
  echo "| ${names[i]} | ${results[i]}${reasons[i]:+: ${reasons[i]}} | ${took[i]} |"
  [ "${results[i]}" = failed ] && failed=1
done
exec >&- 2>&-
wait "$logger"
trap - EXIT
rm -rf "$work"
exit $failed
