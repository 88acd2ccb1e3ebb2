"""The run of an args.json of sgtrain, done in PyTorch: timm's transforms, mixing, erasing, schedule
and EMA, the model of torch_sgformer.py.

    python torch_learning.py RUN/args.json

Prints '@' and then {"epochs": [a row an epoch, with the names of metrics.jsonl]}.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.data import FastCollateMixup, create_transform
from timm.data.random_erasing import RandomErasing
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torchvision.datasets import ImageFolder

from contestants import find_split
from torch_sgformer import create
from torch_worker import param_groups

# Options that are not done here, and the value at which they do nothing.
NOT_HERE = dict(
    aug_repeats=0, balance_significance=False, bce_loss=False, class_map="", class_order="name",
    class_weights="", clip_grad=0, color_jitter_prob=1, cutmix_minmax=None, freeze="", grad_accum=1,
    grayscale_prob=0, guidance="", initial_checkpoint="", layer_decay=1, max_steps=0,
    mixup_group=None, mixup_off_epoch=0, model_ema_warmup=False, no_aug=False, patience_epochs=0,
    recount=1, regions="", remode="pixel", scales="", sched_on_updates=False, val_share=0,
    warmup_prefix=False,
    # Of --task segmentation, which torch_segmentation_learning.py does.
    task="classification", head="", steps=0, aux_weight=0.4, cat_max_ratio=0.75, eval_interval=None,
    ignore_index=None, image_scale=None, poly_power=1, ratio_range=[0.5, 2],
    reduce_zero_label=False, warmup_ratio=1e-6, warmup_steps=0,
    # Of --task detection.
    lr_gamma=0.1, lr_milestones=None, multi_scale=False)


def read_options(path, not_here=NOT_HERE):
    """-> the options of an args.json, with what sgtrain decided for the user."""
    options = json.loads(Path(path).read_text())
    options |= options.pop("resolved")
    for name, neutral in not_here.items():
        if (found := options.get(name, neutral)) != neutral:
            raise SystemExit(f"{path}: {name} is {found!r}; here it can only be {neutral!r}")
    return SimpleNamespace(**options)


def loaders(o):
    """-> batches of (B, 3, H, W) u8 and targets: to learn from, (B, classes) where images are mixed,
    else labels; and to evaluate on, labels."""
    sides = [int(side) for side in str(o.img_size).split()]  # "32", or "32 24": height, width
    shared = dict(input_size=(3, sides[0], sides[-1]), mean=o.mean, std=o.std,
                  use_prefetcher=True)  # u8 tensors
    train = create_transform(
        is_training=True, scale=o.scale, ratio=o.ratio, hflip=o.hflip, vflip=o.vflip,
        color_jitter=o.color_jitter or None, auto_augment=None if o.aa == "none" else o.aa,
        interpolation=o.train_interpolation, **shared)
    evaluate = create_transform(interpolation="bicubic", crop_pct=o.crop_pct, **shared)
    mix = FastCollateMixup(
        o.mixup, o.cutmix, prob=o.mixup_prob, switch_prob=o.mixup_switch_prob, mode=o.mixup_mode,
        label_smoothing=o.smoothing, num_classes=o.num_classes) if o.mixup or o.cutmix else None

    def load(split, transform, **more):
        return torch.utils.data.DataLoader(
            ImageFolder(find_split(o.data, split), transform), o.batch_size, num_workers=o.workers,
            persistent_workers=o.workers > 0, pin_memory=o.device == "cuda", **more)

    return (load(o.train_split, train, shuffle=True, drop_last=True, collate_fn=mix),
            load(o.val_split, evaluate))


class Learner:
    def __init__(self, o):
        self.o = o
        model = create(o.model, classes=o.num_classes, drop_path=o.drop_path)
        self.model = model.to(o.device, memory_format=torch.channels_last)
        self.ema = ModelEmaV3(self.model, o.model_ema_decay) if o.model_ema_decay else None
        self.optimizer = torch.optim.AdamW(
            param_groups(self.model, o.weight_decay), lr=o.lr, betas=o.opt_betas, eps=o.opt_eps,
            fused=True)
        self.schedule = CosineLRScheduler(
            self.optimizer, o.epochs, o.min_lr, warmup_t=o.warmup_epochs,
            warmup_lr_init=o.warmup_lr)
        self.mean, self.std = (255 * torch.tensor(v, device=o.device).view(3, 1, 1)
                               for v in (o.mean, o.std))
        self.erase = RandomErasing(o.reprob, mode="pixel", device=o.device)

    def logits(self, model, images):
        bf16 = self.o.dtype == "bf16"
        with torch.autocast(self.o.device, torch.bfloat16, enabled=bf16):
            return model(images.contiguous(memory_format=torch.channels_last)).float()

    def normalize(self, images):
        return (images.to(self.o.device, non_blocking=True).float() - self.mean) / self.std

    def train(self, batches):
        """-> the mean loss of an epoch."""
        self.model.train()
        losses = []
        for images, targets in batches:
            logits = self.logits(self.model, self.erase(self.normalize(images)))
            smoothing = 0 if targets.is_floating_point() else self.o.smoothing  # or within it
            loss = F.cross_entropy(logits, targets.to(self.o.device), label_smoothing=smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.ema:
                self.ema.update(self.model)
            losses.append(loss.detach())
        return torch.stack(losses).mean().item()

    @torch.no_grad()
    def evaluate(self, model, batches):
        model.eval()
        loss = hits = count = 0
        for images, labels in batches:
            labels = labels.to(self.o.device)
            logits = self.logits(model, self.normalize(images))
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            hits += (logits.argmax(1) == labels).sum().item()
            count += len(labels)
        return dict(loss=loss / count, top1=100 * hits / count)

    def epochs(self):
        train, val = loaders(self.o)
        for epoch in range(self.o.epochs + self.o.cooldown_epochs):
            self.schedule.step(epoch)
            row = dict(epoch=epoch, lr=self.optimizer.param_groups[0]["lr"],
                       train_loss=self.train(train))
            scores = dict(eval_model_=self.evaluate(self.model, val)) if self.ema else {}
            scores["eval_"] = self.evaluate(self.ema.module if self.ema else self.model, val)
            yield row | {p + name: v for p, of in scores.items() for name, v in of.items()}


def learn(options, learner, **about):
    """learner(options).epochs() yields the rows."""
    o = options
    random.seed(o.seed)  # of images loaded in this process; workers' come from torch's
    np.random.seed(o.seed)
    torch.manual_seed(o.seed)
    torch.set_num_threads(o.threads)
    rows = []
    for row in learner(o).epochs():
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    print("@" + json.dumps(dict(epochs=rows, torch=torch.__version__, **about)))


def args_json(description):
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("args_json", type=Path)
    return parser.parse_args().args_json


if __name__ == "__main__":
    learn(read_options(args_json(__doc__)), Learner, timm=timm.__version__)
