#!/usr/bin/env bash
# Rehearses what docs/gpu.md asks for on a machine with a GPU: packs, unpacks into a bare root, where no
# package of ours is, and runs the three lines of docs/gpu.md there, first with the real programs and
# then with stand-ins that pass, fail, hang and flood.
# Exit codes: 0 passed, 1 failed, 77 skipped (no golden files, or no right to make a root).
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
  echo "SKIPPED: $1"
  exit 77
}
fail() {
  echo "FAILED: $1" >&2
  exit 1
}
expect() { # WHAT FOUND EXPECTED
  [ "$2" = "$3" ] || fail "$1: expected '$3', found '$2'"
}
[ -d "${SG_SHARED_DIR:-../shared}/golden" ] || skip "the golden files are not there"
unshare -rm true 2>/dev/null || skip "unshare: not permitted"

echo "== pack"
# Quickly, beside the archive that a person packed. What is below 65 MB so is below 62 MB by default.
archive=gpu_pack/test.tar.xz
export PRESET=1 LIMIT=65000000 ARCHIVE=$archive
packed=$(scripts/gpu_pack.sh)
echo "$packed"
[[ $packed =~ [0-9]+\ bytes\ \(commit ]] || fail "the size is not printed"
git check-ignore -q "$archive" || fail "$archive is not ignored by git"
made=$(stat -c %Y "$archive")
scripts/gpu_pack.sh >/dev/null
expect "packed again without a change" "$(stat -c %Y "$archive")" "$made"
LIMIT=1000 scripts/gpu_pack.sh >/dev/null 2>&1 && fail "an archive over the limit passes"

echo "== a root with nothing but what every Debian has"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{usr/bin,usr/lib,usr/lib64,usr/lib32,usr/sbin,tmp,proc,dev,repo/gpu_pack,standins,record}
for link in bin sbin lib lib64 lib32; do ln -s usr/$link "$root/$link"; done
touch "$root/dev/null"
ln -s /proc/self/fd "$root/dev/fd"
essential=$(dpkg-query -W -f '${Essential} ${binary:Package}\n' | sed -n 's/^yes //p')
tools=$(dpkg -L $essential xz-utils | grep -E '^(/usr)?/s?bin/' | sort -u)
for tool in $tools $(command -v awk); do
  [ -f "$tool" ] && cp -L "$tool" "$root/usr/bin/${tool##*/}"
done
ln -sf bash "$root/usr/bin/sh"
{ for tool in "$root"/usr/bin/*; do ldd "$tool" 2>/dev/null || true; done; } |
  grep -o '/[^ ]*\.so[^ ]*' | sort -u | while read -r library; do
  mkdir -p "$root${library%/*}"
  cp -L "$library" "$root$library"
done
find "$root" -name 'lib*' | grep -E 'dnnl|openblas|gomp|spdlog|hwy|jpeg' &&
  fail "the bare root has libraries of ours"
cp -r scripts "$root/repo"
cp "$archive" "$root/repo/gpu_pack/sgformer-gpu.tar.xz"

cat >"$root/standins/nvidia-smi" <<'END'
#!/bin/bash
[ -f /record/no_gpu ] && exit 9
echo "NVIDIA Stand-in, 580.0, 1 MiB, 1 W, 1 MHz, 1 MHz"
END
chmod +x "$root/standins/nvidia-smi"

# In the root: run COMMAND..., in /repo; prints nothing unless it is asked for.
inside() {
  unshare -rm --propagation private bash -c '
    mount --bind /dev/null "$1/dev/null"
    mount -t proc proc "$1/proc" 2>/dev/null || mount --rbind /proc "$1/proc"
    exec chroot "$1" /usr/bin/env -i PATH=/standins:/usr/bin HOME=/tmp OUT=/results "${@:2}"' \
    inside "$root" bash -c 'cd /repo && "$@"' in_repo "$@"
}
# The line of docs/gpu.md for a part, as a person would paste it.
line_of() {
  sed -n "s/^    \(scripts\/gpu_run.sh $1 .*\)$/\1/p" docs/gpu.md
}
# run_part PART [NAME=VALUE...]: its exit code.
run_part() {
  local part=$1 line code=0
  shift
  line=$(line_of "$part")
  [ -n "$line" ] || fail "docs/gpu.md has no line for $part"
  [ ${#line} -lt 2000 ] || fail "the line for $part is ${#line} characters long"
  rm -rf "$root/results"
  inside env "$@" bash -c "$line" >"$root/record/$part.out" 2>&1 || code=$?
  echo $code
}
# field PART INDEX NAME: of the steps in PART.json; fails where that is no JSON.
field() {
  cmake -D "FILE=$root/results/$1.json" -D "PATH_=steps;$2;$3" -P tests/scripts/json_field.cmake 2>&1
}
result_of() { # PART STEP: "passed ", "failed out of time", ...
  local i
  for ((i = 0; ; ++i)); do
    expect_step=$(field "$1" $i name) || fail "$1.json has no step $2"
    [ "$expect_step" = "$2" ] && break
  done
  echo "$(field "$1" $i result) $(field "$1" $i reason)"
}
check_files() { # PART: few and small enough to come back
  expect "files of $1" "$(ls "$root/results" | tr '\n' ' ')" "$1.json $1.log $1.tar.gz "
  local large
  large=$(find "$root/results" -size +16000k)
  [ -z "$large" ] || fail "too large to come back: $large"
}

echo "== the real programs: libraries are found, and nothing passes without a GPU"
expect "exit code with programs that find no GPU" "$(run_part check)" 1
expect "about" "$(result_of check about)" "passed "
tar -xzOf "$root/results/check.tar.gz" steps/about.log >"$root/record/about"
grep -q '=> not found' "$root/record/about" && fail "libraries are missing: $(cat "$root/record/about")"
grep -q 'parameters' "$root/record/about" || fail "sginfo did not run: $(cat "$root/record/about")"
passed=$(grep -c '^| .* | passed' "$root/results/check.log")
expect "steps that pass without a GPU" "$passed" 1
grep -q '^| tests_ops_linear_test | failed' "$root/results/check.log" || fail "the tests did not run"
check_files check

echo "== stand-ins: order, arguments, results"
bin=$root/tmp/sgformer-gpu/bin
cat >"$root/standins/program" <<'END'
#!/bin/bash
name=${0##*/}
echo "$name $*" >>/record/calls
[ "${SG_REQUIRE_CUDA:-}" = 1 ] || exit 50
behaviour=$(cat "/record/behaviour_$name" 2>/dev/null)
case $behaviour in
  fail) echo "it fails"; exit 3 ;;
  hang) trap '' TERM; while :; do sleep 1; done ;;
  flood) yes "the same line again and again" | head -c 40000000 ;;
  crash) sleep 0.3; kill -SEGV $$ ;;
esac
[[ " $* " == *" --json "* ]] && printf '{\n "images_per_second": 100.5,\n "peak_memory_bytes": 1073741824\n}\n'
[ -n "${CUBLASLT_LOG_FILE:-}" ] && echo "[cublasLt] a log" >"$CUBLASLT_LOG_FILE"
exit 0
END
cat >"$root/standins/compute-sanitizer" <<'END'
#!/bin/bash
echo "compute-sanitizer $*" >>/record/calls
echo "allocator guard $SG_ALLOCATOR_GUARD" >>/record/calls
[ -f /record/sanitizer_is_blind ] || echo "========= ERROR SUMMARY: 0 errors"
END
cat >"$root/standins/python3" <<'END'
#!/bin/bash
echo "python3 $*" >>/record/calls
while [ $# -gt 0 ]; do
  [ "$1" = --json ] && echo '{"cases": []}' >"$2"
  shift
done
exit 0
END
chmod +x "$root"/standins/*
for program in "$bin"/*; do cp "$root/standins/program" "$program"; done

expect "exit code where all pass" "$(run_part check)" 0
check_files check
order=$(sed -n 's/^| \([a-z0-9_]*\) | passed.*/\1/p' "$root/results/check.log" |
  sed 's/^tests_.*/tests/' | uniq | tr '\n' ' ')
expect "order of the steps" "$order" "about smoke bench_train bench_infer bench_segment golden_f32 golden_bf16 tests \
matmul_log guard memcheck throughput racecheck memcheck_nano racecheck_nano "
expect "a figure" "$(cmake -D "FILE=$root/results/check.json" -D "PATH_=figures;bench_train;images_per_second" \
  -P tests/scripts/json_field.cmake 2>&1)" 100.5
grep -q 'compute-sanitizer --tool memcheck .*--padding 4096 .*sgbench --model sgformer_s' \
  "$root/record/calls" || fail "memcheck does not see S"
tests=$(wc -l <"$root/tmp/sgformer-gpu/gpu_tests.txt")
expect "test processes" "$(grep -c '^test_[a-z]*_gpu --source-file' "$root/record/calls")" "$tests"
tar -xzOf "$root/results/check.tar.gz" steps/cublaslt.log | grep -q cublasLt || fail "no cuBLASLt log"
for part in compare curves; do
  expect "exit code of $part" "$(run_part $part)" 0
  check_files $part
  expect "$part" "$(result_of $part $part)" "passed "
done
grep -q 'compare_torch.py --device cuda --budget' "$root/record/calls" || fail "compare did not run"
grep -q 'compare_training.py --data .* -- --device cuda' "$root/record/calls" || fail "curves did not run"

echo "== what fails, hangs or floods stops no other"
echo hang >"$root/record/behaviour_golden_check"
echo fail >"$root/record/behaviour_test_core_gpu"
echo flood >"$root/record/behaviour_test_sgformer_gpu"
begin=$SECONDS
expect "exit code where one fails" "$(run_part check LIMIT_golden_f32=2 LIMIT_golden_bf16=1)" 1
[ $((SECONDS - begin)) -lt 60 ] || fail "a step that hangs is not ended in time"
expect "a step that hangs" "$(result_of check golden_f32)" "failed out of time"
expect "a test that fails" "$(result_of check tests_core_allocator_test)" "failed exit code 3"
expect "a test that floods" "$(result_of check tests_sgformer_classifier_test)" "passed "
expect "the step after" "$(result_of check throughput)" "passed "
check_files check
begin=$SECONDS
expect "exit code where the time ends" "$(run_part check TOTAL=12)" 1
[ $((SECONDS - begin)) -lt 30 ] || fail "the limit of the whole is not kept"
expect "a step without time" "$(result_of check throughput)" "skipped no time left"

echo "== tests that crash or hang all at once"
rm "$root"/record/behaviour_*
for program in "$bin"/test_*; do echo crash >"$root/record/behaviour_${program##*/}"; done
expect "exit code where all tests crash" "$(run_part check)" 1
expect "a test that crashes" "$(result_of check tests_ops_linear_test)" "failed exit code 139"
expect "the step after" "$(result_of check matmul_log)" "passed "
for program in "$bin"/test_*; do echo hang >"$root/record/behaviour_${program##*/}"; done
expect "exit code where all tests hang" "$(run_part check LIMIT_tests=2)" 1
first=$(head -1 "$root/tmp/sgformer-gpu/gpu_tests.txt")
expect "a test that hangs" "$(result_of check "tests_${first//\//_}")" "failed out of time"
expect "the step after" "$(result_of check matmul_log)" "passed "
check_files check
touch "$root/record/sanitizer_is_blind"
rm "$root"/record/behaviour_*
expect "exit code where the sanitizer sees nothing" "$(run_part check)" 1
expect "such a sanitizer" "$(result_of check memcheck)" "failed no summary of the sanitizer"
rm "$root/record/sanitizer_is_blind"
rm "$bin/golden_check"
expect "exit code where a program is missing" "$(run_part check)" 1
[[ $(result_of check golden_f32) == "failed bin/golden_check is not in "* ]] || fail "not missed"
cp "$root/standins/program" "$bin/golden_check"

echo "== ended from outside: what there is stays"
rm -rf "$root/results"
for program in "$bin"/test_*; do echo hang >"$root/record/behaviour_${program##*/}"; done
inside bash -c "$(line_of check) & sleep 8; kill -TERM \$!; wait \$!" >"$root/record/ended" 2>&1 || true
expect "a step before the end" "$(result_of check smoke)" "passed "
expect "a step after it" "$(result_of check throughput)" "skipped no time left"
check_files check
rm "$root"/record/behaviour_*

echo "== refused: no GPU, wrong arguments"
touch "$root/record/no_gpu"
expect "exit code without a GPU" "$(run_part check)" 2
rm "$root/record/no_gpu"
for arguments in "" "nothing /tmp /results" "check /nowhere /results" "check /tmp/sgformer-gpu /results no_step"; do
  code=0
  inside scripts/gpu_run.sh $arguments >"$root/record/refused" 2>&1 || code=$?
  expect "exit code of 'gpu_run.sh $arguments'" $code 2
done
echo "passed"
