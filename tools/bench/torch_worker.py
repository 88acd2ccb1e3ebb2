"""One contestant of compare_torch.py in its own process: reads `run N` lines, answers in JSON.

    torch_worker.py throughput --mode train --variant compile      N steps a line
    torch_worker.py throughput --head upernet --img-size 512 683   the same of segmentation
    torch_worker.py throughput --variant autocast                  the same in bf16 autocast, as
    torch_worker.py throughput --device cuda ...                   always on a GPU
    torch_worker.py loader --library pillow --aa none --data DIR   N times 210 images a line
    torch_worker.py matmul                                         one answer, no input

Answers are lines that begin with '@', {"error": ...} where it failed; anything else on stdout is
noise of the libraries.
"""

import argparse
import contextlib
import io
import itertools
import json
import math
import os
import random
import sys
import time
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace


def answer(**fields):
    print("@" + json.dumps(fields), flush=True)


@contextlib.contextmanager
def answers_errors():
    """What goes wrong within is the answer, and ends the process."""
    try:
        yield
    except Exception as e:
        traceback.print_exc()
        answer(error=f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}")
        sys.exit(1)


def check_agrees(found, expected, bf16):
    """-> the error of logits, by their norms; raises where they are another model's. Each of about 250
    maps in a row is rounded to bf16, by 2^-9 at most and independently: 2^-9 sqrt(250) = 0.03. In
    float32 what differs is the rank of tokens that rounding alone tells apart."""
    import numpy as np

    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    bound = 3e-2 if bf16 else 1e-3
    if not error <= bound:
        raise RuntimeError(f"the logits differ from PyTorch's by {error:.2g}, more than {bound:.2g}")
    return error


def peak_rss():
    """Bytes; the high-water mark of this process, see reset_peak_rss."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def reset_peak_rss():
    Path("/proc/self/clear_refs").write_text("5")


def serve(work):
    """Answers each `run N` line with the wall and CPU seconds of N calls of work(), one by one."""
    for line in sys.stdin:
        wall, cpu = [], []
        for _ in range(int(line.split()[1])):
            t, c = time.perf_counter(), time.process_time()
            work()
            wall.append(time.perf_counter() - t)
            cpu.append(time.process_time() - c)
        answer(wall=wall, cpu=cpu, peak=peak_rss())


def serve_gpu(step):
    """As serve(), with seconds between events of the GPU, which the host may run ahead of, and the
    memory of tensors. What a turn took goes back to the GPU: others have theirs then."""
    import torch

    for line in sys.stdin:
        step()  # untimed: takes the memory again
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(int(line.split()[1]) + 1)]
        cpu = []
        marks[0].record()
        for mark in marks[1:]:
            c = time.process_time()
            step()
            mark.record()
            cpu.append(time.process_time() - c)
        torch.cuda.synchronize()
        answer(wall=[a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(marks)], cpu=cpu,
               peak=torch.cuda.max_memory_allocated(), reserved=torch.cuda.max_memory_reserved())
        torch.cuda.empty_cache()


# ---- throughput


VARIANTS = ("eager", "eager-tuned", "compile", "compile-tuned",  # float32; on a GPU bf16 too
            "autocast", "autocast-tuned", "autocast-compile", "autocast-compile-tuned")


def param_groups(model, weight_decay):
    """No decay for one-dimensional tensors (norms, biases), as the recipe has it."""
    params = list(model.parameters())
    return [{"params": [p for p in params if p.dim() <= 1], "weight_decay": 0.0},
            {"params": [p for p in params if p.dim() > 1], "weight_decay": weight_decay}]


def classification(args):
    """-> what make_step() measures: model, image size, what is compiled for inference and for
    training, labels, groups of parameters, decay of the EMA."""
    import torch
    import torch.nn.functional as F

    from torch_sgformer import DROP_PATH, create

    model = create(args.model, drop_path=DROP_PATH[args.model])
    return SimpleNamespace(
        model=model, size=args.img_size, infer=model,
        loss=lambda x, y: F.cross_entropy(model(x), y, label_smoothing=0.1),
        labels=torch.randint(0, 1000, (args.batch,)), groups=param_groups(model, 0.05), ema=0.99992)


def segmentation(args):
    """The same; in inference the network sees multiples of 32, and each pixel gets a label."""
    import torch

    from torch_segmentation import Segmentor, segmentation_groups

    model, size = Segmentor(args.model, args.head, 150), args.img_size
    seen = size if args.mode == "train" else [-(-side // 32) * 32 for side in size]
    return SimpleNamespace(
        model=model, size=seen, infer=lambda x: model.predict(x, size), loss=model.loss,
        labels=torch.randint(0, 150, (args.batch, *size)),
        groups=segmentation_groups(model, args.head, 0.01), ema=None)


def make_step(args):
    """-> a function that does one inference or one training step (all of it, see README.md)."""
    import torch
    from torch.optim import swa_utils

    on_gpu = args.device == "cuda"
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if on_gpu:
        torch.set_float32_matmul_precision("high")  # what autocast leaves in float32
        torch.backends.cudnn.benchmark = True

    bf16 = on_gpu or args.variant.startswith("autocast")

    def autocast():
        return torch.autocast(args.device, torch.bfloat16, enabled=bf16)

    case = segmentation(args) if args.head else classification(args)
    model = case.model.to(args.device, memory_format=torch.channels_last)
    x = torch.randn(args.batch, 3, *case.size, device=args.device,
                    dtype=torch.bfloat16 if on_gpu else torch.float32)
    x = x.to(memory_format=torch.channels_last)
    y = case.labels.to(args.device)
    compiled = "compile" in args.variant
    compile_mode = "max-autotune" if args.max_autotune else None

    if args.mode == "infer":
        model.eval()
        run = case.infer
        # Freezing packs the weights for oneDNN; it wants no_grad rather than inference_mode.
        freezing = args.variant.endswith("compile-tuned")
        no_grad = torch.no_grad if freezing else torch.inference_mode
        if compiled:
            import torch._inductor.config
            torch._inductor.config.freezing = freezing
            run = torch.compile(run, mode=compile_mode)

        @no_grad()
        def infer():
            with autocast():
                return run(x)

        if not on_gpu and not args.head:
            with torch.inference_mode():
                expected = model(x)
            check_agrees(infer().float().numpy(), expected.numpy(), bf16)
        return infer

    loss = torch.compile(case.loss, mode=compile_mode) if compiled else case.loss
    optimizer = torch.optim.AdamW(case.groups, lr=1e-3, fused=True)
    ema = case.ema and swa_utils.AveragedModel(
        model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(case.ema))

    def train():
        with autocast():
            value = loss(x, y)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        if ema:
            ema.update_parameters(model)
        return value

    return train


def throughput(args):
    import torch

    on_gpu = args.device == "cuda"
    imported = 0 if on_gpu else peak_rss()
    begin = time.perf_counter()
    step = make_step(args)
    for _ in range(2):
        value = step()
    if not torch.isfinite(value).all():
        raise RuntimeError("the result is not finite")
    about = dict(torch=torch.__version__, warmup_seconds=time.perf_counter() - begin)
    del value
    if on_gpu:
        torch.cuda.empty_cache()
        answer(cuda=torch.version.cuda, **about)
        serve_gpu(step)
    else:
        whole = peak_rss()
        reset_peak_rss()
        answer(imported=imported, whole=whole, **about)
        serve(step)


# ---- loader: decode, RandomResizedCrop to 224, flip, RandAugment


LOADER_IMAGES = 210  # a unit of work
FILL = [124, 116, 104]


def pillow_chain(policy):
    """timm's own transforms; -> a function of a file, or of its bytes."""
    from PIL import Image
    from timm.data import create_transform

    transform = create_transform(224, is_training=True, interpolation="random", hflip=0.5,
                                 auto_augment=policy, color_jitter=0.0, use_prefetcher=True)

    def load(source):
        with open(source, "rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            image = Image.open(file).convert("RGB")
        while True:
            try:
                return transform(image)
            except ValueError:  # one in 600 images: timm posterizes to 0 bits, Pillow 13 refuses
                pass

    return load


def torchvision_chain(policy):
    """The nearest that v2 has on uint8 tensors. Its RandAugment knows 31 magnitudes, of which 27 are
    level 9 of 10, applies all that it draws and interpolates tensors bilinearly alone: so one
    operation, drawn and applied with probability 0.5, twice."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms import InterpolationMode, v2

    crops = [v2.RandomResizedCrop(224, interpolation=m, antialias=True)
             for m in (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)]
    steps = [v2.RandomChoice(crops), v2.RandomHorizontalFlip(0.5)]
    if policy:
        if policy != "rand-m9-mstd0.5-inc1":
            raise SystemExit(f"torchvision has nothing near {policy}")
        augment = v2.RandAugment(1, 27, 31, interpolation=InterpolationMode.BILINEAR, fill=FILL)
        steps += [v2.RandomApply([augment], p=0.5)] * 2
    transform = v2.Compose(steps)

    @torch.inference_mode()
    def load(source):
        data = (read_file(str(source)) if isinstance(source, Path)
                else torch.frombuffer(source, dtype=torch.uint8))
        return transform(decode_jpeg(data, mode=ImageReadMode.RGB))

    return load


def loader(args):
    import PIL
    import timm
    import torch
    import torchvision
    from PIL import features

    warnings.filterwarnings("ignore", message="The given buffer is not writable")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    policy = None if args.aa == "none" else args.aa
    load = {"pillow": pillow_chain, "torchvision": torchvision_chain}[args.library](policy)
    paths = sorted(p for p in Path(args.data).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        raise SystemExit(f"{args.data}: no .jpg or .jpeg file")
    random.shuffle(paths)
    sources = itertools.cycle([bytearray(p.read_bytes()) if args.from_memory else p
                               for p in paths[:500]])

    def work():
        for _ in range(LOADER_IMAGES):
            load(next(sources))

    work()
    answer(pillow=PIL.__version__, libjpeg_turbo=features.version_feature("libjpeg_turbo"),
           timm=timm.__version__, torchvision=torchvision.__version__, images=len(paths),
           imported=peak_rss(), whole=peak_rss(), warmup_seconds=0)
    serve(work)


# ---- matmul: what the matrix products of a forward pass cost on their own


def list_products(model, batch):
    """-> {(what, groups, m, k, n): count} of one forward pass; groups > 1 is a batched product."""
    import torch
    from torch import nn

    from torch_sgformer import Attention, FullAttention, HybridAttention

    products = {}

    def add(what, groups, m, k, n):
        products[what, groups, m, k, n] = products.get((what, groups, m, k, n), 0) + 1

    def on_linear(module, inputs, output):
        add("linear", 1, output.numel() // output.shape[-1], *module.weight.shape[::-1])

    def on_conv(module, inputs, output):
        n, k = module.weight.shape[0], module.weight[0].numel()
        add("conv" if module.kernel_size[0] > 1 else "1x1", 1, output.numel() // n, k, n)

    def on_attention(module, inputs, output):
        (b, n, c), heads = inputs[0].shape, module.heads
        d = c // heads

        def attention(groups, queries, keys):
            add("q.k", groups, queries, d, keys)
            add("p.v", groups, queries, keys, d)

        if isinstance(module, HybridAttention):
            attention(b * heads // 2, n, n // module.stride**2)
            attention(b * heads // 2 * n // 49, 49, 49)
        elif isinstance(module, FullAttention):
            attention(b * heads, n, n)
        else:
            attention(b * heads, n, sum(int(share * n) // r for share, r in module.regions))

    for module in model.modules():
        if isinstance(module, nn.Linear) and module.out_features > 1:
            module.register_forward_hook(on_linear)
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            module.register_forward_hook(on_conv)
        elif isinstance(module, Attention):
            module.register_forward_hook(on_attention)
    with torch.inference_mode():
        model(torch.zeros(batch, 3, 224, 224))
    return products


def time_product(clock, groups, m, k, n):
    """-> seconds (best) of A B with B transposed as a weight is, and of its two gradients."""
    import torch

    if groups == 1:
        a, b, y, product = torch.randn(m, k), torch.randn(n, k), torch.empty(m, n), torch.mm
    else:
        a, b = torch.randn(groups, m, k), torch.randn(groups, n, k)
        y, product = torch.empty(groups, m, n), torch.bmm
    da, db = torch.empty_like(a), torch.empty_like(b)

    def best(work):
        work()
        times, end = [], time.perf_counter() + 0.04
        while len(times) < 2 or time.perf_counter() < end:
            t = clock()
            work()
            times.append(clock() - t)
        return min(times)

    forward = best(lambda: product(a, b.mT, out=y))
    return forward, best(lambda: product(y, b, out=da)) + best(lambda: product(y.mT, a, out=db))


def matmul(args):
    import torch

    from torch_sgformer import create

    torch.set_num_threads(args.threads)
    # One thread waits for nobody, so its CPU time is its own whatever else the machine does.
    clock = time.process_time if args.threads == 1 else time.perf_counter
    with torch.inference_mode():
        products = list_products(create(args.model).eval(), args.batch)
        best = {key: (math.inf, math.inf) for key in products}
        for _ in range(5):  # passes over the whole list: a burst of noise spoils only one
            for key in products:
                best[key] = tuple(map(min, best[key], time_product(clock, *key[1:])))
    answer(torch=torch.__version__, rows=[
        dict(what=key[0], shape=key[1:], count=count, macs=count * math.prod(key[1:]),
             forward=count * best[key][0], backward=count * best[key][1])
        for key, count in products.items()])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("throughput", "loader", "matmul"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", default="sgformer_s")
    parser.add_argument("--head", help="of segmentation; without one, classification")
    parser.add_argument("--img-size", type=int, nargs=2, default=[224, 224])
    parser.add_argument("--mode", choices=("infer", "train"), default="infer")
    parser.add_argument("--variant", choices=VARIANTS, default="eager")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-autotune", action="store_true")
    parser.add_argument("--data")
    parser.add_argument("--library", choices=("pillow", "torchvision"), default="pillow")
    parser.add_argument("--aa", default="none")
    parser.add_argument("--from-memory", action="store_true", help="of the loader: read the files before")
    args = parser.parse_args()
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with answers_errors():
        {"throughput": throughput, "loader": loader, "matmul": matmul}[args.task](args)


if __name__ == "__main__":
    main()
