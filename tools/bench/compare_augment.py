"""RandAugment's operations and Pillow's, one core each, in turns: microseconds an image of 224 x 224
(CPU time, the median of the rounds) and how many times ours is faster. Needs Pillow and NumPy alone.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

ROOT = Path(__file__).resolve().parent.parent.parent
SIDE, REPEATS = 224, 101
FILL = (124, 116, 104)
FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


def image():
    y, i = np.mgrid[0:SIDE, 0:SIDE * 3]
    wave = 110 + 90 * np.sin(i // 3 * 0.11 + y * 0.07 * (i % 3 + 1))
    noise = np.random.default_rng(0).integers(0, 50, wave.shape)
    return Image.fromarray((wave + noise).astype(np.uint8).reshape(SIDE, SIDE, 3))


def solarize_add(img):
    return img.point([min(255, v + 99) if v < 128 else v for v in range(256)] * 3)


def operations():
    """As timm calls them, at level 9 of the increasing set."""
    ops = {"AutoContrast": ImageOps.autocontrast, "Equalize": ImageOps.equalize,
           "Invert": ImageOps.invert, "Posterize": lambda i: ImageOps.posterize(i, 1),
           "Solarize": lambda i: ImageOps.solarize(i, 26), "SolarizeAdd": solarize_add}
    for name in ("Color", "Contrast", "Brightness", "Sharpness"):
        ops[name] = lambda i, enhance=getattr(ImageEnhance, name): enhance(i).enhance(1.81)
    shift = 0.405 * SIDE
    matrices = {"ShearX": (1, 0.27, 0, 0, 1, 0), "ShearY": (1, 0, 0, 0.27, 1, 0),
                "TranslateXRel": (1, 0, shift, 0, 1, 0), "TranslateYRel": (1, 0, 0, 0, 1, shift)}
    for filter_name, f in FILTERS.items():
        ops[f"Rotate {filter_name}"] = lambda i, f=f: i.rotate(27, f, fillcolor=FILL)
        for name, m in matrices.items():
            ops[f"{name} {filter_name}"] = lambda i, m=m, f=f: i.transform(
                i.size, Image.AFFINE, m, f, fillcolor=FILL)
    return ops


def theirs(ops, img):
    row = {}
    for name, op in ops.items():
        times = []
        for _ in range(REPEATS):
            begin = time.thread_time()
            op(img)
            times.append(time.thread_time() - begin)
        row[name] = statistics.median(times)
    return row


def ours(sgbench):
    out = subprocess.run([str(sgbench), "--mode", "augment", "--json"], check=True, text=True,
                         capture_output=True).stdout
    return {r["name"]: r["seconds"] for r in json.loads(out)["ops"]}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--sgbench", type=Path, default=ROOT / "build/bin/sgbench")
    p.add_argument("--rounds", type=int, default=5)
    args = p.parse_args()
    ops, img = operations(), image()
    rounds = [(ours(args.sgbench), theirs(ops, img)) for _ in range(args.rounds)]
    print(f"Pillow {Image.__version__}, {args.rounds} rounds\n")
    print("| | ours, us | Pillow, us | ours is faster by |\n|---|---:|---:|---:|")
    ratios = []
    for name in rounds[0][0]:
        a = statistics.median(r[0][name] for r in rounds)
        if name not in ops:
            print(f"| {name} | {1e6 * a:.0f} | | |")
            continue
        b = statistics.median(r[1][name] for r in rounds)
        ratios.append(b / a)
        print(f"| {name} | {1e6 * a:.0f} | {1e6 * b:.0f} | {b / a:.1f} |")
    mean = math.exp(statistics.mean(map(math.log, ratios)))
    print(f"| geometric mean | | | {mean:.1f} |")


if __name__ == "__main__":
    sys.exit(main())
