"""Writes detection_cases.json: images, boxes and masks through the training chain of mmdetection.

The chain is written out here with OpenCV, NumPy and pycocotools: pip install opencv-python-headless
pycocotools; then: python make_detection_cases.py > detection_cases.json
Draws are fixed in the file; an image is (7 x + 13 y + 29 c + (x y mod 31)) mod 256.
"""
import json
import random
import sys
import zlib

import cv2
import numpy as np
from pycocotools import mask as rle


def image_of(height, width):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((7 * x + 13 * y + 29 * c + (x * y) % 31) % 256).astype(np.uint8)


def size_within(height, width, long_side, short_side):
    factor = min(long_side / max(height, width), short_side / min(height, width))
    return int(height * float(factor) + 0.5), int(width * float(factor) + 0.5)


class Sample:
    """What mmdetection carries from step to step."""

    def __init__(self, height, width, objects):
        self.image = image_of(height, width)
        self.boxes = np.array([[x, y, x + w, y + h] for (x, y, w, h), _ in objects], np.float32).reshape(-1, 4)
        self.masks = [rle.decode(rle.merge(rle.frPyObjects([p], height, width))) for _, p in objects]
        self.kept = list(range(len(objects)))

    def clip(self):
        height, width = self.image.shape[:2]
        self.boxes[:, 0::2] = np.clip(self.boxes[:, 0::2], 0, width)
        self.boxes[:, 1::2] = np.clip(self.boxes[:, 1::2], 0, height)

    def flip(self):
        width = self.image.shape[1]
        self.image = np.flip(self.image, axis=1)
        flipped = self.boxes.copy()
        flipped[:, 0], flipped[:, 2] = width - self.boxes[:, 2], width - self.boxes[:, 0]
        self.boxes = flipped
        self.masks = [np.flip(m, axis=1) for m in self.masks]

    def resize(self, height, width):
        h, w = self.image.shape[:2]
        self.image = cv2.resize(np.ascontiguousarray(self.image), (width, height), interpolation=cv2.INTER_LINEAR)
        factor = np.array([width / w, height / h, width / w, height / h], dtype=np.float32)
        self.boxes = self.boxes * factor
        self.masks = [cv2.resize(np.ascontiguousarray(m), (width, height), interpolation=cv2.INTER_NEAREST) for m in self.masks]
        self.clip()

    def crop(self, left, top, width, height):
        self.image = self.image[top : top + height, left : left + width]
        self.boxes = self.boxes - np.array([left, top, left, top], dtype=np.float32)
        self.clip()
        good = (self.boxes[:, 2] > self.boxes[:, 0]) & (self.boxes[:, 3] > self.boxes[:, 1])
        self.boxes = self.boxes[good]
        self.masks = [m[top : top + height, left : left + width] for m, g in zip(self.masks, good) if g]
        self.kept = [k for k, g in zip(self.kept, good) if g]

    def result(self):
        return {
            "crc32": zlib.crc32(np.ascontiguousarray(self.image).tobytes()),
            "objects": [
                {
                    "object": k,
                    "box": [float(v) for v in b],
                    "rle": rle.encode(np.asfortranarray(m.astype(np.uint8)))["counts"].decode(),
                }
                for k, b, m in zip(self.kept, self.boxes, self.masks)
            ],
        }


def objects_of(r, height, width):
    objects = []
    for _ in range(r.choice([0, 1, 3, 6])):
        w, h = r.uniform(1, width), r.uniform(1, height)
        x, y = r.uniform(-5, width - w + 5), r.uniform(-5, height - h + 5)
        polygon = [round(v, 2) for _ in range(r.randint(3, 9)) for v in (r.uniform(x, x + w), r.uniform(y, y + h))]
        objects.append(([round(v, 2) for v in (x, y, w, h)], polygon))
    return objects


def main():
    r = random.Random(1)
    cases = []
    for i in range(24):
        height, width = (r.randint(120, 640) for _ in "hw")
        objects = objects_of(r, height, width)
        sample = Sample(height, width, objects)
        case = {"height": height, "width": width, "multi_scale": int(i % 4 != 0), "flip": int(r.random() < 0.5), "crop": None}
        case["objects"] = [{"bbox": b, "polygon": p} for b, p in objects]
        if not case["multi_scale"]:  # resize, then mirror
            case["to"] = size_within(height, width, 1333, 800)
            sample.resize(*case["to"])
            if case["flip"]:
                sample.flip()
        else:
            if case["flip"]:
                sample.flip()
            if i % 4 != 1:
                h, w = size_within(height, width, 1333, r.choice([400, 500, 600]))
                sample.resize(h, w)
                ch, cw = (r.randint(min(s, 384), min(s, 600)) for s in (h, w))
                box = [r.randint(0, w - cw), r.randint(0, h - ch), cw, ch]
                sample.crop(*box)
                case["crop"] = {"of": [h, w], "box": box}
                height, width = ch, cw
            case["to"] = size_within(height, width, 1333, r.randrange(480, 801, 32))
            sample.resize(*case["to"])
        case["expected"] = sample.result()
        cases.append(case)
    json.dump({"cases": cases}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
