"""Small images of many kinds, and beside each the pixels of Pillow's convert("RGB"), as PNG.

decode_test.cpp compares them. Made by Pillow 13.0:  python make_cases.py FOLDER
"""
import io
import struct
import sys
from pathlib import Path

from PIL import Image

W, H = 13, 9


def picture(size=(W, H)):
    im = Image.new("RGB", size)
    im.putdata([(x * 19 % 256, y * 27 % 256, (x * y * 7 + 40) % 256)
                for y in range(size[1]) for x in range(size[0])])
    return im


def saved(im, format, **options):
    out = io.BytesIO()
    im.save(out, format, **options)
    return out.getvalue()


def tiff(tags, blocks, big_endian=False, tiled=False):
    """An uncompressed TIFF: tags {number: (type, values)} and the bytes of its strips or tiles."""
    e = ">" if big_endian else "<"
    size = {2: 1, 3: 2, 4: 4}
    data, offsets = b"", []
    for block in blocks:
        offsets.append(8 + len(data))
        data += block + b"\0" * (len(block) % 2)
    tags = dict(tags)
    tags[324 if tiled else 273] = (4, offsets)
    tags[325 if tiled else 279] = (4, [len(b) for b in blocks])
    at = 8 + len(data)
    entries, extra = b"", b""
    after = at + 2 + 12 * len(tags) + 4
    for number, (kind, values) in sorted(tags.items()):
        packed = struct.pack(e + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            entries += struct.pack(e + "HHII", number, kind, len(values), after + len(extra))
            extra += packed
        else:
            entries += struct.pack(e + "HHI", number, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(e + "I", at)
    return head + data + struct.pack(e + "H", len(tags)) + entries + b"\0" * 4 + extra


def tags(bits, photometric, rows=H, planar=1, extra=(), size=(W, H), **more):
    t = {256: (4, [size[0]]), 257: (4, [size[1]]), 258: (3, bits), 259: (3, [1]),
         262: (3, [photometric]), 277: (3, [len(bits)]), 278: (4, [rows]), 284: (3, [planar])}
    if extra:
        t[338] = (3, list(extra))
    t.update({int(k[1:]): v for k, v in more.items()})
    return t


def tiffs():
    im = picture()
    rgb = im.tobytes()
    grey = im.convert("L")
    planes = [c.tobytes() for c in im.split()]
    for name, mode in [("rgb", "RGB"), ("rgba", "RGBA"), ("grey", "L"), ("grey_alpha", "LA"),
                       ("palette", "P"), ("one_bit", "1"), ("cmyk", "CMYK")]:
        yield f"{name}.tif", saved(im.convert(mode), "TIFF", compression="tiff_lzw")
    for compression in ("raw", "packbits", "tiff_adobe_deflate", "zstd"):
        yield f"{compression}.tif", saved(im, "TIFF", compression=compression)
    yield "predictor.tif", saved(im, "TIFF", compression="tiff_lzw", tiffinfo={317: 2})
    yield "fax.tif", saved(im.convert("1"), "TIFF", compression="group4")
    yield "jpeg.tif", saved(picture((32, 24)), "TIFF", compression="jpeg", quality=90)
    yield "rows.tif", saved(im, "TIFF", compression="tiff_lzw", tiffinfo={278: 2})
    for order in (False, True):
        e, end = (">", "mm") if order else ("<", "ii")
        deep = struct.pack(e + "H" * (W * H), *[(i * 5) % 700 for i in range(W * H)])
        yield f"grey16_{end}.tif", tiff(tags([16], 1), [deep], order)
        deep = struct.pack(e + "H" * (W * H * 3), *[v * 256 + 255 - v for v in rgb])
        yield f"rgb16_{end}.tif", tiff(tags([16] * 3, 2), [deep], order)
    signed = struct.pack("<" + "h" * (W * H), *[i * 5 - 200 for i in range(W * H)])
    yield "grey16_signed.tif", tiff(tags([16], 1, t339=(3, [2])), [signed])
    floats = struct.pack("<" + "f" * (W * H), *[i * 3.7 - 50 for i in range(W * H)])
    yield "float.tif", tiff(tags([32], 1, t339=(3, [3])), [floats])
    ints = struct.pack("<" + "i" * (W * H), *[i * 5 - 200 for i in range(W * H)])
    yield "int32.tif", tiff(tags([32], 1, t339=(3, [2])), [ints])
    yield "white_is_zero.tif", tiff(tags([8], 0), [grey.tobytes()])
    for bits in (2, 4):
        row_bytes = (W * bits + 7) // 8
        rows = bytes((i * 37) % 256 for i in range(row_bytes * H))
        yield f"grey{bits}.tif", tiff(tags([bits], 1), [rows])
        yield f"grey{bits}_white.tif", tiff(tags([bits], 0), [rows])
        colours = [(i * 9091) % 65536 for i in range(3 << bits)]
        yield f"palette{bits}.tif", tiff(tags([bits], 3, t320=(3, colours)), [rows])
    yield "planar.tif", tiff(tags([8] * 3, 2, planar=2), planes)
    yield "planar_rows.tif", tiff(tags([8] * 3, 2, planar=2, rows=5),
                                  [p[a:b] for p in planes for a, b in ((0, 5 * W), (5 * W, None))])
    wide = picture((40, 20))
    boxes = [(x, y, x + 16, y + 16) for y in (0, 16) for x in (0, 16, 32)]
    sides = {"t322": (4, [16]), "t323": (4, [16])}
    tiled = tags([8] * 3, 2, size=(40, 20), **sides)
    del tiled[278]
    yield "tiled.tif", tiff(tiled, [wide.crop(b).tobytes() for b in boxes], tiled=True)
    alpha = im.convert("RGBA")
    alpha.putalpha(grey)
    for name, kind in (("unspecified", 0), ("associated", 1), ("unassociated", 2)):
        yield f"alpha_{name}.tif", tiff(tags([8] * 4, 2, extra=[kind]), [alpha.tobytes()])
    for orientation in range(2, 9):
        yield f"orientation{orientation}.tif", tiff(tags([8] * 3, 2, t274=(3, [orientation])), [rgb])


def bmp_rle(bits, codes, colours, size=(W, H), compression=None):
    palette = b"".join(bytes([c[2], c[1], c[0], 0]) for c in colours)
    at = 54 + len(palette)
    head = b"BM" + struct.pack("<IHHI", at + len(codes), 0, 0, at)
    head += struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, compression or {8: 1, 4: 2}[bits],
                        len(codes), 0, 0, len(colours), 0)
    return head + palette + codes


def bmps():
    colours = [(i * 5 % 256, i * 11 % 256, i * 17 % 256) for i in range(1, 200)]
    runs = b"".join(bytes([5, y, 0, 3, y + 1, y + 2, y + 3, 0, 5, 9, 0, 0]) for y in range(H))
    yield "rle8.bmp", bmp_rle(8, runs + b"\0\1", colours)
    delta = bytes([4, 7, 0, 2, 3, 2, 6, 9, 0, 0]) + bytes([W, 3, 0, 0]) * 5 + bytes([0, 2, 13, 0, W, 8])
    yield "rle8_delta.bmp", bmp_rle(8, delta + b"\0\1", colours)
    long_run = bytes([200, 5, 0, 0]) * H
    yield "rle8_long.bmp", bmp_rle(8, long_run + b"\0\1", colours)
    runs = b"".join(bytes([5, 0x1A, 0, 5, 0x23, 0x45, 0x60, 0, 3, 0xB4, 0, 0]) for y in range(H))
    yield "rle4.bmp", bmp_rle(4, runs + b"\0\1", colours[:16])
    greys = [(i, i, i) for i in range(100)]
    yield "rle8_grey.bmp", bmp_rle(8, bytes([W, 50, 0, 0, W, 150, 0, 0]) * 5 + b"\0\1", greys)
    for name, mode in (("plain", "RGB"), ("palette", "P"), ("one_bit", "1"), ("grey", "L")):
        yield f"{name}.bmp", saved(picture().convert(mode), "BMP")


def lzw(indices, bits=8):
    """GIF codes without compression: a clear code in time keeps their width."""
    out, held, n, clear = bytearray(), 0, 0, 1 << bits

    def put(code):
        nonlocal held, n
        held |= code << n
        n += bits + 1
        while n >= 8:
            out.append(held & 255)
            held >>= 8
            n -= 8
    put(clear)
    for i, index in enumerate(indices):
        put(index)
        if i % ((1 << bits) - 3) == (1 << bits) - 4:
            put(clear)
    put(clear + 1)
    if n:
        out.append(held & 255)
    blocks = b"".join(bytes([len(out[i:i + 255])]) + out[i:i + 255] for i in range(0, len(out), 255))
    return bytes([bits]) + blocks + b"\0"


def gif(screen, frame, indices, colours=None, local=None, transparent=None, interlaced=False):
    def table(c):
        return bytes(v for colour in c for v in colour)

    def size_bits(c):
        return (len(c) - 1).bit_length() - 1 if c else 0
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, (0x80 if colours else 0) | size_bits(colours), 1, 0)
    out += table(colours or [])
    if transparent is not None:
        out += bytes([0x21, 0xF9, 4, 1, 0, 0, transparent, 0])
    flags = (0x80 if local else 0) | (0x40 if interlaced else 0) | size_bits(local)
    out += b"," + struct.pack("<HHHHB", *frame, flags) + table(local or [])
    return out + lzw(indices) + b";"


def gifs():
    colours = [(i * 50 % 256, i * 90 % 256, i * 35 % 256) for i in range(1, 9)]
    others = [(255 - r, g, b) for r, g, b in colours]
    indices = [(x * 3 + y) % 8 for y in range(H) for x in range(W)]
    frame = (2, 3, W, H)
    yield "global.gif", gif((W, H), (0, 0, W, H), indices, colours)
    yield "local.gif", gif((20, 20), frame, indices, colours, others)
    yield "transparent.gif", gif((20, 20), frame, indices, colours, transparent=4)
    yield "interlaced.gif", gif((W, H), (0, 0, W, H), indices, colours, interlaced=True)
    yield "larger_frame.gif", gif((5, 5), frame, indices, colours)
    yield "no_palette.gif", gif((W, H), (0, 0, W, H), [i * 9 for i in indices])
    yield "beyond_palette.gif", gif((W, H), (0, 0, W, H), [i + 3 for i in indices], colours)
    ramp = [(i, i, i) for i in range(8)]
    yield "grey_ramp.gif", gif((W, H), (0, 0, W, H), [i * 9 for i in indices], ramp)
    yield "many_codes.gif", saved(picture((60, 50)).quantize(200), "GIF")
    frames = [picture(), picture().transpose(Image.Transpose.ROTATE_180)]
    yield "animated.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def pnms():
    grey = picture().convert("L").tobytes()
    rgb = picture().tobytes()
    text = " ".join(map(str, grey))
    yield "p1.pbm", b"P1\n# one\n5 2\n1 0 1#x\n10\n01001"
    yield "p2.pgm", f"P2 # a\n{W} {H} # b\n255\n{text}\n".encode()
    yield "p2_100.pgm", f"P2 {W} {H} 100 {' '.join(str(v % 101) for v in grey)}".encode()
    yield "p2_1000.pgm", f"P2 {W} {H} 1000 {' '.join(str(v * 3) for v in grey)}".encode()
    yield "p3.ppm", f"P3\r{W}\r{H}\r255\r{' '.join(map(str, rgb))}".encode()
    yield "p3_7.ppm", f"P3 {W} {H} 7 {' '.join(str(v % 8) for v in rgb)}".encode()
    yield "p4.pbm", b"P4\n13 3\n" + bytes([0xA5, 0xF8, 0x12, 0x38, 0xFF, 0])
    yield "p5.pgm", b"P5 %d %d 255\n" % (W, H) + grey
    yield "p5_100.pgm", b"P5\n#c\n%d %d\n#d\n100\n" % (W, H) + grey
    yield "p5_1000.pgm", b"P5 %d %d 1000\n" % (W, H) + b"".join(struct.pack(">H", v * 4) for v in grey)
    yield "p5_65535.pgm", b"P5 %d %d 65535\n" % (W, H) + b"".join(struct.pack(">H", v * 4) for v in grey)
    yield "p6.ppm", b"P6 %d %d 255\n" % (W, H) + rgb
    yield "p6_31.ppm", b"P6 %d %d 31\n" % (W, H) + bytes(v // 8 for v in rgb)
    yield "p6_65535.ppm", b"P6 %d %d 65535\n" % (W, H) + b"".join(struct.pack(">H", v * 257) for v in rgb)


def pngs():
    whole = saved(picture(), "PNG")
    yield "no_iend.png", whole[:-12]
    yield "part_of_iend.png", whole[:-5]
    deep = Image.new("I;16", (W, H))
    deep.putdata([i * 5 for i in range(W * H)])
    yield "grey16.png", saved(deep, "PNG")
    yield "palette_alpha.png", saved(picture().quantize(16), "PNG", transparency=3)


def webps():
    im = picture((32, 24))
    alpha = im.convert("RGBA")
    alpha.putalpha(im.convert("L"))
    yield "lossy.webp", saved(im, "WEBP", quality=80)
    yield "lossless.webp", saved(im, "WEBP", lossless=True)
    yield "alpha_lossless.webp", saved(alpha, "WEBP", lossless=True, exact=True)
    yield "alpha_lossy.webp", saved(alpha, "WEBP", quality=80)
    frames = [alpha, alpha.transpose(Image.Transpose.ROTATE_180)]
    yield "animated.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:],
                                 lossless=True, background=(200, 100, 50, 255))


def avifs():
    im = picture((32, 24))
    alpha = im.convert("RGBA")
    alpha.putalpha(im.convert("L"))
    yield "plain.avif", saved(im, "AVIF", quality=80)
    yield "grey.avif", saved(im.convert("L"), "AVIF", quality=80)
    yield "alpha.avif", saved(alpha, "AVIF", quality=90, subsampling="4:4:4")
    yield "rotated.avif", saved(im, "AVIF", quality=80, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")


def main():
    folder = Path(sys.argv[1])
    for kind in (tiffs, bmps, gifs, pnms, pngs, webps, avifs):
        for name, data in kind():
            path = folder / name
            path.write_bytes(data)
            try:
                Image.open(path).convert("RGB").save(f"{path}.expected.png")
            except Exception as error:
                print(f"{name}: Pillow: {error!r}")
                path.unlink()


main()
