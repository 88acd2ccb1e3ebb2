"""Our framework, PyTorch and engines side by side in one run: inference, training, loader; CPU or GPU.

Every contestant is a process of its own; they take turns in rounds, so that a noisy machine is
noisy for all of them. Prints Markdown tables; see README.md for what each contestant does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import compare_gpu
from contestants import HERE, ROOT, Worker, machine, note, our_contestant, play, table
from engine_worker import ENGINES
from torch_worker import LOADER_IMAGES, VARIANTS

USUAL = {  # --variants by --dtype
    "f32": ["eager", "eager-tuned", "compile", "compile-tuned", "onnxruntime", "openvino"],
    "bf16": ["autocast", "autocast-compile", *ENGINES],
}
CLASSIFICATION = dict(batch=8, size=(224, 224))
SEGMENTATION = {  # training on crops; inference of a whole image, a label for each pixel
    "train": dict(batch=2, size=(512, 512)),
    "infer": dict(batch=1, size=(512, 683)),
}


def exported(args, batch, size):
    """-> the folder of the model's ONNX file, made anew where a script that it comes from is newer."""
    folder = ROOT / "build/onnx" / f"{args.model}-{batch}x{size[0]}x{size[1]}"
    file = folder / "model.onnx"
    made_by = [HERE / name for name in ("torch_onnx.py", "torch_sgformer.py")]
    if not file.exists() or file.stat().st_mtime < max(p.stat().st_mtime for p in made_by):
        print(f"writing {file}, which takes a minute", file=sys.stderr)
        subprocess.run([sys.executable, str(made_by[0]), "--model", args.model, "--batch", str(batch),
                        "--img-size", *map(str, size), str(folder)], check=True,
                       stdout=subprocess.DEVNULL)
    return folder


def compare(args, mode, head=None):
    usual = SEGMENTATION[mode] if head else CLASSIFICATION
    batch, size = args.batch or usual["batch"], args.img_size or usual["size"]
    common = ["--model", args.model, "--mode", mode, "--batch", str(batch), "--threads",
              str(args.threads)]
    ours = ["--img-size", "x".join(map(str, size)), "--no-roofline", "--device", "cpu", "--repeats",
            str(args.steps)]
    theirs = ["--img-size", *map(str, size), *["--max-autotune"] * args.max_autotune]
    if head:
        ours += ["--task", "segmentation", "--head", head]
        theirs += ["--head", head]
    contestants = []
    for dtype in ("bf16", "f32") if args.dtype == "bf16" else ("f32",):
        contestants += our_contestant(
            args.sgbench, [*common, *ours, "--dtype", dtype], clock=args.clock,
            name="ours" if dtype == args.dtype else f"ours, {dtype}")
    for variant in args.variants:
        print(f"{mode}: warming up {variant}", file=sys.stderr)
        try:
            if variant not in ENGINES:
                contestants.append(Worker(
                    variant, ["throughput", "--variant", variant, *common, *theirs], args.threads,
                    variant.endswith("tuned"), clock=args.clock))
            elif mode == "train" or head:
                raise RuntimeError("engines infer classes alone")
            else:
                contestants.append(Worker(
                    variant, ["--engine", variant, "--threads", str(args.threads),
                              str(exported(args, batch, size))],
                    args.threads, clock=args.clock, script="engine_worker.py"))
        except (RuntimeError, subprocess.CalledProcessError) as e:
            note(f"{mode}: {variant} is left out: {e}")
    rows = play(contestants, args.rounds, batch, args.steps)
    print(f"### {mode}: {args.model}{f' with {head}' if head else ''}, batch {batch}, "
          f"{size[0]}x{size[1]}, {args.dtype}, {args.threads} threads"
          f"{', by CPU time' if args.clock == 'cpu' else ''}\n")
    table(rows)
    return rows


def without_reading(about):
    return 1 / (1 / about["images_per_second"] - about["read_seconds"])


def compare_loaders(args, data, aa):
    """By CPU time of one thread each, which a busy machine hardly disturbs."""
    with tempfile.TemporaryDirectory() as folder:
        # All JPEGs as one class, whatever the folders of `data` mean.
        images = Path(folder) / "train" / "all"
        images.mkdir(parents=True)
        for i, path in enumerate(sorted(data.rglob("*"))):
            if path.suffix.lower() in (".jpg", ".jpeg"):
                (images / f"{i}{path.suffix}").symlink_to(path.resolve())
        common = ["--data", folder, "--aa", aa]
        contestants = our_contestant(args.sgbench, ["--mode", "loader", *common],
                                     **dict(rate=without_reading) if args.from_memory else {})
        for library in ("pillow", "torchvision"):
            contestants.append(Worker(
                library, ["loader", "--library", library, *common,
                          *["--from-memory"] * args.from_memory], 1, clock="cpu"))
        rows = play(contestants, args.rounds, LOADER_IMAGES, 3)
    print(f"### loader: {'' if args.from_memory else 'read, '}decode, RandomResizedCrop 224, flip, "
          f"--aa {aa}, of one core; {data}\n")
    table(rows)
    return rows


def matmul_limit(args):
    args.batch = args.batch or CLASSIFICATION["batch"]
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


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu",
                   help="cuda: --cases in bf16 on the GPU, see compare_gpu.py")
    p.add_argument("--cases", nargs="+", metavar="MODEL:MODE:BATCH", type=compare_gpu.parse_case,
                   default=compare_gpu.CASES, help="with --device cuda, in order of importance")
    p.add_argument("--budget", type=float, default=None, metavar="SECONDS",
                   help="with --device cuda: what does not fit is left out, with a note")
    p.add_argument("--mode", nargs="+", choices=("infer", "train"), default=None,
                   help="what to compare; both unless --loader or --matmul-limit is given")
    p.add_argument("--loader", action="store_true", help="compare image loading with Pillow and torchvision")
    p.add_argument("--matmul-limit", action="store_true",
                   help="time the matrix products of a forward pass alone, with torch.mm")
    p.add_argument("--model", default="sgformer_s")
    p.add_argument("--task", choices=("classification", "segmentation"), default="classification")
    p.add_argument("--head", nargs="+", choices=("semantic_fpn", "upernet"),
                   default=["semantic_fpn", "upernet"], help="with --task segmentation")
    p.add_argument("--batch", type=int,
                   help="images a step; default: 8, of segmentation 2 in training, 1 in inference")
    p.add_argument("--img-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"),
                   help="default: 224 224, of segmentation 512 512 in training, 512 683 in inference")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                   help="cpu: by CPU time of one thread, which a busy machine disturbs less")
    p.add_argument("--rounds", type=int, help="turns of each contestant; default: 5, on a GPU 3")
    p.add_argument("--steps", type=int,
                   help="steps of PyTorch in a turn; default: 4, on a GPU 10, and then ours too")
    p.add_argument("--dtype", choices=("f32", "bf16"),
                   help="of ours on the CPU; with bf16, ours in f32 takes part too")
    p.add_argument("--variants", nargs="*", choices=VARIANTS + ENGINES,
                   help=f"the other contestants; default: {' '.join(USUAL['f32'])}; with --dtype bf16 "
                   f"{' '.join(USUAL['bf16'])}; on a GPU eager compile")
    p.add_argument("--max-autotune", action="store_true",
                   help="torch.compile with mode max-autotune (many minutes more to start)")
    p.add_argument("--sgbench", type=Path, default=ROOT / "build/bin/sgbench")
    p.add_argument("--data", type=Path, nargs="+", help="folders of images for --loader",
                   default=[ROOT.parent / "shared/data/coco_mini",
                            ROOT.parent / "shared/data/imagenette224"])
    p.add_argument("--aa", nargs="+", default=["none", "rand-m9-mstd0.5-inc1"],
                   help="the augmentations of --loader")
    p.add_argument("--from-memory", action="store_true",
                   help="--loader leaves out reading and headers; else all read their files, as in training")
    p.add_argument("--json", type=Path, metavar="FILE", help="write all the numbers here")
    args = p.parse_args()
    on_gpu = args.device == "cuda"
    if args.clock == "cpu" and (on_gpu or args.threads != 1):
        p.error("--clock cpu needs --threads 1: threads that wait for each other count too")
    if on_gpu and (args.mode or args.loader or args.matmul_limit):
        p.error("--device cuda compares --cases; --mode, --loader and --matmul-limit are the CPU's")
    if args.task == "segmentation" and (on_gpu or args.loader or args.matmul_limit):
        p.error("--task segmentation compares inference and training on the CPU")
    if on_gpu and (args.dtype or set(args.variants or ()) & set(ENGINES)):
        p.error("--device cuda compares with PyTorch in bf16: no --dtype, no engines")
    args.dtype = args.dtype or ("bf16" if on_gpu else "f32")
    args.rounds = args.rounds or (3 if on_gpu else 5)
    args.steps = args.steps or (10 if on_gpu else 4)
    if args.variants is None:
        args.variants = compare_gpu.VARIANTS if on_gpu else USUAL[args.dtype]

    result = dict(machine=machine(), arguments={k: str(v) for k, v in vars(args).items()})
    print("{date}; {cpu}, {cores} cores, load {load:.1f}; PyTorch {torch}, ONNX Runtime "
          "{onnxruntime}, OpenVINO {openvino}, Python {python}; commit {commit}\n"
          .format(**result["machine"]), flush=True)
    if on_gpu:
        return compare_gpu.compare(args, result)
    modes = args.mode or ([] if args.loader or args.matmul_limit else ["infer", "train"])
    for mode in modes:
        if args.task == "segmentation":
            result[mode] = {head: compare(args, mode, head) for head in args.head}
        else:
            result[mode] = compare(args, mode)
    if args.loader:
        result["loader"] = {str(d): {aa: compare_loaders(args, d, aa) for aa in args.aa}
                            for d in args.data}
    if args.matmul_limit:
        result["matmul_limit"] = matmul_limit(args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as e:
        sys.exit(f"compare_torch: {e}")
