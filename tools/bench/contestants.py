"""Contestants of a comparison: processes that work when it is their turn, so that a noisy machine
is noisy for all of them."""

import datetime
import json
import os
import platform
import queue
import signal
import statistics
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Keeps freed memory in the process (each step allocates the same sizes again) and lets large
# tensors have huge pages. Faster and larger than the stock allocator.
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "THP_MEM_ALLOC_ENABLE": "1",
}

NOTES = []  # what a reader of the figures must know


def note(text):
    NOTES.append(text)
    print(f"note: {text}", file=sys.stderr, flush=True)


def write_json(path, value):
    """Whole or not at all: who is ended may be ended here."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=1) + "\n")
    new.rename(path)


def find_split(data, name):
    """-> DIR/train, or for 'val' also what else sgtrain takes for it."""
    others = ("validation", "valid", "eval", "evaluation", "test") if name == "val" else ()
    for folder in (Path(data) / n for n in (name, *others)):
        if folder.is_dir():
            return folder
    raise RuntimeError(f"{data}: found no folder {name}")


class Budget:
    """Wall-clock seconds for everything; None: no end."""

    def __init__(self, seconds=None):
        self.end = None if seconds is None else time.monotonic() + seconds

    def left(self, kept=0):
        """Seconds until `kept` seconds before the end, or None."""
        return None if self.end is None else max(self.end - kept - time.monotonic(), 0.0)

    def allows(self, seconds):
        return self.end is None or self.left() >= seconds


class Worker:
    """A process of torch_worker.py or of another such script that stays alive between its turns.
    Raises RuntimeError where it fails or takes longer than it may."""

    def __init__(self, name, arguments, threads, tuned=False, limit=None, clock="wall",
                 script="torch_worker.py"):
        self.name, self.samples, self.cpu, self.peak = name, [], [], 0
        self.clock = clock
        env = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=env | TUNED if tuned else env, start_new_session=True)
        self.answers = queue.SimpleQueue()
        threading.Thread(target=self.listen, daemon=True).start()
        try:
            self.about = self.read(limit)
        except BaseException:
            self.kill()
            raise

    def listen(self):
        for line in self.process.stdout:
            if line.startswith("@"):
                self.answers.put(json.loads(line[1:]))
        self.answers.put({"error": f"the process ended with {self.process.wait()}"})

    def read(self, limit):
        try:
            answer = self.answers.get(timeout=limit)
        except queue.Empty:
            raise RuntimeError(f"no answer within {limit:.0f} s") from None
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def turn(self, images, repeats, limit=None):
        """`repeats` steps of `images` images in each request."""
        self.process.stdin.write(f"run {repeats}\n")
        result = self.read(limit)
        images *= self.about.get("requests", 1)
        self.samples += [images / s for s in result[self.clock]]
        self.cpu += [c / w for c, w in zip(result["cpu"], result["wall"])]
        self.peak = max(self.peak, result["peak"])

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # the compiler's helpers too
        except ProcessLookupError:
            pass
        self.process.wait()

    def close(self):
        try:
            self.process.stdin.close()
            self.process.wait(timeout=3)
        except (OSError, subprocess.TimeoutExpired):
            self.kill()


class Sgbench:
    """Our program, started anew in every turn; it repeats by itself and gives its median, which
    `rate` takes from its JSON as images a second."""

    def __init__(self, program, arguments, on_gpu=False, clock="wall", name="ours",
                 rate=lambda about: about["images_per_second"]):
        self.name, self.samples, self.cpu, self.peak = name, [], [], 0
        self.clock = clock
        self.command = [str(program), *arguments, "--json"]
        self.on_gpu, self.rate, self.about = on_gpu, rate, {}

    def turn(self, images, repeats, limit=None):
        begin = time.perf_counter()
        process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        timer = threading.Timer(limit or 0, process.kill)
        if limit is not None:
            timer.start()
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"`{' '.join(self.command)}` ended with {process.returncode}")
        self.about = json.loads(out)
        self.samples.append(self.rate(self.about) if self.clock == "wall"
                            else images / self.about["cpu_seconds"])
        self.cpu.append((usage.ru_utime + usage.ru_stime) / (time.perf_counter() - begin))
        peak = self.about["peak_memory_bytes"] if self.on_gpu else usage.ru_maxrss * 1024
        self.peak = max(self.peak, peak)

    def close(self):
        pass


def our_contestant(program, arguments, **more):
    """-> a list of one, or of none if the program is not built."""
    if not program.exists():
        note(f"{program} is not built; the comparison goes on without it")
        return []
    return [Sgbench(program, arguments, **more)]


def play(contestants, rounds, images, repeats, budget=Budget()):
    """Everyone in turn, `rounds` times, the order reversed in every second round; fewer rounds if
    the budget ends. -> a row a contestant that got to work."""
    try:
        take_turns(contestants, rounds, images, repeats, budget)
    finally:
        for c in contestants:
            c.close()
    return [dict(name=c.name, images_per_second=statistics.median(c.samples),
                 least=min(c.samples), most=max(c.samples), peak_memory_bytes=c.peak,
                 cores_busy=statistics.median(c.cpu),
                 samples=c.samples, about=c.about) for c in contestants if c.samples]


def take_turns(contestants, rounds, images, repeats, budget):
    longest = 0
    for r in range(rounds):
        if not budget.allows(1.2 * longest):
            note(f"the budget ends after {r} of {rounds} rounds")
            return
        begin = time.monotonic()
        for c in list(contestants if r % 2 == 0 else contestants[::-1]):
            print(f"round {r + 1}/{rounds}: {c.name}", file=sys.stderr)
            try:
                c.turn(images, repeats, budget.left())
            except (RuntimeError, OSError, KeyError, json.JSONDecodeError) as e:
                note(f"{c.name} is left out: {e!r}")
                contestants.remove(c)
                c.close()
        longest = max(longest, time.monotonic() - begin)


def find(rows, name):
    return next((r for r in rows if r["name"] == name), None)


def table(rows, memory="peak RSS"):
    ours = find(rows, "ours")
    head = ["", "images/s", "least - most", f"{memory}, MiB", "cores busy"]
    if ours:
        head += ["ours is faster by", "its memory / ours"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for r in rows:
        cells = [r["name"], f"{r['images_per_second']:.4g}", f"{r['least']:.4g} - {r['most']:.4g}",
                 f"{r['peak_memory_bytes'] / 2**20:.0f}",
                 f"{r['cores_busy']:.2f}"]
        if ours:
            cells += [f"{ours['images_per_second'] / r['images_per_second']:.2f}",
                      f"{r['peak_memory_bytes'] / ours['peak_memory_bytes']:.2f}"]
        print("| " + " | ".join(cells) + " |")
    print(flush=True)


def output_of(*command):
    """Standard output of a command, or '' where it fails or is missing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT,
                              timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def version_of(package):
    """Of an installed package, or '' where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def commit():
    """Of this tree, or what scripts/gpu_pack.sh wrote down where it took the tree along."""
    packed = ROOT / "COMMIT"
    if packed.exists():
        return packed.read_text().strip()
    changed = " with changes" if output_of("git", "status", "--porcelain", "-uno") else ""
    return output_of("git", "rev-parse", "--short=12", "HEAD") + changed


def machine():
    """What the figures depend on."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text()
                  .splitlines() if line.startswith("model name")), platform.processor())
    return dict(date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
                cpu=model, cores=len(os.sched_getaffinity(0)), load=os.getloadavg()[0],
                torch=version_of("torch"), onnxruntime=version_of("onnxruntime"),
                openvino=version_of("openvino"),
                python=platform.python_version(),
                commit=commit())
