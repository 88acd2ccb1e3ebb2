"""Checks torch_sgformer.py and torch_segmentation.py against the golden data, in float64: weights and
inputs by formula (golden/README.md), values and gradients. Run as `torch_sgformer.py --check DIR`.
"""

import json
import math
import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from torch_segmentation import FcnHead, Fpn, Segmentor, SemanticFpn, UperNetHead
from torch_sgformer import (CONFIGS, Block, Mlp, PatchMerging, SGFormer, Stem, make_attention,
                            to_tokens)


HEADS = ("fpn", "semantic_fpn", "upernet", "fcn_head")  # kinds of golden/dense/modules


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
        elif name.endswith("pos_embed"):
            u = u * np.float32(0.5)
        else:
            u = u * np.float32(math.sqrt(3 / math.prod(p.shape[1:])))
        assert u.dtype == torch.float32
        p.data.copy_(u)
    for name, b in module.named_buffers():
        if name.endswith("running_var"):
            b.copy_(1 + formula(f"{key}/{name}", b.shape) * np.float32(0.5))
        elif name.endswith("running_mean"):
            b.copy_(formula(f"{key}/{name}", b.shape) * np.float32(0.1))
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


def numbers(text):
    return [int(v) for v in text.split(",")]


def without_dropout(module):
    for m in module.modules():
        if isinstance(m, nn.Dropout2d):
            m.p = 0.0
    return module


def run_classifier(meta, key, x):
    ints = {k: numbers(meta[k]) for k in ("dims", "depths", "heads", "sr_ratios", "labels")}
    labels = torch.tensor(ints.pop("labels"))
    model = load_formula(SGFormer(**ints, classes=int(meta["classes"])), key)
    features, maps = model.features(x)
    features = [to_tokens(f) for f in features]
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


def run_head(meta, key):
    """Of dense tasks: several maps in, several out."""
    kind, ints = meta["module"], {k: int(meta[k]) for k in ("channels", "classes") if k in meta}
    widths = numbers(meta["in_channels"])
    if kind == "fpn":
        module = Fpn(widths, int(meta["out_channels"]))
    elif kind == "semantic_fpn":
        module = SemanticFpn(widths, int(meta["neck_channels"]), **ints)
    elif kind == "upernet":
        module = UperNetHead(widths, **ints, pool_scales=numbers(meta["pool_scales"]))
    else:
        module = FcnHead(*widths, **ints)
    module = without_dropout(load_formula(module, key))
    module.train(meta.get("batch_norm") == "train")
    single = "input_shape" in meta
    shapes = [numbers(s) for s in meta["input_shape" if single else "input_shapes"].split(";")]
    names = ["input"] if single else [f"input.{i}" for i in range(len(shapes))]
    maps = [formula(f"{key}/{n}", s).double().requires_grad_() for n, s in zip(names, shapes)]
    outputs = module(maps[0] if kind == "fcn_head" else maps)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    suffixes = [""] if len(outputs) == 1 else [f".{i}" for i in range(len(outputs))]
    torch.autograd.backward(
        outputs, [formula(f"{key}/grad{s}", y.shape).double() for s, y in zip(suffixes, outputs)])
    got = {f"output{s}": y for s, y in zip(suffixes, outputs)}
    return module, got | {f"grad_{n}": x.grad for n, x in zip(names, maps)}


def gradients_in_short(module, key):
    """-> of each parameter the norm of its gradient, and its product with numbers by formula."""
    got = {}
    for name, p in module.named_parameters():
        got[f"grad_norm.{name}"] = p.grad.norm().reshape(1)
        probe = formula(f"{key}/probe/{name}", p.shape).double()
        got[f"grad_dot.{name}"] = (p.grad * probe).sum().reshape(1)
    return got


def statistics_after(module):
    return {f"after.{name}": b for name, b in module.named_buffers() if "running" in name}


def write_segmentor(path, model, head, classes, size):
    """A golden file of a whole segmentor in training, as those of golden/dense/modules; two images."""
    from safetensors.torch import save_file

    key, shape = f"segmentor/{model}/{head}", (2, 3, *size)
    module = without_dropout(load_formula(Segmentor(model, head, classes, drop_path=0.0), key))
    outputs = [z for z in module.train()(formula(f"{key}/input", shape).double()) if z is not None]
    torch.autograd.backward(outputs, [formula(f"{key}/grad.{i}", z.shape).double()
                                      for i, z in enumerate(outputs)])
    tensors = {f"output.{i}": z for i, z in enumerate(outputs)}
    tensors |= gradients_in_short(module, key) | statistics_after(module)
    meta = dict(module="segmentor", key=key, model=model, head=head, classes=str(classes),
                input_shape=",".join(map(str, shape)), torch=torch.__version__)
    save_file({n: t.detach().contiguous() for n, t in tensors.items()}, path, meta)


def relative_error(got, want):
    return ((got - want).norm() / want.norm().clamp_min(1e-300)).item()


def check_file(path):
    """-> the largest relative error (Euclidean) over all the tensors of one golden file."""
    meta, want = read_safetensors(path)
    key = meta["key"]
    if meta["module"] in HEADS:
        module, got = run_head(meta, key)
    else:
        x = formula(f"{key}/input", numbers(meta["input_shape"])).double().requires_grad_()
        run = run_classifier if meta["module"] == "sgformer" else run_module
        module, got = run(meta, key, x)
    got |= {f"grad.{name}": p.grad for name, p in module.named_parameters()}
    got |= gradients_in_short(module, key) | statistics_after(module)
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
    paths = [p for f in folders for p in sorted((golden / f).glob("*.safetensors"))]
    paths += [p for kind in HEADS
              for p in sorted((golden / "dense/modules").glob(f"{kind}_*.safetensors"))
              if not (kind == "fpn" and read_safetensors(p)[0]["outputs"] != "4")]  # detection's
    for path in paths:
        error, worst, count = check_file(path)
        bad += not error <= 1e-9
        print(f"{'ok ' if error <= 1e-9 else 'BAD'} {path.name}: {count} tensors, "
              f"largest relative error {error:.1e} ({worst})", flush=True)
    return bad
