"""One training run in PyTorch, with the recipe that compare_training.py gives to both sides.

Prints '@' and then {"losses": [a loss a step]}.
"""

import argparse
import json
import math
import random
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from torch_sgformer import DROP_PATH, create
from torch_worker import crop_box, param_groups

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Images(torch.utils.data.Dataset):
    """DIR/train/<class>/*: crop, resize, flip -> (H, W, 3) u8 and the class."""

    def __init__(self, folder, size):
        classes = sorted(p for p in (Path(folder) / "train").iterdir() if p.is_dir())
        self.classes, self.size = len(classes), size
        self.samples = [(p, i) for i, c in enumerate(classes) for p in sorted(c.iterdir())]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        path, label = self.samples[i]
        image = Image.open(path).convert("RGB")
        how = random.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC))
        image = image.crop(crop_box(*image.size, random)).resize((self.size, self.size), how)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image)), label


def lr_at(epoch, args):
    """Cosine without warm-up, constant within an epoch, as the recipe's schedule is."""
    return args.min_lr + (args.lr - args.min_lr) * (1 + math.cos(math.pi * epoch / args.epochs)) / 2


def train(args):
    torch.manual_seed(args.seed)
    random.seed(args.seed)  # of images loaded in this process; workers' come from torch's
    torch.set_num_threads(args.threads)
    bf16 = args.dtype == "bf16"
    images = Images(args.data, 224)
    loader = torch.utils.data.DataLoader(
        images, args.batch, shuffle=True, drop_last=True, num_workers=args.workers,
        persistent_workers=args.workers > 0, pin_memory=args.device == "cuda")
    model = create(args.model, classes=images.classes, drop_path=DROP_PATH[args.model])
    model = model.to(args.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(param_groups(model, 0.05), lr=args.lr, fused=True)
    mean, std = (torch.tensor(v, device=args.device) for v in (MEAN, STD))
    losses = []
    for epoch in range(args.epochs):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(epoch, args)
        for images, labels in loader:
            x = images.to(args.device, non_blocking=True) / 255
            x = ((x - mean) / std).permute(0, 3, 1, 2)  # a channels-last view
            with torch.autocast(args.device, torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(model(x), labels.to(args.device), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            if len(losses) == args.steps:
                return torch.stack(losses).tolist()
    raise RuntimeError(f"{args.epochs} epochs end before {args.steps} steps")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", required=True)
    p.add_argument("--model", required=True, choices=DROP_PATH)
    p.add_argument("--device", required=True, choices=("cpu", "cuda"))
    p.add_argument("--dtype", required=True, choices=("f32", "bf16"))
    for name in ("steps", "epochs", "batch", "seed", "workers", "threads"):
        p.add_argument(f"--{name}", type=int, required=True)
    for name in ("lr", "min-lr"):
        p.add_argument(f"--{name}", type=float, required=True)
    args = p.parse_args()
    print("@" + json.dumps(dict(losses=train(args), torch=torch.__version__)))


if __name__ == "__main__":
    sys.exit(main())
