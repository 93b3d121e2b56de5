"""The ways in which PyTorch is run: eager or compiled, in f32 or with bf16 autocast, with the fastest attention for each."""

import time
from dataclasses import dataclass

import torch

from layers import ATTENTIONS, SpaceAttention, TimeAttention

# Runs of which the fastest decides between two forms of attention.
TRIES = 8


@dataclass(frozen=True)
class Mode:
    compiled: bool
    bf16: bool

    @property
    def name(self):
        return f"{'compiled' if self.compiled else 'eager'}_{self.precision}"

    @property
    def precision(self):
        return "bf16" if self.bf16 else "f32"

    @property
    def dtype(self):
        return torch.bfloat16 if self.bf16 else torch.float32

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    def compile(self, function):
        return torch.compile(function, dynamic=False) if self.compiled else function


MODES = {mode.name: mode for mode in (Mode(c, b) for c in (False, True) for b in (False, True))}


def milliseconds(run):
    begun = time.perf_counter()
    run()
    return (time.perf_counter() - begun) * 1000


def choose_attention(modules, run):
    """Gives all layers of a kind the form of attention with which `run` is fastest; returns the choices by kind."""
    chosen = {}
    for name, kind in (("space", SpaceAttention), ("time", TimeAttention)):
        layers = [layer for module in modules for layer in module.modules() if isinstance(layer, kind)]
        if layers:
            times = {form: [] for form in ATTENTIONS}
            # The first round compiles and warms up.
            for _ in range(TRIES + 1):
                for form in ATTENTIONS:
                    use(layers, form)
                    times[form].append(milliseconds(run))
            chosen[name] = min(ATTENTIONS, key=lambda form: min(times[form][1:]))
            use(layers, chosen[name])
    return chosen


def use(layers, form):
    for layer in layers:
        layer.attend = ATTENTIONS[form]
