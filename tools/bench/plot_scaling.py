"""Draws efficiency against ranks as an SVG, of the --json of sgbench --simulate-ranks; dashed, of ranks
that compute half as fast.

    python plot_scaling.py FILE... OUT.svg
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

MARKS = {"NGC ResNet-50, 8 GPUs": 96}  # percent


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "", "font.size": 8})
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for path in args.files:
        file = json.loads(path.read_text())
        ranks = [row["ranks"] for row in file["ranks"]]
        line, = axes.plot(ranks, [100 * row["efficiency"] for row in file["ranks"]], marker="o",
                          markersize=3, label=file["machine"])
        axes.plot(ranks, [100 * row["efficiency_half_speed"] for row in file["ranks"]],
                  color=line.get_color(), linestyle="--", linewidth=0.8)
    for name, percent in MARKS.items():
        axes.plot(8, percent, marker="x", color="black", linestyle="none", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(n) for n in ranks])
    axes.set_xlabel("ranks")
    axes.set_ylabel("efficiency, %")
    axes.set_ylim(top=100.5)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.tight_layout()
    # An opaque background, so that it reads the same on light and dark pages.
    figure.savefig(args.out, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
