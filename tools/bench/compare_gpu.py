"""Our framework and PyTorch side by side on one GPU, in bf16: `compare_torch.py --device cuda`.

The whole ends within --budget seconds: what does not fit, and what PyTorch cannot do for want of
it or of memory, is left out with a note. The last table compares with the targets.
"""

import signal
import sys

from contestants import (NOTES, Budget, Worker, find, note, our_contestant, output_of, play,
                         table, write_json)

VARIANTS = ("eager", "compile")

# Targets on an H200: how often as fast as each contestant, images a second, and our
# peak memory as a share of eager PyTorch's.
REACH = {
    ("sgformer_s", "train", 256): dict(eager=3, compile=1.5, images_per_second=4500, memory=0.6),
    ("sgformer_s", "infer", 256): dict(eager=3, compile=1.5, images_per_second=15000),
    ("sgformer_b", "train", 128): dict(eager=2.5, compile=1.4, images_per_second=1600),
}
CASES = [*REACH, ("sgformer_m", "train", 128), ("sgformer_m", "infer", 256),
         ("sgformer_b", "infer", 256)]

ROUNDS = 40  # seconds kept for taking turns when torch.compile is slow
SHORTEST = 20  # seconds under which no case is begun


def parse_case(text):
    model, mode, batch = text.split(":")
    if mode not in ("train", "infer") or int(batch) < 1:
        raise ValueError(text)
    return model, mode, int(batch)


def gpu():
    """Name, driver and clocks as nvidia-smi has them; {} without it."""
    fields = ("name", "driver_version", "memory.total", "power.limit", "temperature.gpu",
              "clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem")
    lines = output_of("nvidia-smi", f"--query-gpu={','.join(fields)}",
                      "--format=csv,noheader").splitlines()
    return dict(zip(fields, lines[0].split(", "))) if lines else {}


def missing_torch():
    """Why PyTorch cannot take part, or ''."""
    found = output_of(sys.executable, "-c",
                      "import torch; print(torch.__version__, torch.cuda.is_available())")
    if not found:
        return f"{sys.executable} has no PyTorch"
    return "" if found.endswith("True") else f"PyTorch {found.split()[0]} sees no GPU"


def compare_case(args, case, variants, budget):
    model, mode, batch = case
    what = ["--model", model, "--mode", mode, "--batch", str(batch), "--threads",
            str(args.threads), "--device", "cuda"]
    contestants = our_contestant(
        args.sgbench, [*what, "--dtype", "bf16", "--warmup", "3", "--repeats", str(args.steps)],
        on_gpu=True)
    try:
        for variant in variants:
            print(f"{' '.join(map(str, case))}: warming up {variant}", file=sys.stderr, flush=True)
            extra = ["--max-autotune"] * args.max_autotune
            try:
                contestants.append(
                    Worker(variant, ["throughput", "--variant", variant, *what, *extra],
                           args.threads, limit=budget.left(kept=ROUNDS)))
            except (RuntimeError, OSError) as e:
                note(f"{model} {mode} {batch}: {variant} is left out: {e}")
    except BaseException:
        for c in contestants:
            c.close()
        raise
    return play(contestants, args.rounds, batch, args.steps, budget)


def against_reach(case, rows):
    """-> what a line of the last table says; None where a contestant did not take part."""
    reach, ours, eager = REACH.get(case, {}), find(rows, "ours"), find(rows, "eager")

    def ratio(a, b, key):
        return a[key] / b[key] if a and b else None

    measured = dict(images_per_second=ours and ours["images_per_second"],
                    memory=ratio(ours, eager, "peak_memory_bytes"))
    for variant in VARIANTS:
        measured[variant] = ratio(ours, find(rows, variant), "images_per_second")
    reached = {key: measured[key] and (measured[key] <= goal if key == "memory"
                                       else measured[key] >= goal) for key, goal in reach.items()}
    return dict(case=case, measured=measured, reach=reach, reached=reached)


def print_last_table(summary, rows_of):
    print("### Ours against PyTorch (in parentheses: the target on an H200)\n")
    head = ["SG-Former", "batch", "ours, images/s", "PyTorch eager", "ours / eager",
            "torch.compile", "ours / compile", "ours, GiB", "eager, GiB", "ours / eager"]
    print("| " + " | ".join(head) + " |\n|---|" + "---:|" * (len(head) - 1))
    for s in summary:
        (model, mode, batch), reach = s["case"], s["reach"]

        def shown(value, digits, goal=None):
            text = "-" if value is None else f"{value:.{digits}f}"
            return text if goal is None else f"{text} ({goal})"

        def of(name, key, scale=1):
            row = find(rows_of[s["case"]], name)
            return row and row[key] / scale

        cells = [f"{model.removeprefix('sgformer_').upper()} {mode}", str(batch),
                 shown(s["measured"]["images_per_second"], 0, reach.get("images_per_second"))]
        for variant in VARIANTS:
            cells += [shown(of(variant, "images_per_second"), 0),
                      shown(s["measured"][variant], 2, reach.get(variant))]
        cells += [shown(of(name, "peak_memory_bytes", 2**30), 2) for name in ("ours", "eager")]
        cells += [shown(s["measured"]["memory"], 2, reach.get("memory"))]
        print("| " + " | ".join(cells) + " |")
    print(flush=True)


def save(args, result):
    result["notes"] = NOTES
    if args.json:
        write_json(args.json, result)


def compare(args, result):
    """-> the exit code: 1 if ours failed, or nothing could be measured. Writes --json after every
    case."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that contestants end with us
    budget = Budget(args.budget)
    result["gpu"] = gpu()
    print(", ".join(f"{k} {v}" for k, v in result["gpu"].items()) or "no nvidia-smi", "\n")
    why = missing_torch()
    if why:
        note(f"{why}: only our own figures")
    variants = () if why else args.variants
    rows_of, summary = {}, []
    for case in args.cases:
        model, mode, batch = case
        if not budget.allows(SHORTEST):
            note(f"{model} {mode} {batch} is left out: the budget is used up")
            continue
        rows = compare_case(args, case, variants, budget)
        if not rows:
            note(f"{model} {mode} {batch}: nobody could do it")
            continue
        print(f"### {model} {mode}, batch {batch}, 224x224, bf16\n")
        table(rows, "peak memory of tensors")
        rows_of[case] = rows
        summary.append(against_reach(case, rows))
        result["cases"] = [dict(s, rows=rows_of[s["case"]]) for s in summary]
        result["gpu_after"] = gpu()  # clocks and temperature just after work
        save(args, result)
    save(args, result)
    if not summary:
        print("compare_torch: nothing could be measured; the notes above say why", file=sys.stderr)
        return 1
    print_last_table(summary, rows_of)
    failed = [" ".join(map(str, case)) for case, rows in rows_of.items() if not find(rows, "ours")]
    if failed:
        print(f"compare_torch: ours took no part in {', '.join(failed)}; the notes say why",
              file=sys.stderr)
    return 1 if failed else 0
