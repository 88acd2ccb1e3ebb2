"""What timm's RandAugment and torchvision's ColorJitter do, for rand_augment_test.cpp.

augment.safetensors: small images of odd sizes and what timm's operations make of them at levels up to 30, in the
form of golden/augment: golden_check takes it too. levels.json: the arguments of all operations of timm's two sets.
Made by timm 1.0.31, torchvision 0.29 and Pillow 13.0:  python make_cases.py FOLDER
"""
import json
import random
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import timm.data.auto_augment as timm_aa
from PIL import Image
from safetensors.numpy import save_file
from torchvision.transforms import functional

LEVELS = [0, 0.3, 1, 2.5, 3, 5, 7.4, 7.5, 8, 9, 9.6, 10, 11, 11.7, 12, 15, 20, 27.5, 30]
ARGUMENT = {"Rotate": "degrees", "Posterize": "bits", "Solarize": "threshold", "SolarizeAdd": "add",
            "ShearX": "factor", "ShearY": "factor", "TranslateXRel": "fraction",
            "TranslateYRel": "fraction", "TranslateX": "pixels", "TranslateY": "pixels"}
FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
FILL = [124, 116, 104]
OTHER_OPS = ["PosterizeOriginal", "TranslateX", "TranslateY"]  # of AutoAugment


def argument(op, level, negative):
    """None where the operation has none."""
    function = timm_aa.LEVEL_TO_ARG[op]
    if function is None:
        return None
    with mock.patch.object(random, "random", lambda: 0.9 if negative else 0.1):
        return function(level, {"translate_const": 10})[0]


def argument_name(op):
    base = op.replace("Increasing", "").replace("Original", "")
    return ARGUMENT.get(base, "factor")


def picture(height, width, seed):
    """Smooth colours, edges and noise; the last one of few values, as AutoContrast and Equalize see the range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x * 7 + y * 13) % 256], -1)
    noise = rng.integers(0, 256, (height, width, 3))
    image = np.where((x // 5 + y // 3)[..., None] % 2, smooth, noise)
    return (image if seed < 3 else 90 + image // 4).astype(np.uint8)


def write_levels(folder):
    table = {}
    for name, ops in ("plain", timm_aa._RAND_TRANSFORMS), ("increasing", timm_aa._RAND_INCREASING_TRANSFORMS):
        table[name] = {op: [[argument(op, level, sign) for level in LEVELS] for sign in (False, True)]
                       for op in ops if timm_aa.LEVEL_TO_ARG[op] is not None}
    rows = [f'  "{name}": {{\n' + ",\n".join(f'    "{op}": {json.dumps(v)}' for op, v in ops.items()) + "\n  }"
            for name, ops in table.items()]
    (folder / "levels.json").write_text(
        f'{{\n  "levels": {json.dumps(LEVELS)},\n' + ",\n".join(rows) + "\n}\n")


def write_images(folder):
    inputs = [picture(17, 24, 0), picture(13, 13, 1), picture(1, 19, 2), picture(11, 8, 3)]
    tensors = {f"input.{i}": image for i, image in enumerate(inputs)}
    metadata, seen = {}, set()

    def add(case, make):
        key = json.dumps(case)
        if key in seen:
            return
        seen.add(key)
        name = f"case.{len(metadata):03}"
        metadata[name] = key
        tensors[name] = np.ascontiguousarray(make(Image.fromarray(inputs[case["input"]])))

    for op in dict.fromkeys(timm_aa._RAND_TRANSFORMS + timm_aa._RAND_INCREASING_TRANSFORMS + OTHER_OPS):
        geometric = argument_name(op) in ("degrees", "fraction", "pixels") or op.startswith("Shear")
        for i, level, negative in [(0, 3, False), (0, 9, True), (1, 9.6, False), (1, 30, True), (2, 7.4, True),
                                   (3, 9, False), (3, 15, True)]:
            value = argument(op, level, negative)
            if argument_name(op) == "bits" and value is not None and value < 1:
                continue  # Pillow 13 refuses what older ones made black
            case = {"input": i, "op": op}
            if value is not None:
                case[argument_name(op)] = value
            filters = FILTERS if geometric else [None]
            for name in filters:
                kwargs = {}
                if name:
                    case = {**case, "filter": name, "fill": FILL}
                    kwargs = {"resample": FILTERS[name], "fillcolor": tuple(FILL)}
                add(case, lambda im: timm_aa.NAME_TO_OP[op](im, *([] if value is None else [value]), **kwargs))

    adjust = [functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation]
    for i, order, factors in [(0, [0, 1, 2], [0.6, 1.4, 1.3]), (1, [2, 1, 0], [1.37, 0.61, 0.2]),
                              (3, [1, 0, 2], [1.9, 0, 1.1]), (0, [2, 0, 1], [0.7, 1.21, 1.4])]:
        def jitter(im):
            for which in order:
                im = adjust[which](im, factors[which])
            return im
        add({"input": i, "op": "ColorJitter", "factors": factors, "order": order}, jitter)
    add({"input": 0, "op": "Grayscale"}, lambda im: functional.rgb_to_grayscale(im, num_output_channels=3))
    save_file(tensors, folder / "augment.safetensors", metadata)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_levels(target)
    write_images(target)
