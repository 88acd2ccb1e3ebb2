"""Draws curves by epoch as an SVG: of a --json of compare_training.py, the mean of each side's runs and
the band from the least to the most of them; or of one run, from its metrics.jsonl.

    python plot_training.py FILE OUT.svg
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

from compare_training import CURVES, SIDES


def read(path):
    """-> {side: [rows by epoch of a run]}"""
    if path.suffix == ".jsonl":
        rows = map(json.loads, path.read_text().splitlines())
        return {"ours": [[r for r in rows if "train_loss" in r]]}
    file = json.loads(path.read_text())
    sides = next(sides for sides in SIDES.values() if all(side in file for side in sides))
    return {side: [run["epochs"] for run in file[side]] for side in sides}


def draw(axes, sides, columns):
    """columns: {name in a row: label}"""
    for side, runs in sides.items():
        epochs = [row["epoch"] + 1 for row in runs[0]]
        for name, label in ((n, t) for n, t in columns.items() if n in runs[0][0]):
            by_epoch = [[run[i][name] for run in runs] for i in range(len(epochs))]
            line, = axes.plot(epochs, [sum(v) / len(v) for v in by_epoch],
                              marker="o", markersize=3, label=label or side)
            axes.fill_between(epochs, *([f(v) for v in by_epoch] for f in (min, max)),
                              color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    axes.legend()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "", "font.size": 8})
    sides = read(args.file)
    if len(sides) > 1:  # a panel a curve, a line a side
        row = next(iter(sides.values()))[0][0]
        curves = {n: t for n, t in CURVES.items() if n in row}
        figure, panels = plt.subplots(1, len(curves), figsize=(9, 2.8))
        for axes, (name, title) in zip(panels, curves.items()):
            draw(axes, sides, {name: ""})
            axes.set_title(title)
    else:  # loss, and both accuracies
        figure, panels = plt.subplots(1, 2, figsize=(9, 2.8))
        draw(panels[0], sides, {"train_loss": "training", "eval_model_loss": "validation",
                                "eval_loss": "validation, EMA"})
        draw(panels[1], sides, {n: t for n, t in CURVES.items() if n.startswith("eval")})
        panels[0].set_title("loss")
        panels[1].set_title("accuracy, %")
    figure.tight_layout()
    figure.savefig(args.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
