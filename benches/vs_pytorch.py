"""Compares Djinn's speed with PyTorch's on the same models, sizes and batches, on the CPU.

Install PyTorch (the CPU wheel is enough; `torch.compile` needs a C++ compiler too) and build Djinn, then run:

    pip install torch numpy
    cargo build --release
    python benches/vs_pytorch.py

Timed are a training step (loss, backward pass, clipped gradients, AdamW) of each of the three models and frames of play at batch 1 with a
cache. Djinn and PyTorch take turns within one run, for several rounds, and medians over the rounds are compared: PyTorch's f32 with
`djinn bench --precision f32`, its bf16 autocast with `--precision bf16`. Ratios are above 1 where Djinn is faster.

`--check` first loads the world's weights into the PyTorch models and makes sure that they do what Djinn does. Compiling takes some
minutes at first; `--modes eager_f32,eager_bf16` leaves it out. Run it on a machine that does nothing else.
"""

import argparse
import ctypes
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import torch

import check
from models import build
from modes import MODES, milliseconds
from play import Playing
from training import Training

ROOT = Path(__file__).resolve().parent.parent
STAGES = ["tokenizer", "latent_actions", "dynamics"]
PARTS = [*STAGES, "play"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which Djinn and PyTorch take turns (default: 3)")
    parser.add_argument("--steps", type=int, default=10, help="training steps a round (default: 10)")
    parser.add_argument("--frames", type=int, default=200, help="frames of play a round (default: 200)")
    parser.add_argument("--parts", type=several(PARTS), default=PARTS, help=f"what to time, of {','.join(PARTS)}")
    parser.add_argument("--modes", type=several(MODES), default=list(MODES), help=f"PyTorch modes, of {','.join(MODES)}")
    parser.add_argument("--world", type=Path, default=ROOT / "worlds/coinrun", help="folder of the world whose sizes are used")
    parser.add_argument("--djinn", type=Path, default=ROOT / "target/release/djinn", help="the program")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="PyTorch's threads (default: all cores)")
    parser.add_argument("--check", action="store_true", help="check the PyTorch models against Djinn before timing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    return parser.parse_args()


def several(known):
    """A type of arguments: names out of `known`, separated by commas."""

    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return names

    return parse


def keep_freed_memory():
    """Asks the C library's allocator to keep freed memory, as Djinn does for itself: otherwise large tensors are mapped anew each time."""
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2
    if hasattr(ctypes.CDLL(None), "mallopt"):
        for setting, value in ((mmap_threshold, 1 << 30), (trim_threshold, 2**31 - 1), (top_pad, 64 << 20)):
            ctypes.CDLL(None).mallopt(setting, value)


class Djinn:
    """`djinn bench`."""

    def __init__(self, options):
        self.options = options

    def bench(self, part, precision, steps, frames):
        """What `djinn bench` reports of one part."""
        command = [self.options.djinn, "bench", self.options.world, "--json", "--only", part.replace("_", "-")]
        command += ["--precision", precision, "--steps", str(steps), "--frames", str(frames), "--optimizer", "adamw"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def models(self):
        """Sizes of the world's models."""
        return self.bench("play", "f32", 0, 1)["models"]

    def measure(self, part, precision):
        """The figures of one round, in milliseconds, and the report they are from."""
        report = self.bench(part, precision, self.options.steps, self.options.frames)
        if part == "play":
            return {name: report["frame_ms"][name] for name in ("p50", "p99")}, report
        return {"p50": report["train"][part]["p50_ms"]}, report


class Torch:
    """One part in one of PyTorch's modes."""

    def __init__(self, part, mode, sizes, options):
        self.part, self.options = part, options
        models = build(sizes)
        if part == "play":
            check.load_weights(models, options.world)
            self.runner = Playing(models, sizes["sampler"], mode, check.prompts(options.world)[0])
        else:
            self.runner = Training(part, models[part], sizes[part], mode)

    def measure(self):
        """The figures of one round, in milliseconds."""
        if self.part == "play":
            times = sorted(self.runner.measure(self.options.frames))
            return {name: nearest_rank(times, share) for name, share in (("p50", 0.5), ("p99", 0.99))}
        return {"p50": statistics.median(self.runner.measure(self.options.steps))}


def nearest_rank(ordered, share):
    """The smallest of ordered values that is not exceeded by a share of them, as Djinn has it."""
    return ordered[max(math.ceil(len(ordered) * share), 1) - 1]


def run(options, sizes, djinn):
    """All rounds. Returns lists of figures by part and by what was run, and what Djinn reported last."""
    runners = {}
    for part in options.parts:
        for name in options.modes:
            torch._dynamo.reset()
            print(f"preparing {part}, {name}", file=sys.stderr, flush=True)
            runners[part, name] = Torch(part, MODES[name], sizes, options)
    found, reports = {}, {}
    for number in range(options.rounds):
        for part in options.parts:
            print(f"round {number + 1} of {options.rounds}: {part}", file=sys.stderr, flush=True)
            for precision in sorted({MODES[name].precision for name in options.modes}):
                figures, reports[part, precision] = djinn.measure(part, precision)
                found.setdefault((part, f"djinn_{precision}"), []).append(figures)
            for name in options.modes:
                found.setdefault((part, name), []).append(runners[part, name].measure())
    attention = {f"{part}.{name}": runner.runner.attention for (part, name), runner in runners.items()}
    return found, reports, attention


def medians(found):
    """Medians over the rounds, in milliseconds, by part, figure and what was run."""
    table = {}
    for (part, who), rounds in found.items():
        for figure in rounds[0]:
            row = table.setdefault(part if part != "play" else f"play {figure}", {})
            row[who] = statistics.median(figures[figure] for figures in rounds)
    return table


def ratios(table):
    """How many times faster Djinn is, `{"train": {stage: {mode: ratio}}, "play": {figure: {mode: ratio}}}`."""
    result = {}
    for row, times in table.items():
        group, name = ("play", row.split()[1]) if row.startswith("play ") else ("train", row)
        modes = {mode: times[mode] / times[f"djinn_{MODES[mode].precision}"] for mode in times if mode in MODES}
        result.setdefault(group, {})[name] = modes
    return result


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe_machine(threads, modes):
    """What the figures are from; the rates of large products in PyTorch show whether the machine was free for it."""
    # Only what is asked for: without instructions for bf16 its products take minutes.
    types = dict.fromkeys(MODES[name].dtype for name in modes)
    rates = {str(dtype).removeprefix("torch."): matmul_rate(dtype) for dtype in types}
    capability = torch.backends.cpu.get_cpu_capability()
    known = {"cpu": processor(), "threads": threads, "torch": torch.__version__, "capability": capability}
    return known | {"torch_matmul_gflops": rates, "load": os.getloadavg()[0]}


def matmul_rate(dtype, side=2048):
    """GFLOP/s of the fastest of several large products."""
    x = torch.randn(side, side).to(dtype)
    return 2 * side**3 / min(milliseconds(lambda: x @ x) for _ in range(8)) / 1e6


def show(machine, table, ratio, reports, modes):
    print(f"{machine['cpu']}, {machine['threads']} threads; PyTorch {machine['torch']} ({machine['capability']}), large products at")
    print(", ".join(f"{rate:.0f} GFLOP/s in {dtype}" for dtype, rate in machine["torch_matmul_gflops"].items()))
    if machine["load"] > 0.5:
        print(f"note: the machine was busy with other work at the start (load {machine['load']:.1f}); the figures cannot be relied on")
    for (part, precision), report in reports.items():
        if report["precision"] != precision:
            print(f"note: {part} was asked for in {precision}, but Djinn ran it in {report['precision']}")
    who = sorted({name for times in table.values() for name in times if name not in MODES}) + list(modes)
    width = max(len(name) for name in who) + 1
    print("\nmilliseconds (medians over the rounds)")
    print(f"{'':<16}" + "".join(f"{name:>{width}}" for name in who))
    for row, times in table.items():
        print(f"{row:<16}" + "".join(f"{times[name]:>{width}.2f}" for name in who))
    print("\nhow many times faster Djinn is, in the same precision")
    print(f"{'':<16}" + "".join(f"{name:>{width}}" for name in modes))
    for group in ratio.values():
        for row, by_mode in group.items():
            label = f"play {row}" if group is ratio.get("play") else row
            print(f"{label:<16}" + "".join(f"{by_mode[name]:>{width}.2f}" for name in modes))
    for (part, precision), report in reports.items():
        for stage, speed in (report["train"] or {}).items():
            print(f"{stage} in {precision}: {speed['share_of_peak']:.0%} of Djinn's f32 matmul peak, {report['matmul_gflops']:.0f} GFLOP/s")


def main():
    options = arguments()
    if not options.djinn.exists():
        raise SystemExit(f"{options.djinn} is missing: run `cargo build --release`, or say where it is with --djinn")
    keep_freed_memory()
    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    machine = describe_machine(options.threads, options.modes)
    djinn = Djinn(options)
    sizes = djinn.models()
    if options.check:
        models = build(sizes)
        check.load_weights(models, options.world)
        check.check(models, options.world, options.djinn)
    found, reports, attention = run(options, sizes, djinn)
    table = medians(found)
    ratio = ratios(table)
    show(machine, table, ratio, reports, options.modes)
    if options.json:
        rounds = {f"{part}.{who}": figures for (part, who), figures in found.items()}
        djinn_reports = {f"{part}.{precision}": report for (part, precision), report in reports.items()}
        result = {"machine": machine, "ratio": ratio, "milliseconds": table, "rounds": rounds}
        result |= {"attention": attention, "djinn": djinn_reports}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
