"""Do we learn as PyTorch does? Several runs of each on the same images with the same recipe, and
whether the loss curves differ by more than runs of one side differ among themselves.

Runs take turns, so that a --budget that ends early leaves as many of each. The recipe: random crops
and flips, smoothed cross entropy, stochastic depth, AdamW with a cosine over the epochs; random
numbers are each side's own, so single steps cannot be compared, only curves. The test is exact and
has no tolerance: of all ways to deal the runs into two groups, the share in which the groups' means
lie at least as far apart as ours and PyTorch's (summed over the parts of the curve, in units of the
variance of each over all runs).
"""

import argparse
import itertools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from contestants import HERE, NOTES, ROOT, Budget, machine, note, write_json

LEVEL = 0.05  # curves count as different where chance alone would part them so rarely


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


def recipe(args, seed):
    """What both sides are told in the same words."""
    names = dict(data=args.data, model=args.model, device=args.device, dtype=args.dtype,
                 epochs=args.epochs, lr=args.lr, seed=seed, workers=args.workers,
                 threads=args.threads)
    names["min-lr"] = args.lr / 100
    return [word for name, value in names.items() for word in (f"--{name}", str(value))]


def ours(args, seed, limit):
    with tempfile.TemporaryDirectory() as folder:
        run([str(args.sgtrain), *recipe(args, seed), "--batch-size", str(args.batch),
             "--max-steps", str(args.steps), "--warmup-epochs", "0", "--cooldown-epochs", "0", "--aa", "none",
             "--model-ema-decay", "0", "--log-interval", "1", "--output", folder], limit)
        rows = [json.loads(line) for file in Path(folder).rglob("metrics.jsonl")
                for line in file.read_text().splitlines()]
    return [r["loss"] for r in rows if "grad_norm" in r]  # the others are evaluations


def theirs(args, seed, limit):
    out = run([sys.executable, str(HERE / "torch_learning.py"), *recipe(args, seed), "--batch",
               str(args.batch), "--steps", str(args.steps)], limit)
    answer = next(line for line in out.splitlines() if line.startswith("@"))
    return json.loads(answer[1:])["losses"]


def collect(args, budget, save):
    """-> {"ours": [losses of a run], "PyTorch": ...}, as many runs of each, and whether one of ours
    failed. save(runs) after each pair."""
    runs = {"ours": [], "PyTorch": []}
    for i in range(args.seeds):
        for name, train in (("ours", ours), ("PyTorch", theirs)):
            print(f"{name}, run {i + 1} of {args.seeds}", file=sys.stderr, flush=True)
            try:
                losses = train(args, args.first_seed + i, budget.left())
                if len(losses) != args.steps or not all(map(math.isfinite, losses)):
                    raise RuntimeError(f"expected {args.steps} finite losses, found {losses}")
            except (subprocess.TimeoutExpired, RuntimeError) as e:
                why = e if isinstance(e, RuntimeError) else "the budget ends within it"
                note(f"{name}, run {i + 1} of {args.seeds}: {why}")
                failed = name == "ours" and isinstance(e, RuntimeError)
                return {k: v[:i] for k, v in runs.items()}, failed
            runs[name].append(losses)
        save(runs)
    return runs, False


def parts_of(losses, parts):
    """Means of consecutive parts of a curve: single steps are noisy."""
    edges = [round(i * len(losses) / parts) for i in range(parts + 1)]
    return [statistics.fmean(losses[a:b]) for a, b in itertools.pairwise(edges)]


def chance(ours, theirs):
    """Share of the ways to deal the curves into two groups that part them at least as far."""
    curves = ours + theirs
    weights = [1 / v if v > 0 else 0.0 for v in map(statistics.pvariance, zip(*curves))]

    def distance(group):
        means = [[statistics.fmean(column) for column in
                  zip(*(c for i, c in enumerate(curves) if (i in group) == side))]
                 for side in (True, False)]
        return sum(w * (a - b)**2 for w, a, b in zip(weights, *means))

    deals = [distance(set(g)) for g in itertools.combinations(range(len(curves)), len(ours))]
    return statistics.fmean(d >= deals[0] * (1 - 1e-9) for d in deals)  # the first deal is ours


def judge(curves, steps):
    """Prints the table and -> (verdict, chance); the verdict is None where runs are too few."""
    def cell(values):
        spread = f" +- {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.3f}{spread}"

    print("| steps | ours | PyTorch | difference |\n|---|---:|---:|---:|")
    parts = len(curves["ours"][0])
    for k in range(parts):
        a, b = ([c[k] for c in curves[name]] for name in ("ours", "PyTorch"))
        print(f"| {round(k * steps / parts)} - {round((k + 1) * steps / parts) - 1} | {cell(a)} | "
              f"{cell(b)} | {statistics.fmean(a) - statistics.fmean(b):+.3f} |")
    n = len(curves["ours"])
    least = 2 / math.comb(2 * n, n)  # a deal and its mirror image part the runs as far
    p = chance(curves["ours"], curves["PyTorch"])
    if least > LEVEL:
        print(f"\nNo verdict: {n} runs of each cannot tell a difference from chance; 4 can.")
        return None, p
    agree = p > LEVEL
    print(f"\nThe curves {'agree' if agree else 'do NOT agree'} within their run-to-run spread: "
          f"chance alone parts {n} and {n} runs as far in {100 * p:.1f} % of cases "
          f"(at most {100 * LEVEL:.0f} % would count as a difference).")
    return agree, p


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/imagenette224",
                   help="folder with train/ and val/, a sub-folder per class")
    p.add_argument("--model", default="sgformer_s",
                   choices=("sgformer_s", "sgformer_m", "sgformer_b"))
    p.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    p.add_argument("--dtype", choices=("f32", "bf16"), help="default: bf16 on cuda, f32 on cpu")
    p.add_argument("--steps", type=int, default=150)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=3e-4, help="at the start; a hundredth at the end")
    p.add_argument("--seeds", type=int, default=4, help="runs of each side")
    p.add_argument("--first-seed", type=int, default=1)
    p.add_argument("--parts", type=int, default=10, help="of a curve that are compared")
    p.add_argument("--workers", type=int, default=8, help="that load images")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--budget", type=float, metavar="SECONDS", help="end with what there is then")
    p.add_argument("--sgtrain", type=Path, default=ROOT / "build/bin/sgtrain")
    p.add_argument("--json", type=Path, metavar="FILE", help="write all the losses here")
    args = p.parse_args()
    args.dtype = args.dtype or ("bf16" if args.device == "cuda" else "f32")
    args.parts = min(args.parts, args.steps)
    if not args.sgtrain.exists():
        p.error(f"{args.sgtrain} is not built")
    train = args.data / "train"
    images = sum(1 for f in train.glob("*/*"))
    if images < args.batch:
        p.error(f"{train}: expected at least a batch of {args.batch} images, found {images}")
    args.epochs = math.ceil(args.steps / (images // args.batch))

    about = machine()
    if not about["torch"]:
        p.error(f"{sys.executable} has no PyTorch to compare with")
    print(f"{about['date']}; {args.model}, {args.device}, {args.dtype}; {args.steps} steps of "
          f"{args.batch} from {images} images, lr {args.lr:g}; PyTorch {about['torch']}, "
          f"commit {about['commit']}\n")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs end with us

    def save(losses, **verdict):
        if args.json:
            write_json(args.json, dict(
                machine=about, arguments={k: str(v) for k, v in vars(args).items()}, losses=losses,
                notes=NOTES, **verdict))

    runs, failed = collect(args, Budget(args.budget), save)
    if not runs["PyTorch"]:
        sys.exit("compare_training: not one run of each succeeded; the note above says why")
    curves = {name: [parts_of(r, args.parts) for r in of] for name, of in runs.items()}
    agree, share = judge(curves, args.steps)
    save(runs, chance=share, agree=agree)
    return 1 if failed or agree is False else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as e:
        sys.exit(f"compare_training: {e}")
