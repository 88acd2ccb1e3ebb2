"""Our framework and PyTorch side by side, in one run, on the CPU: inference, training, loader.

Every contestant is a process of its own; they take turns in rounds, so that a noisy machine is
noisy for all of them. Prints Markdown tables; see README.md for what each contestant does.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VARIANTS = ("eager", "eager-tuned", "compile", "compile-tuned")

# Keeps freed memory in the process (each step allocates the same sizes again) and lets large
# tensors have huge pages. Faster and larger than the stock allocator.
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "THP_MEM_ALLOC_ENABLE": "1",
}


class Worker:
    """A torch_worker.py process that stays alive between its turns."""

    def __init__(self, name, arguments, threads, tuned=False):
        self.name, self.samples, self.cpu, self.peak = name, [], [], 0
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "torch_worker.py"), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=env | TUNED if tuned else env)
        self.about = self.read()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        raise SystemExit(f"{self.name}: the process ended with {self.process.wait()}")

    def turn(self, images, repeats):
        """`repeats` steps of `images` images each."""
        self.process.stdin.write(f"run {repeats}\n")
        result = self.read()
        self.samples += [images / s for s in result["wall"]]
        self.cpu += [c / w for c, w in zip(result["cpu"], result["wall"])]
        self.peak = max(self.peak, result["peak"])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Sgbench:
    """Our program, started anew in every turn; it repeats by itself and gives its median."""

    def __init__(self, program, arguments):
        self.name, self.samples, self.cpu, self.peak = "ours", [], [], 0
        self.command = [str(program), *arguments, "--json"]
        self.about = {}

    def turn(self, images, repeats):
        begin = time.perf_counter()
        process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"`{' '.join(self.command)}` ended with {process.returncode}")
        self.about = json.loads(out)
        per_core = self.about.get("images_per_second_per_core")
        self.samples.append(per_core or self.about["images_per_second"])
        self.cpu.append((usage.ru_utime + usage.ru_stime) / (time.perf_counter() - begin))
        self.peak = max(self.peak, usage.ru_maxrss * 1024)

    def close(self):
        pass


def our_contestant(args, arguments):
    if not args.sgbench.exists():
        print(f"note: {args.sgbench} is not built; the comparison goes on without it",
              file=sys.stderr)
        return []
    return [Sgbench(args.sgbench, arguments)]


def play(contestants, rounds, images, repeats):
    """Everyone in turn, `rounds` times, the order reversed in every second round."""
    for r in range(rounds):
        for c in list(contestants if r % 2 == 0 else contestants[::-1]):
            print(f"round {r + 1}/{rounds}: {c.name}", file=sys.stderr)
            try:
                c.turn(images, repeats)
            except (RuntimeError, OSError, KeyError, json.JSONDecodeError) as e:
                print(f"note: {c.name} is left out: {e!r}", file=sys.stderr)
                contestants.remove(c)
    for c in contestants:
        c.close()
    return [dict(name=c.name, images_per_second=statistics.median(c.samples),
                 least=min(c.samples), most=max(c.samples), peak_memory_bytes=c.peak,
                 cores_busy=statistics.median(c.cpu),
                 samples=c.samples, about=c.about) for c in contestants]


def table(rows):
    ours = next((r for r in rows if r["name"] == "ours"), None)
    head = ["", "images/s", "least - most", "peak RSS, MiB", "cores busy"]
    if ours:
        head += ["ours is faster by", "its memory / ours"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for r in rows:
        cells = [r["name"], f"{r['images_per_second']:.2f}", f"{r['least']:.2f} - {r['most']:.2f}",
                 f"{r['peak_memory_bytes'] / 2**20:.0f}",
                 f"{r['cores_busy']:.2f}"]
        if ours:
            cells += [f"{ours['images_per_second'] / r['images_per_second']:.2f}",
                      f"{r['peak_memory_bytes'] / ours['peak_memory_bytes']:.2f}"]
        print("| " + " | ".join(cells) + " |")
    print(flush=True)


def compare(args, mode):
    common = ["--model", args.model, "--mode", mode, "--batch", str(args.batch), "--threads",
              str(args.threads)]
    contestants = our_contestant(args, [*common, "--dtype", "f32", "--device", "cpu"])
    for variant in args.variants:
        print(f"{mode}: warming up {variant}", file=sys.stderr)
        extra = ["--max-autotune"] * args.max_autotune
        contestants.append(Worker(variant, ["throughput", "--variant", variant, *common, *extra],
                                  args.threads, variant.endswith("tuned")))
    rows = play(contestants, args.rounds, args.batch, args.steps)
    print(f"### {mode}: {args.model}, batch {args.batch}, 224x224, float32, "
          f"{args.threads} threads\n")
    table(rows)
    return rows


def compare_loaders(args, data):
    contestants = our_contestant(args, ["--mode", "loader", "--data", str(data), "--threads", "1"])
    contestants.append(Worker("pillow", ["loader", "--data", str(data)], 1))
    rows = play(contestants, args.rounds, 100, 3)
    print(f"### loader: decode, random crop, resize to 224, flip, on one core; {data}\n")
    table(rows)
    return rows


def matmul_limit(args):
    worker = Worker("matmul", ["matmul", "--model", args.model, "--batch", str(args.batch),
                               "--threads", str(args.threads)], args.threads)
    worker.close()
    rows = sorted(worker.about["rows"], key=lambda r: -r["forward"])
    print(f"### matrix products of one {args.model} forward, batch {args.batch}, torch.mm and "
          f"torch.bmm, best times\n\n| | products x m x k x n | count | GMAC/image | forward, ms | "
          "GFLOP/s | backward, ms | GFLOP/s |\n|" + "---|" * 8)

    def line(what, shape, count, macs, forward, backward):
        print(f"| {what} | {shape} | {count} | {macs / args.batch / 1e9:.3f} | "
              f"{forward * 1e3:.2f} | {2 * macs / forward / 1e9:.0f} | {backward * 1e3:.2f} | "
              f"{4 * macs / backward / 1e9:.0f} |")

    for r in rows:
        line(r["what"], " x ".join(map(str, r["shape"])), r["count"], r["macs"], r["forward"],
             r["backward"])
    total = {k: sum(r[k] for r in rows) for k in ("count", "macs", "forward", "backward")}
    line("all", "", total["count"], total["macs"], total["forward"], total["backward"])
    infer = args.batch / total["forward"]
    train = args.batch / (total["forward"] + total["backward"])
    print(f"\nIf all else were free: {infer:.1f} images/s inference, {train:.1f} training.\n")
    return dict(rows=rows, infer_images_per_second=infer, train_images_per_second=train)


def machine():
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text()
                  .splitlines() if line.startswith("model name")), platform.processor())
    version = subprocess.run([sys.executable, "-c", "import torch; print(torch.__version__)"],
                             capture_output=True, text=True).stdout.strip()
    return dict(date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"), cpu=model,
                cores=len(os.sched_getaffinity(0)), load=os.getloadavg()[0], torch=version,
                python=platform.python_version())


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--mode", nargs="+", choices=("infer", "train"), default=None,
                   help="what to compare; both unless --loader or --matmul-limit is given")
    p.add_argument("--loader", action="store_true", help="compare image loading with Pillow")
    p.add_argument("--matmul-limit", action="store_true",
                   help="time the matrix products of a forward pass alone, with torch.mm")
    p.add_argument("--model", default="sgformer_s")
    p.add_argument("--batch", type=int, default=8, help="images a step")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    p.add_argument("--steps", type=int, default=4, help="steps of PyTorch in a turn")
    p.add_argument("--variants", nargs="*", choices=VARIANTS, default=VARIANTS,
                   help="the PyTorch contestants")
    p.add_argument("--max-autotune", action="store_true",
                   help="torch.compile with mode max-autotune (many minutes more to start)")
    p.add_argument("--sgbench", type=Path, default=ROOT / "build/bin/sgbench")
    p.add_argument("--data", type=Path, nargs="+", help="folders of images for --loader",
                   default=[ROOT.parent / "shared/data/imagenette224",
                            ROOT.parent / "shared/golden/eval_chain"])
    p.add_argument("--json", type=Path, metavar="FILE", help="write all the numbers here")
    args = p.parse_args()

    result = dict(machine=machine(), arguments={k: str(v) for k, v in vars(args).items()})
    print("{date}; {cpu}, {cores} cores, load {load:.1f}; PyTorch {torch}, Python {python}\n"
          .format(**result["machine"]), flush=True)
    modes = args.mode or ([] if args.loader or args.matmul_limit else ["infer", "train"])
    for mode in modes:
        result[mode] = compare(args, mode)
    if args.loader:
        result["loader"] = {str(d): compare_loaders(args, d) for d in args.data}
    if args.matmul_limit:
        result["matmul_limit"] = matmul_limit(args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
