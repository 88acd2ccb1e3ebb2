"""The run of an args.json of sgtrain --task segmentation, done in PyTorch: mmsegmentation's chain with
OpenCV and NumPy, the model of torch_segmentation.py.

    python torch_segmentation_learning.py RUN/args.json

Prints '@' and then {"epochs": [a row an epoch, with the names of metrics.jsonl]}.
"""

import random
from pathlib import Path

import cv2
import numpy as np
import torch

from contestants import find_split
from torch_learning import NOT_HERE, args_json, learn, read_options
from torch_segmentation import IGNORED, Segmentor, segmentation_groups

# Options that are not done here, and the value at which they do nothing. Curves are by epoch.
DONE_HERE = {"task", "head", "steps", "cat_max_ratio", "image_scale", "poly_power", "ratio_range",
             "reduce_zero_label", "warmup_ratio", "warmup_steps"}
REFUSED = {k: v for k, v in NOT_HERE.items() if k not in DONE_HERE}
REFUSED |= dict(task="segmentation", ignore_index=IGNORED, eval_interval=1, model_ema_decay=0,
                smoothing=0, mixup=0, cutmix=0, reprob=0, aa="none", color_jitter=0, vflip=0,
                dtype="f32")
CROP_REDRAWS = 10
ALIGN = 32


def coin():
    return random.random() < 0.5


# ---- images and labels


def pairs(o, split):
    """-> [(image, label)] of DIR/images/SPLIT and DIR/annotations/SPLIT, by name."""
    images = find_split(Path(o.data) / "images", split)
    labels = Path(o.data) / "annotations" / images.name
    return [(p, labels / (p.stem + ".png")) for p in sorted(images.iterdir())]


def read(pair, reduce_zero_label):
    """-> BGR u8 (H, W, 3), u8 (H, W) with the classes from 0."""
    image, label = cv2.imread(str(pair[0])), cv2.imread(str(pair[1]), cv2.IMREAD_UNCHANGED)
    if reduce_zero_label:
        label = np.where(label == 0, IGNORED, label - 1).astype(np.uint8)
    return image, label


def kept_size(image, scale):
    """(width, height) of the largest size within `scale` that keeps the ratio."""
    h, w = image.shape[:2]
    factor = min(max(scale) / max(h, w), min(scale) / min(h, w))
    return int(w * factor + 0.5), int(h * factor + 0.5)


def draw_crop(label, sides, max_share):
    """-> slices of rows and columns; a crop that is all but one class is drawn anew."""
    height, width = (min(a, b) for a, b in zip(sides, label.shape))
    for _ in range(CROP_REDRAWS + 1):
        top = random.randint(0, label.shape[0] - height)
        left = random.randint(0, label.shape[1] - width)
        crop = slice(top, top + height), slice(left, left + width)
        counts = np.bincount(label[crop].ravel(), minlength=256)[:IGNORED]
        if (counts > 0).sum() > 1 and counts.max() / counts.sum() < max_share:
            break
    return crop


def linear(x, factor=1.0, add=0.0):
    """Clipped and truncated, as mmsegmentation does it."""
    return np.clip(x.astype(np.float32) * np.float32(factor) + np.float32(add), 0, 255).astype(np.uint8)


def distort(bgr):
    if coin():
        bgr = linear(bgr, add=random.uniform(-32, 32))
    contrast_first = coin()
    if contrast_first and coin():
        bgr = linear(bgr, random.uniform(0.5, 1.5))
    if coin():
        hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = linear(hsv[..., 1], random.uniform(0.5, 1.5))
        bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if coin():
        hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + random.randint(-18, 17)) % 180
        bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if not contrast_first and coin():
        bgr = linear(bgr, random.uniform(0.5, 1.5))
    return bgr


def normalize(bgr, o):
    """-> f32 (3, H, W), RGB"""
    rgb = bgr[..., ::-1].astype(np.float32)
    return ((rgb - 255 * np.float32(o.mean)) / (255 * np.float32(o.std))).transpose(2, 0, 1)


class TrainingImages(torch.utils.data.Dataset):
    def __init__(self, o):
        self.o, self.pairs = o, pairs(o, o.train_split)
        sides = [int(side) for side in str(o.img_size).split()]
        self.sides = sides[0], sides[-1]

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        o = self.o
        image, label = read(self.pairs[i], o.reduce_zero_label)
        ratio = random.uniform(*o.ratio_range)
        size = kept_size(image, [int(s * ratio) for s in o.image_scale])
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
        crop = draw_crop(label, self.sides, o.cat_max_ratio)
        image, label = image[crop], label[crop]
        if random.random() < o.hflip:
            image, label = image[:, ::-1], label[:, ::-1]
        image = normalize(distort(np.ascontiguousarray(image)), o)
        below, right = (a - b for a, b in zip(self.sides, label.shape))
        image = np.pad(image, ((0, 0), (0, below), (0, right)))
        label = np.pad(label, ((0, below), (0, right)), constant_values=IGNORED)
        return torch.from_numpy(image), torch.from_numpy(label).long()


# ---- learning


class Learner:
    def __init__(self, o):
        self.o = o
        self.model = Segmentor(o.model, o.head, o.num_classes, o.drop_path)
        self.model = self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            segmentation_groups(self.model, o.head, o.weight_decay), lr=o.lr, betas=o.opt_betas,
            eps=o.opt_eps, fused=True)
        self.batches = torch.utils.data.DataLoader(
            TrainingImages(o), o.batch_size, shuffle=True, drop_last=True, num_workers=o.workers,
            persistent_workers=o.workers > 0)
        self.validation = pairs(o, o.val_split)

    def rate(self, step):
        o = self.o
        poly = o.min_lr + (o.lr - o.min_lr) * (1 - step / o.steps) ** o.poly_power
        if step >= o.warmup_steps:
            return poly
        return poly * (1 - (1 - step / o.warmup_steps) * (1 - o.warmup_ratio))

    def train(self, first_step):
        """An epoch, or what is left of the run. -> losses"""
        self.model.train()
        losses = []
        for step, (images, labels) in enumerate(self.batches, first_step):
            if step == self.o.steps:
                break
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(step)
            loss = self.model.loss(images.contiguous(memory_format=torch.channels_last), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    @torch.no_grad()
    def evaluate(self):
        """Whole images, resized within the scale and then to multiples of 32. -> scores in percent"""
        self.model.eval()
        o, k = self.o, self.o.num_classes
        matrix = np.zeros((k, k), np.int64)  # label, prediction
        for pair in self.validation:
            image, label = read(pair, o.reduce_zero_label)
            kept = cv2.resize(image, kept_size(image, [int(s) for s in o.image_scale]))
            seen = [-(-side // ALIGN) * ALIGN for side in kept.shape[:2]]
            if seen != list(kept.shape[:2]):
                kept = cv2.resize(kept, seen[::-1])
            x = torch.from_numpy(normalize(kept, o))[None]
            x = x.contiguous(memory_format=torch.channels_last)
            prediction = self.model.predict(x, label.shape)[0].numpy()
            counts = label != IGNORED
            matrix += np.bincount(label[counts].astype(int) * k + prediction[counts],
                                  minlength=k * k).reshape(k, k)
        hit, of_label, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        with np.errstate(invalid="ignore"):
            iou, accuracy = hit / (of_label + predicted - hit), hit / of_label
        return dict(mIoU=100 * np.nanmean(iou), aAcc=100 * hit.sum() / of_label.sum(),
                    mAcc=100 * np.nanmean(accuracy))

    def epochs(self):
        step = epoch = 0
        while step < self.o.steps:
            losses = self.train(step)
            step += len(losses)
            yield dict(epoch=epoch, lr=self.rate(step - 1), step=step,
                       train_loss=float(np.mean(losses)),
                       **{f"eval_{name}": float(v) for name, v in self.evaluate().items()})
            epoch += 1


if __name__ == "__main__":
    cv2.setNumThreads(1)
    learn(read_options(args_json(__doc__), REFUSED), Learner, opencv=cv2.__version__)
