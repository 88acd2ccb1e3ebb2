"""The model of torch_sgformer.py as an ONNX file, for those who run one (engine_worker.py).

    python torch_onnx.py --model sgformer_s --batch 8 --img-size 224 224 FOLDER

writes model.onnx, of this batch and size alone (fixed shapes are the fastest everywhere), and
reference.npz: images x and what the PyTorch model makes of them, y, in float32.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from onnxscript import opset18 as op

from torch_sgformer import create


def stable_sort(x, stable=None, dim: int = -1, descending: bool = False):
    """torch.sort, which the exporter lacks, by TopK of all: ONNX too has equal values in the order of
    their indices."""
    size = op.Slice(op.Shape(x), [dim], [dim + 1])
    return op.TopK(x, size, axis=dim, largest=descending)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="sgformer_s")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--img-size", type=int, nargs=2, default=[224, 224])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model, x = create(args.model).eval(), torch.randn(args.batch, 3, *args.img_size)
    program = torch.onnx.export(
        model, (x,), input_names=["x"], output_names=["y"], dynamo=True, verbose=False,
        custom_translation_table={torch.ops.aten.sort.stable: stable_sort})
    with torch.inference_mode():
        np.savez(args.folder / "reference.npz", x=x.numpy(), y=model(x).numpy())
    new = args.folder / "model.new"  # whole or not at all
    program.save(new)
    new.rename(args.folder / "model.onnx")


if __name__ == "__main__":
    main()
