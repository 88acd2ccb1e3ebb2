"""Do we learn as PyTorch does, or in bf16 as in f32? Several runs of each side on the same images by the
same recipe, and whether loss and accuracy, epoch by epoch, differ by more than runs of one side
differ among themselves.

    python compare_training.py --data DIR -- FLAGS OF sgtrain
    python compare_training.py --against f32 --data DIR -- FLAGS OF sgtrain

sgtrain trains by these flags, and torch_learning.py (or torch_segmentation_learning.py, after --task
segmentation, with --eval-interval 1) by the args.json that sgtrain then wrote; --against f32 trains
with sgtrain in bf16 and, by other seeds, in f32. Runs take turns, so that a --budget that ends early
leaves as many of each. Random numbers are each side's own, so single steps cannot be compared, only
curves. The test is exact and has no tolerance: of all ways to deal the runs into two groups, the
share in which the groups' means lie at least as far apart as those of the two sides (summed over
epochs and curves, in units of the variance of each over all runs).
"""

import argparse
import itertools
import json
import math
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contestants import HERE, NOTES, ROOT, Budget, find_split, machine, note, write_json

LEVEL = 0.05  # curves count as different where chance alone would part them so rarely
CURVES = {"train_loss": "training loss", "eval_model_top1": "top-1", "eval_top1": "top-1 of the EMA",
          "eval_mIoU": "mIoU", "eval_aAcc": "accuracy of pixels"}  # those that a task has
LEARNING = {"classification": "torch_learning.py", "segmentation": "torch_segmentation_learning.py"}


def links(data, per_class, folder):
    """-> a data set in `folder` of links to the first images of each class of DIR."""
    for split, count in zip(("train", "val"), per_class):
        for of_class in find_split(data, split).iterdir():
            to = folder / split / of_class.name
            to.mkdir(parents=True)
            for image in sorted(of_class.iterdir())[:count]:
                (to / image.name).symlink_to(image.resolve())
    return folder


def run(command, limit):
    """-> standard output. The whole process group ends with the time limit."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, _ = process.communicate(timeout=limit)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"`{' '.join(command)}` ended with {process.returncode}")
    return out


def timed(command, limit):
    """-> standard output, and the seconds that it took."""
    def cpu():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    wall, before = time.monotonic(), cpu()
    out = run(command, limit)
    return out, dict(seconds=time.monotonic() - wall, cpu_seconds=cpu() - before)


def ours(args, seed, folder, limit, flags=()):
    _, took = timed([str(args.sgtrain), *args.flags, *flags, "--data", str(args.data), "--seed",
                     str(seed), "--checkpoint-hist", "1", "--output", str(folder)], limit)
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return dict(seed=seed, epochs=[r for r in rows if "train_loss" in r], **took)


def theirs(args, seed, folder, limit):
    recipe = folder / "args.json"
    script = LEARNING[json.loads(recipe.read_text())["task"]]
    out, took = timed([sys.executable, str(HERE / script), str(recipe)], limit)
    answer = next(line for line in out.splitlines() if line.startswith("@"))
    return dict(seed=seed, **json.loads(answer[1:]), **took)


def bf16(args, seed, folder, limit):
    return ours(args, seed, folder / "bf16", limit, ["--dtype", "bf16"])


def f32(args, seed, folder, limit):
    """Of seeds that the other side has not: runs that share one are no independent draws."""
    return ours(args, seed + args.seeds, folder / "f32", limit, ["--dtype", "f32"])


SIDES = {"PyTorch": {"ours": ours, "PyTorch": theirs}, "f32": {"bf16": bf16, "f32": f32}}


def curve(run):
    """-> the values of CURVES, one after the other."""
    values = [row[name] for name in CURVES if name in run["epochs"][0] for row in run["epochs"]]
    if not all(map(math.isfinite, values)):
        raise RuntimeError(f"expected finite numbers, found {run['epochs']}")
    return values


def collect(args, budget, save):
    """-> {side: [a run]} of both sides, as many runs of each, and whether one failed that is not
    the budget's fault. save(runs) after each pair."""
    sides = SIDES[args.against]
    runs = {name: [] for name in sides}
    for i in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for name, train in sides.items():
                label = f"{name}, run {i + 1} of {args.seeds}"
                print(label, file=sys.stderr, flush=True)
                try:
                    result = train(args, args.first_seed + i, Path(folder), budget.left())
                    curve(result)
                except (subprocess.TimeoutExpired, RuntimeError) as e:
                    failed = isinstance(e, RuntimeError)
                    note(f"{label}: {e if failed else 'the budget ends within it'}")
                    return runs | {k: runs[k][:i] for k in sides}, failed
                runs[name].append(result)
            recipe = json.loads(next(Path(folder).glob("**/args.json")).read_text())
            of_run = {"data", "output", "seed"} | ({"dtype"} if args.against == "f32" else set())
            runs["recipe"] = {k: v for k, v in recipe.items() if k not in of_run}
        save(runs)
    return runs, False


def chance(first, second):
    """Share of the ways to deal the curves into two groups that part them at least as far."""
    curves = first + second
    weights = [1 / v if v > 0 else 0.0 for v in map(statistics.pvariance, zip(*curves))]

    def distance(group):
        means = [[statistics.fmean(column) for column in
                  zip(*(c for i, c in enumerate(curves) if (i in group) == side))]
                 for side in (True, False)]
        return sum(w * (a - b)**2 for w, a, b in zip(weights, *means))

    deals = [distance(set(g)) for g in itertools.combinations(range(len(curves)), len(first))]
    return statistics.fmean(d >= deals[0] * (1 - 1e-9) for d in deals)  # the first deal is theirs


def judge(first, second, runs):
    """Prints the tables of two sides and -> (verdict, chance); the verdict is None where runs are too
    few."""
    def cell(values):
        return f"{statistics.fmean(values):.3f} ({min(values):.3f} - {max(values):.3f})"

    for name, title in CURVES.items():
        if name not in runs[first][0]["epochs"][0]:
            continue
        print(f"| epoch | {title}, {first} | {second} | difference |\n|---:|---:|---:|---:|")
        for epoch in range(len(runs[first][0]["epochs"])):
            a, b = ([r["epochs"][epoch][name] for r in runs[side]] for side in (first, second))
            print(f"| {epoch + 1} | {cell(a)} | {cell(b)} | "
                  f"{statistics.fmean(a) - statistics.fmean(b):+.3f} |")
        print()
    n = len(runs[first])
    least = 2 / math.comb(2 * n, n)  # a deal and its mirror image part the runs as far
    p = chance(*([curve(r) for r in runs[side]] for side in (first, second)))
    if least > LEVEL:
        print(f"No verdict: {n} runs of each cannot tell a difference from chance; 4 can.")
        return None, p
    agree = p > LEVEL
    print(f"The curves {'agree' if agree else 'do NOT agree'} within their run-to-run spread: "
          f"chance alone parts {n} and {n} runs as far in {100 * p:.1f} % of cases "
          f"(at most {100 * LEVEL:.0f} % would count as a difference).")
    return agree, p


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/imagenette224",
                   help="folder with train/ and val/ (or test/), a sub-folder per class")
    p.add_argument("--against", choices=SIDES, default="PyTorch",
                   help="ours against PyTorch's, or ours in bf16 against ours in f32")
    p.add_argument("--per-class", type=int, nargs=2, metavar=("TRAIN", "VAL"),
                   help="use the first images of each class alone")
    p.add_argument("--seeds", type=int, default=4, help="runs of each side")
    p.add_argument("--first-seed", type=int, default=1)
    p.add_argument("--budget", type=float, metavar="SECONDS", help="end with what there is then")
    p.add_argument("--sgtrain", type=Path, default=ROOT / "build/bin/sgtrain")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the recipe and all runs here")
    p.add_argument("flags", nargs="+", help="of sgtrain, after --")
    args = p.parse_args()
    if not args.sgtrain.exists():
        p.error(f"{args.sgtrain} is not built")
    about = machine()
    if args.against == "PyTorch" and not about["torch"]:
        p.error(f"{sys.executable} has no PyTorch to compare with")
    if args.against == "f32" and any(f.startswith("--dtype") for f in args.flags):
        p.error("--against f32 gives sgtrain --dtype itself; leave the flag out")
    print(f"{about['date']}; {args.data}, {' '.join(args.flags)}; PyTorch {about['torch']}, "
          f"commit {about['commit']}\n")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs end with us

    def save(runs, **verdict):
        if args.json:
            write_json(args.json, dict(machine=about, command=sys.argv[1:], **runs, notes=NOTES,
                                       **verdict))

    with tempfile.TemporaryDirectory() as folder:
        if args.per_class:
            args.data = links(args.data, args.per_class, Path(folder))
        runs, failed = collect(args, Budget(args.budget), save)
    sides = SIDES[args.against]
    if not all(runs[side] for side in sides):
        sys.exit("compare_training: not one run of each succeeded; the note above says why")
    agree, share = judge(*sides, runs)
    save(runs, chance=share, agree=agree)
    return 1 if failed or agree is False else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as e:
        sys.exit(f"compare_training: {e}")
