"""SG-Former in PyTorch, for comparison only: the product neither imports nor needs it.

Written as a PyTorch user would write it today: eager modules with the official parameter names,
tokens (B, N, C) that double as channels-last maps (so the depthwise convolutions cost no copy),
scaled_dot_product_attention wherever the attention map itself is not wanted, one stable ranking.

    python torch_sgformer.py --check ../../../shared/golden    # float64, values and gradients

Any image size works, by the rules of the product: maps are padded where a window or a merge does
not divide them, and the ranking is led by virtual tokens of zeros.
"""

import argparse
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

WINDOW = 7

# s: (share of the ranking, tokens merged into one) of each region, least significant first.
REGIONS = {
    8: ((1 / 4, 196), (1 / 2, 56), (1 / 4, 28)),
    4: ((1 / 4, 49), (1 / 2, 14), (1 / 4, 7)),
    2: ((1 / 2, 2), (1 / 2, 1)),
}

CONFIGS = {
    "sgformer_s": dict(dims=(64, 128, 256, 512), heads=(2, 4, 8, 16), depths=(2, 4, 16, 1)),
    "sgformer_m": dict(dims=(64, 128, 256, 512), heads=(2, 4, 8, 16), depths=(2, 6, 28, 2)),
    "sgformer_b": dict(dims=(96, 192, 384, 768), heads=(4, 6, 12, 24), depths=(4, 6, 24, 2)),
    "sgformer_nano": dict(
        dims=(24, 48, 96, 192), heads=(2, 2, 4, 8), depths=(2, 2, 2, 1), sr_ratios=(4, 2, 2, 1),
        stem_strides=(2, 1, 1), table_side=14,
        regions={4: ((1 / 4, 7), (1 / 2, 2), (1 / 4, 1)), 2: REGIONS[2]}),
}
DROP_PATH = {"sgformer_s": 0.1, "sgformer_m": 0.2, "sgformer_b": 0.4, "sgformer_nano": 0.0}


def to_map(x, hw):
    """(B, N, C) -> (B, C, H, W), a channels-last view."""
    return x.transpose(1, 2).unflatten(2, hw)


def to_tokens(x):
    """(B, C, H, W) -> (B, N, C), a view if x is channels-last."""
    return x.flatten(2).transpose(1, 2)


def pad_map(x, hw, unit):
    """(B, N, C) -> the map with zeros to the right and below up to multiples of unit; its sides."""
    sides = tuple(-(-s // unit) * unit for s in hw)
    if sides == tuple(hw):
        return x, sides
    x = F.pad(x.unflatten(1, hw), (0, 0, 0, sides[1] - hw[1], 0, sides[0] - hw[0]))
    return x.flatten(1, 2), sides


def split_heads(x, heads):
    """(B, N, heads * d) -> (B, heads, N, d)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def split_kv(x, heads):
    """(B, N, 2 * heads * d), ordered [k, v][head][d] -> two of (B, heads, N, d)."""
    return x.unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def merge_heads(x):
    """(B, heads, N, d) -> (B, N, heads * d)."""
    return x.transpose(1, 2).flatten(2)


def to_windows(x, hw):
    """(B, N, C) -> (B * windows, 49, C)."""
    h, w = hw
    x = x.reshape(-1, h // WINDOW, WINDOW, w // WINDOW, WINDOW, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, WINDOW * WINDOW, x.shape[-1])


def from_windows(x, hw):
    """(B * windows, 49, C) -> (B, N, C)."""
    h, w = hw
    x = x.reshape(-1, h // WINDOW, w // WINDOW, WINDOW, WINDOW, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, h * w, x.shape[-1])


class DropPath(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(x.shape[0], 1, 1).bernoulli_(keep).div_(keep)


class ConvNorm(nn.Module):
    """Convolution without bias, then GroupNorm of one group (officially named `bn`)."""

    def __init__(self, cin, cout, kernel, stride=1, groups=1):
        super().__init__()
        self.c = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.GroupNorm(1, cout)

    def forward(self, x):
        return self.bn(self.c(x))


class Stem(nn.Module):
    """(B, 3, H, W) -> (B, H/4 * W/4, C), or what the strides make of it."""

    def __init__(self, dim, strides=(2, 1, 2)):
        super().__init__()
        self.conv = nn.Sequential(
            ConvNorm(3, dim, 3, strides[0]), nn.GELU(), ConvNorm(dim, dim, 3, strides[1]),
            nn.GELU(), ConvNorm(dim, dim, 3, strides[2]))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        x = self.conv(x)
        return self.norm(to_tokens(x)), x.shape[2:]


class PatchMerging(nn.Module):
    """(B, C, H, W) -> (B, H/2 * W/2, C')."""

    def __init__(self, cin, cout):
        super().__init__()
        self.conv1 = ConvNorm(cin, cout, 1)
        self.conv2 = ConvNorm(cout, cout, 3, 2, groups=cout)
        self.conv3 = ConvNorm(cout, cout, 1)

    def forward(self, x):
        x = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return to_tokens(x), x.shape[2:]


class DepthwiseConv(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x, hw):
        return to_tokens(self.dwconv(to_map(x, hw)))


class Mlp(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x, hw):
        x = self.fc1(x)
        return self.fc2(F.gelu(x + self.dwconv(x, hw)))


class Attention(nn.Module):
    """Parts that the three kinds share: the local position encoding and the output projection."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5

    def add_tail(self, dim):  # after the subclass's own layers: keeps the official order
        self.lepe_linear = nn.Linear(dim, dim)
        self.lepe_conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.proj = nn.Linear(dim, dim)

    def finish(self, x, heads_out, hw):
        lepe = to_tokens(self.lepe_conv(to_map(self.lepe_linear(x), hw)))
        return self.proj(heads_out + lepe)


class FullAttention(Attention):
    def __init__(self, dim, heads):
        super().__init__(dim, heads)
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.add_tail(dim)

    def forward(self, x, hw, significance=None):
        k, v = split_kv(self.kv(x), self.heads)
        out = F.scaled_dot_product_attention(split_heads(self.q(x), self.heads), k, v)
        return self.finish(x, merge_heads(out), hw), None


class HybridAttention(Attention):
    """Half of the heads see the whole merged map, half a 7x7 window; yields the significance."""

    def __init__(self, dim, heads, stride):
        super().__init__(dim, heads)
        self.stride = stride
        self.sr = nn.Conv2d(dim, dim, stride, stride)
        self.norm = nn.LayerNorm(dim)
        self.q1 = nn.Linear(dim, dim // 2)
        self.kv1 = nn.Linear(dim, dim)
        self.q2 = nn.Linear(dim, dim // 2)
        self.kv2 = nn.Linear(dim, dim)
        self.add_tail(dim)

    def attend(self, q, kv, real=None):
        """-> outputs (B, N, C/2) and the attention each key receives (B, keys), detached.
        real: (B, N), False where a token is padding; None: nowhere."""
        q, (k, v) = split_heads(q, self.heads // 2), split_kv(kv, self.heads // 2)
        scores = (q * self.scale) @ k.transpose(-2, -1)
        if real is not None:
            scores = scores.masked_fill(~real[:, None, None], -math.inf)
        attn = scores.softmax(-1)
        given = attn.detach()
        if real is not None:
            given = given * real[:, None, :, None]
        return merge_heads(attn @ v), given.mean((1, 2))

    def attend_globally(self, x, hw):
        """-> outputs (B, N, C/2) and the significance (B, H, W)."""
        padded, (h, w) = pad_map(x, hw, self.stride)
        merged = self.sr(to_map(padded, (h, w)))
        merged = F.gelu(self.norm(to_tokens(merged)))
        out, sig = self.attend(self.q1(x), self.kv1(merged))
        s = self.stride
        sig = sig.reshape(-1, h // s, 1, w // s, 1).expand(-1, -1, s, -1, s).reshape(-1, h, w)
        return out, sig[:, :hw[0], :hw[1]]

    def attend_locally(self, x, hw):
        """-> outputs (B, N, C/2) and the significance (B, H, W)."""
        (q, sides), (kv, _) = (pad_map(f(x), hw, WINDOW) for f in (self.q2, self.kv2))
        real = None
        if sides != tuple(hw):
            real = pad_map(torch.ones_like(x[..., :1]), hw, WINDOW)[0]
            real = to_windows(real, sides)[..., 0] > 0
        out, sig = self.attend(to_windows(q, sides), to_windows(kv, sides), real)
        out, sig = (from_windows(t, sides).unflatten(1, sides)[:, :hw[0], :hw[1]]
                    for t in (out, sig[..., None]))
        return out.flatten(1, 2), sig[..., 0]

    def forward(self, x, hw, significance=None):
        far, far_sig = self.attend_globally(x, hw)
        near, near_sig = self.attend_locally(x, hw)
        significance = (far_sig + near_sig).flatten(1)
        return self.finish(x, torch.cat((far, near), -1), hw), significance


class SelfGuidedAttention(Attention):
    """Keys and values are tokens merged along the significance ranking."""

    def __init__(self, dim, heads, regions):
        super().__init__(dim, heads)
        self.regions = regions
        self.q = nn.Linear(dim, dim)
        self.kv1 = nn.Linear(dim, dim)
        self.kv2 = nn.Linear(dim, dim)
        for i, (_, r) in enumerate(self.regions):
            self.add_module(f"f{i + 1}", nn.Linear(r, 1))
        self.add_tail(dim)

    def aggregate(self, x, significance):
        """(B, N, C) -> (B, T, C), without those made of virtual tokens alone."""
        rank = significance.argsort(dim=1, stable=True)
        x = x.gather(1, rank[..., None].expand_as(x))
        virtual = -x.shape[1] % math.lcm(*(round(r / share) for share, r in self.regions))
        if virtual:
            x = F.pad(x, (0, 0, virtual, 0))
        n, out, begin = x.shape[1], [], 0
        for i, (share, r) in enumerate(self.regions):
            f, end = getattr(self, f"f{i + 1}"), begin + int(share * n)
            tokens = (f.weight @ x[:, begin:end].unflatten(1, (-1, r))).squeeze(2) + f.bias
            out.append(tokens[:, max(min(virtual, end) - begin, 0) // r:])
            begin = end
        return torch.cat(out, 1)

    def forward(self, x, hw, significance):
        y = self.aggregate(x, significance)
        k1, v1 = split_kv(self.kv1(y), self.heads // 2)
        k2, v2 = split_kv(self.kv2(y), self.heads // 2)
        q = split_heads(self.q(x), self.heads)
        out = F.scaled_dot_product_attention(q, torch.cat((k1, k2), 1), torch.cat((v1, v2), 1))
        return self.finish(x, merge_heads(out), hw), None


class Block(nn.Module):
    def __init__(self, dim, attn, drop_path=0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x, hw, significance):
        y, significance = self.attn(self.norm1(x), hw, significance)
        x = x + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x), hw)), significance


def make_attention(dim, heads, stride, block, regions=REGIONS):
    if stride == 1:
        return FullAttention(dim, heads)
    if block % 2:
        return SelfGuidedAttention(dim, heads, regions[stride])
    return HybridAttention(dim, heads, stride)


class SGFormer(nn.Module):
    def __init__(self, dims, heads, depths, sr_ratios=(8, 4, 2, 1), classes=1000, drop_path=0.0,
                 stem_strides=(2, 1, 2), table_side=56, regions=REGIONS):
        super().__init__()
        rates = iter(drop_path * j / max(sum(depths) - 1, 1) for j in range(sum(depths)))
        self.table_side = table_side
        self.pos_embed = nn.Parameter(sincos_table(dims[0], table_side))
        for i, dim in enumerate(dims):
            embed = Stem(dim, stem_strides) if i == 0 else PatchMerging(dims[i - 1], dim)
            blocks = [Block(dim, make_attention(dim, heads[i], sr_ratios[i], j, regions),
                            next(rates)) for j in range(depths[i])]
            self.add_module(f"patch_embed{i + 1}", embed)
            self.add_module(f"block{i + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{i + 1}", nn.LayerNorm(dim, eps=1e-6))
        self.head = nn.Linear(dims[-1], classes)
        self.apply(init_weights)

    def position(self, hw):
        """The table (1, N, C) of a map of these sides."""
        table = (self.table_side, self.table_side)
        if tuple(hw) == table:
            return self.pos_embed
        return to_tokens(F.interpolate(to_map(self.pos_embed, table), tuple(hw), mode="bicubic"))

    def features(self, x):
        """-> the normed maps (B, C, H, W) of each stage and the significance by (stage, block)."""
        features, maps = [], {}
        for i in range(4):
            x, hw = getattr(self, f"patch_embed{i + 1}")(x)
            if i == 0:
                x = x + self.position(hw)
            significance = None
            for j, block in enumerate(getattr(self, f"block{i + 1}")):
                x, significance = block(x, hw, significance)
                if significance is not None:
                    maps[i, j] = significance
            x = to_map(getattr(self, f"norm{i + 1}")(x), hw)
            features.append(x)
        return features, maps

    def forward(self, x):
        return self.head(to_tokens(self.features(x)[0][-1]).mean(1))


def sincos_table(dim, side):
    """(1, side * side, dim): first half the column, second half the row; each sines, cosines."""
    omega = 10000.0 ** (-torch.arange(dim // 4) / (dim // 4))
    angle = torch.arange(side)[:, None] * omega
    wave = torch.cat((angle.sin(), angle.cos()), 1)
    column, row = wave.expand(side, -1, -1), wave[:, None].expand(-1, side, -1)
    return torch.cat((column, row), -1).reshape(1, side * side, dim)


def init_weights(m):
    if isinstance(m, nn.Linear):
        nn.init.normal_(m.weight, std=0.02)
        nn.init.zeros_(m.bias)
    elif isinstance(m, nn.Conv2d):
        fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels // m.groups
        nn.init.normal_(m.weight, std=math.sqrt(2 / fan_out))
        if m.bias is not None:
            nn.init.zeros_(m.bias)


def create(name, **kwargs):
    return SGFormer(**{**CONFIGS[name], **kwargs})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", type=Path, required=True, metavar="DIR",
                        help="folder of the golden data; exit 1 if a relative error exceeds 1e-9")
    from torch_golden import check

    sys.exit(1 if check(parser.parse_args().check) else 0)
