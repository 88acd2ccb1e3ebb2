"""Counts the instructions of the hottest loop of CUDA kernels, in their machine code.

    python tools/bench/sass.py ops/depthwise3x3/depthwise3x3_bwd_cuda.cu \
        --kernel 'backward_kernel<sg::bf16, 2, true, true>' --elements 14 --bytes 6

A source is compiled for --arch with the flags of build/compile_commands.json; a cubin or an object is
taken as it is. Wants c++filt, and cuobjdump on PATH: of the CUDA toolkit, or of PyTorch's Triton
(site-packages/triton/backends/nvidia/bin).

Of each kernel, the innermost loop with the most FFMA is followed along one way from its head back to it:
the one with the most FFMA, then the most STG, the fewest FADD, the most LDG, the fewest instructions. For
depthwise3x3 that is a row in the middle of a map whose gradient is written and not added. What is counted
is issued, taken or not; nothing is measured, and nothing is said of waiting.
"""
import argparse
import collections
import functools
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

CLASSES = [  # the first that matches
    ("FFMA", r"FFMA"), ("FADD, FMUL", r"FADD|FMUL|FMNMX"), ("MUFU", r"MUFU"), ("LDG", r"LDG|LD\."),
    ("STG", r"STG|ST\."), ("LDS", r"LDS"), ("STS", r"STS"), ("local", r"LDL|STL"),
    ("convert", r"F2F|PRMT|SHL|SHF|LOP|IMAD\.U32|IMAD\.SHL"), ("move", r"MOV|IMAD\.MOV|CS2R|SEL"),
    ("address", r"IADD|IMAD|LEA|VIADD|IABS|R2UR"), ("uniform", r"U[A-Z]|LDC|S2"),
    ("branch, predicate, barrier", r"")]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def compile_source(source, arch, folder):
    entries = json.loads(pathlib.Path("build/compile_commands.json").read_text())
    command = next(e["command"] for e in entries
                   if e["file"] == str(pathlib.Path(source).resolve()) and "nvcc" in e["command"])
    flags = [f for f in shlex.split(command) if f != "-c" and not f.startswith("--generate-code")]
    while not flags[0].endswith("nvcc"):  # a compiler cache
        flags.pop(0)
    out = flags[flags.index("-o") + 1] = f"{folder}/kernel.cubin"
    run(*flags, "-cubin", f"-arch={arch}")
    return out


def kernels_of(binary):
    """Name, (registers, stack, shared memory) and code: (address, predicate, opcode, target of a jump)."""
    usage = {m[1]: [int(v) for v in m.groups()[1:]] for m in re.finditer(
        r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)", run("cuobjdump", "-res-usage", binary))}
    for part in re.split(r"\n\s*Function : ", run("cuobjdump", "-sass", binary))[1:]:
        name = part.split("\n", 1)[0].strip()
        yield run("c++filt", name).strip(), usage[name], [
            (int(m[1], 16), m[2], m[3], int(m[4].split()[-1], 16) if m[3] == "BRA" else None)
            for m in re.finditer(r"/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+ )?\s*([A-Z][\w.]*)([^;]*);", part)]


def hot_path(code):
    """Opcodes of one turn of the loop with the most FFMA."""
    index = {a: i for i, (a, *_) in enumerate(code)}
    loops = {}
    for i, (address, _, op, target) in enumerate(code):
        if target is not None and target < address:
            loops[index[target]] = i  # the last jump back to a head ends its loop
    if not loops:
        return []
    sys.setrecursionlimit(10 * len(code) + 1000)

    def weight(i):
        op = code[i][2]
        return op.startswith("FFMA"), op.startswith("STG"), -op.startswith("FADD"), op.startswith("LDG"), -1

    def best_turn(head, last):
        @functools.cache
        def best(i):  # (weight, next) from instruction i back to the head
            _, predicated, op, target = code[i]
            ways = []
            if predicated or (target is None and op != "EXIT"):
                ways.append(i + 1)
            if target is not None:
                ways.append(index[target])
            options = []
            for way in ways:
                if way == head:
                    options.append(((0, 0, 0, 0, 0), None))
                elif i < way <= last and best(way):
                    options.append((best(way)[0], way))
            if not options:
                return None
            w, way = max(options, key=lambda o: o[0])
            return tuple(a + b for a, b in zip(w, weight(i))), way
        return best

    turns = [(best_turn(h, l), h) for h, l in loops.items() if not any(h < o <= l for o in loops)]
    best, i = max((t for t in turns if t[0](t[1])), key=lambda t: t[0](t[1])[0])
    path = []
    while i is not None:
        path.append(code[i][2])
        i = best(i)[1]
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--kernel", default="", help="part of the demangled name")
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--elements", type=int, default=1, help="of a thread and turn of the loop")
    parser.add_argument("--bytes", type=float, help="of device memory an element")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(args.file).suffix in (".cu", ".cpp")
        binary = compile_source(args.file, args.arch, folder) if source else args.file
        for name, (registers, stack, shared), code in kernels_of(binary):
            if args.kernel not in name:
                continue
            path = hot_path(code)
            count = collections.Counter(next(c for c, r in CLASSES if re.match(r, op)) for op in path)
            print(f"{re.sub('>[(].*', '>', name)}: {registers} registers, {stack} bytes of stack, "
                  f"{shared} of shared memory")
            for c, _ in CLASSES:
                if count[c]:
                    print(f"  {count[c] / args.elements:7.2f}  {c}")
            print(f"  {len(path) / args.elements:7.2f}  together")
            if args.bytes and path:
                # An H200: 132 x 128 lanes a cycle at about 1.7 GHz; copies reach about 4.0 TB/s.
                share = 132 * 128 * 1.7e9 * args.elements / len(path) * args.bytes / 4.0e12
                print(f"  {share:7.0%}  of the bandwidth of a copy, were every cycle of an H200 to issue")


if __name__ == "__main__":
    main()
