"""Checks torch_sgformer.py against the golden data, in float64: weights and inputs by formula
(golden/README.md), values and gradients. Run as `torch_sgformer.py --check DIR`.
"""

import json
import math
import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from torch_sgformer import CONFIGS, Block, Mlp, PatchMerging, SGFormer, Stem, make_attention


def formula(key, shape):
    """Elements in [-1, 1), exact in float32: splitmix64 started at the FNV-1a hash of the key."""
    h = 0xCBF29CE484222325
    for byte in key.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        i = np.arange(1, math.prod(shape) + 1, dtype=np.uint64)
        z = np.uint64(h) + i * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy(u.astype(np.float32)).reshape(shape)


def load_formula(module, key):
    module.double()
    for name, p in module.named_parameters():
        u = formula(f"{key}/{name}", p.shape)
        if p.dim() == 1:
            u = 1 + u * np.float32(0.2) if name.endswith("weight") else u * np.float32(0.1)
        elif name == "pos_embed":
            u = u * np.float32(0.5)
        else:
            u = u * np.float32(math.sqrt(3 / math.prod(p.shape[1:])))
        assert u.dtype == torch.float32
        p.data.copy_(u)
    return module


def read_safetensors(path):
    raw = Path(path).read_bytes()
    size, = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + size])
    meta = header.pop("__metadata__", {})
    tensors = {}
    for name, t in header.items():
        assert t["dtype"] == "F64", name
        begin, end = (8 + size + o for o in t["data_offsets"])
        tensors[name] = torch.from_numpy(
            np.frombuffer(raw[begin:end], "<f8").reshape(t["shape"]).copy())
    return meta, tensors


def run_classifier(meta, key, x):
    ints = {k: [int(v) for v in meta[k].split(",")]
            for k in ("dims", "depths", "heads", "sr_ratios", "labels")}
    labels = torch.tensor(ints.pop("labels"))
    model = load_formula(SGFormer(**ints, classes=int(meta["classes"])), key)
    features, maps = model.features(x)
    logits = model.head(features[-1].mean(1))
    loss = F.cross_entropy(logits, labels, label_smoothing=float(meta["smoothing"]))
    loss.backward()
    out = {"logits": logits, "loss": loss.reshape(1)}
    out |= {f"features.{i}": f for i, f in enumerate(features)}
    out |= {f"significance.{i}.{j}": s for (i, j), s in maps.items()}
    return model, out


def run_module(meta, key, x):
    kind = meta["module"]
    n = {k: int(meta[k]) for k in ("dim", "heads", "sr_ratio", "hidden", "out_dim") if k in meta}
    hw, out = (int(meta["height"]), int(meta["width"])), {}

    def attention(block):
        return make_attention(n["dim"], n["heads"], n.get("sr_ratio", 1), block)

    if kind in ("stem", "patch_merging"):
        module = Stem(n["dim"]) if kind == "stem" else PatchMerging(n["dim"], n["out_dim"])
        y = load_formula(module, key)(x)[0]
    elif kind == "mlp":
        module = load_formula(Mlp(n["dim"], n["hidden"]), key)
        y = module(x, hw)
    elif kind == "block_pair":
        pair = [Block(n["dim"], attention(j)) for j in range(2)]
        module = load_formula(nn.ModuleList(pair), key)
        y, significance = module[0](x, hw, None)
        y, _ = module[1](y, hw, significance)
        out["significance"] = significance.reshape(-1, *hw)
    elif kind in ("full_attention", "hybrid_attention", "self_guided_attention"):
        module = load_formula(attention(int(kind == "self_guided_attention")), key)
        mask = formula(f"{key}/mask", (x.shape[0], hw[0] * hw[1])).double()
        mask += 1e-9 * torch.arange(hw[0] * hw[1])
        y, significance = module(x, hw, mask)
        if significance is not None:
            out["significance"] = significance.reshape(-1, *hw)
    else:
        raise ValueError(f"unknown module '{kind}'")
    y.backward(formula(f"{key}/grad", y.shape).double())
    return module, out | {"output": y, "grad_input": x.grad}


def relative_error(got, want):
    return ((got - want).norm() / want.norm().clamp_min(1e-300)).item()


def check_file(path):
    """-> the largest relative error (Euclidean) over all the tensors of one golden file."""
    meta, want = read_safetensors(path)
    key, shape = meta["key"], [int(v) for v in meta["input_shape"].split(",")]
    x = formula(f"{key}/input", shape).double().requires_grad_()
    run = run_classifier if meta["module"] == "sgformer" else run_module
    module, got = run(meta, key, x)
    for name, p in module.named_parameters():
        got[f"grad.{name}"] = p.grad
        got[f"grad_norm.{name}"] = p.grad.norm().reshape(1)
    errors = {n: relative_error(got[n].detach(), w.reshape(got[n].shape)) for n, w in want.items()}
    worst = max(errors, key=errors.get)
    return errors[worst], worst, len(errors)


def check(golden):
    bad = 0
    for name, config in CONFIGS.items():
        path = golden / "parameters" / f"{name}_parameters.json"
        if not path.exists():  # sgformer_nano is not of the paper
            continue
        with torch.device("meta"):
            mine = {n: list(p.shape) for n, p in SGFormer(**config).named_parameters()}
        same = mine == json.loads(path.read_text())
        bad += not same
        print(f"{'ok ' if same else 'BAD'} {path.name}: {len(mine)} tensors")
    folders = ("modules", "models", "any_size")
    for path in (p for f in folders for p in sorted((golden / f).glob("*.safetensors"))):
        error, worst, count = check_file(path)
        bad += not error <= 1e-9
        print(f"{'ok ' if error <= 1e-9 else 'BAD'} {path.name}: {count} tensors, "
              f"largest relative error {error:.1e} ({worst})", flush=True)
    return bad
