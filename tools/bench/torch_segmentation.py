"""Semantic segmentation with SG-Former in PyTorch, for comparison only: Semantic FPN and UperNet on
the backbone of torch_sgformer.py, as a PyTorch user would write them, with the parameter names of
mmsegmentation. Checked by `torch_sgformer.py --check`.

    python torch_segmentation.py --write FILE --model sgformer_nano --head upernet

writes what golden_check compares our segmentor with: its outputs in float64, and its gradients.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from torch_sgformer import CONFIGS, SGFormer

IGNORED = 255
AUXILIARY_MAP, AUXILIARY_WEIGHT = 2, 0.4
# Channels of the heads, and the drop-path rates that go with them.
HEADS = {
    "semantic_fpn": dict(neck_channels=256, channels=128),
    "upernet": dict(channels=512, auxiliary_channels=256),
}
NARROW_HEADS = {
    "semantic_fpn": dict(neck_channels=48, channels=32),
    "upernet": dict(channels=48, auxiliary_channels=32),
}
DROP_PATH = {
    "semantic_fpn": {"sgformer_nano": 0.0, "sgformer_s": 0.1, "sgformer_m": 0.2, "sgformer_b": 0.3},
    "upernet": {"sgformer_nano": 0.0, "sgformer_s": 0.3, "sgformer_m": 0.4, "sgformer_b": 0.6},
}


def resize(x, size):
    """Bilinear; a map that is as large already stays as it is."""
    size = tuple(size)
    return x if tuple(x.shape[2:]) == size else F.interpolate(x, size, mode="bilinear")


class ConvBnRelu(nn.Module):
    def __init__(self, cin, cout, kernel):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Conv(nn.Module):
    """Of the pyramid: neither norm nor activation."""

    def __init__(self, cin, cout, kernel):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2)
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return self.conv(x)


class Logits(nn.Module):
    """What all heads end with."""

    def add_logits(self, channels, classes):  # after the subclass's own layers: keeps the order
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(channels, classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        nn.init.zeros_(self.conv_seg.bias)

    def logits(self, x):
        return self.conv_seg(self.dropout(x))


class Fpn(nn.Module):
    def __init__(self, widths, channels):
        super().__init__()
        self.lateral_convs = nn.ModuleList(Conv(w, channels, 1) for w in widths)
        self.fpn_convs = nn.ModuleList(Conv(channels, channels, 3) for _ in widths)

    def forward(self, maps):
        x = [conv(m) for conv, m in zip(self.lateral_convs, maps)]
        for i in range(len(x) - 1, 0, -1):
            x[i - 1] = x[i - 1] + F.interpolate(x[i], x[i - 1].shape[2:], mode="nearest")
        return [conv(m) for conv, m in zip(self.fpn_convs, x)]


class SemanticFpnHead(Logits):
    def __init__(self, maps, cin, channels, classes):
        super().__init__()
        self.scale_heads = nn.ModuleList()
        for i in range(maps):
            layers = []
            for j in range(max(i, 1)):
                layers.append(ConvBnRelu(channels if j else cin, channels, 3))
                if i:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
            self.scale_heads.append(nn.Sequential(*layers))
        self.add_logits(channels, classes)

    def forward(self, maps):
        x = self.scale_heads[0](maps[0])
        for head, m in zip(self.scale_heads[1:], maps[1:]):
            x = x + resize(head(m), x.shape[2:])
        return self.logits(x)


class UperNetHead(Logits):
    def __init__(self, widths, channels, classes, pool_scales=(1, 2, 3, 6)):
        super().__init__()
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(s), ConvBnRelu(widths[-1], channels, 1))
            for s in pool_scales)
        self.bottleneck = ConvBnRelu(widths[-1] + len(pool_scales) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvBnRelu(w, channels, 1) for w in widths[:-1])
        self.fpn_convs = nn.ModuleList(ConvBnRelu(channels, channels, 3) for _ in widths[:-1])
        self.fpn_bottleneck = ConvBnRelu(len(widths) * channels, channels, 3)
        self.add_logits(channels, classes)

    def forward(self, maps):
        pooled = [resize(pool(maps[-1]), maps[-1].shape[2:]) for pool in self.psp_modules]
        x = [conv(m) for conv, m in zip(self.lateral_convs, maps)]
        x.append(self.bottleneck(torch.cat([maps[-1], *pooled], 1)))
        for i in range(len(x) - 1, 0, -1):
            x[i - 1] = x[i - 1] + resize(x[i], x[i - 1].shape[2:])
        outs = [conv(m) for conv, m in zip(self.fpn_convs, x)] + [x[-1]]
        outs = [resize(m, outs[0].shape[2:]) for m in outs]
        return self.logits(self.fpn_bottleneck(torch.cat(outs, 1)))


class FcnHead(Logits):
    def __init__(self, cin, channels, classes):
        super().__init__()
        self.convs = nn.Sequential(ConvBnRelu(cin, channels, 3))
        self.add_logits(channels, classes)

    def forward(self, x):
        return self.logits(self.convs(x))


class SemanticFpn(nn.Module):
    """Neck and head, whose names stand beside each other."""

    def __init__(self, widths, neck_channels, channels, classes):
        super().__init__()
        self.neck = Fpn(widths, neck_channels)
        self.decode_head = SemanticFpnHead(len(widths), neck_channels, channels, classes)

    def forward(self, maps):
        return self.decode_head(self.neck(maps))


class Segmentor(nn.Module):
    def __init__(self, model, head, classes, drop_path=None):
        super().__init__()
        widths = CONFIGS[model]["dims"]
        sizes = (NARROW_HEADS if model == "sgformer_nano" else HEADS)[head]
        if drop_path is None:
            drop_path = DROP_PATH[head][model]
        self.backbone = SGFormer(**CONFIGS[model], classes=1, drop_path=drop_path)
        del self.backbone.head
        self.auxiliary_head = None
        if head == "semantic_fpn":
            self.neck = Fpn(widths, sizes["neck_channels"])
            self.decode_head = SemanticFpnHead(len(widths), sizes["neck_channels"],
                                               sizes["channels"], classes)
        else:
            self.neck = nn.Identity()
            self.decode_head = UperNetHead(widths, sizes["channels"], classes)
            self.auxiliary_head = FcnHead(widths[AUXILIARY_MAP], sizes["auxiliary_channels"],
                                          classes)

    def forward(self, images):
        """(B, 3, H, W) -> logits of a quarter of the size, and in training the auxiliary head's
        (None where there is no such head)."""
        maps, _ = self.backbone.features(images)
        logits = self.decode_head(self.neck(maps))
        if self.training and self.auxiliary_head:
            return logits, self.auxiliary_head(maps[AUXILIARY_MAP])
        return logits, None

    def losses(self, images, labels):
        """labels (B, H, W) -> [decode] or [decode, auxiliary], means over ALL pixels."""
        return [F.cross_entropy(resize(z, labels.shape[1:]), labels, ignore_index=IGNORED,
                                reduction="sum") / labels.numel()
                for z in self(images) if z is not None]

    def loss(self, images, labels):
        decode, *auxiliary = self.losses(images, labels)
        return decode + sum(AUXILIARY_WEIGHT * a for a in auxiliary)

    def predict(self, images, size):
        """-> labels (B, *size): logits are resized to the images, and again to `size`."""
        return resize(resize(self(images)[0], images.shape[2:]), size).argmax(1)


def segmentation_groups(model, head, weight_decay):
    """With Semantic FPN all decays; with UperNet all but norms of the backbone and the table."""
    def decays(name):
        return head == "semantic_fpn" or not ("norm" in name or "pos_embed" in name)

    named = list(model.named_parameters())
    return [{"params": [p for n, p in named if decays(n)], "weight_decay": weight_decay},
            {"params": [p for n, p in named if not decays(n)], "weight_decay": 0.0}]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", choices=CONFIGS, default="sgformer_nano")
    parser.add_argument("--head", choices=HEADS, default="upernet")
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(36, 50), metavar=("HEIGHT", "WIDTH"))
    args = parser.parse_args()
    from torch_golden import write_segmentor

    write_segmentor(args.write, args.model, args.head, args.classes, args.size)


if __name__ == "__main__":
    main()
