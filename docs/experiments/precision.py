#!/usr/bin/env python3
"""Train each model in bf16 and in f32 for the same number of steps, and print their held-out figures side by side.

    python docs/experiments/precision.py coinrun.dataset

Everything but the precision and the number of steps is at its default, which are the sizes of CoinRun's world. A second seed shows how much chance alone does. The dynamics learns from the same prepared frames in
both precisions, and so with one seed alone. On a CPU without fast products of bf16 pairs both precisions are the
same. Runs that are done are kept in `--out` and not made again; what is printed is Markdown.
"""

import argparse
import pathlib

from sweep import EVALUATION, evaluations, train

# Each stage's figure that is compared, and its steps.
STAGES = {
    "latent_actions": ("gap", "gap of the latent actions, dB", 400),
    "tokenizer": ("psnr", "PSNR of the tokenizer, dB", 600),
    "dynamics": ("cross_entropy", "cross-entropy of the dynamics, nats", 400),
}
# What is compared with the first run, which is in bf16 with seed 1.
OTHERS = [("F32", 1), ("Bf16", 2)]


def config(seed, precision, factor):
    """A configuration with all stages limited to their steps."""
    stages = ", ".join(
        f"{stage}: (budget: Steps({round(steps * factor)}), evaluations: 6)"
        for stage, (_, _, steps) in STAGES.items()
    )
    return (
        f"(seed: {seed}, precision: {precision}, preparation: (budget_minutes: 2), "
        f"{EVALUATION}, {stages})\n"
    )


def curve(run, stage):
    """The compared figure by step."""
    return {step: figures[STAGES[stage][0]] for step, figures in evaluations(run, stage)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default="precision")
    parser.add_argument("--djinn", default="target/release/djinn")
    parser.add_argument("--factor", type=float, default=1.0, help="multiplies all steps (default: 1)")
    args = parser.parse_args()
    whole = train(args, args.out / "whole", config(1, "Bf16", args.factor))
    for stage, (_, title, _) in STAGES.items():
        curves = {"bf16, seed 1": curve(whole, stage)}
        for precision, seed in OTHERS:
            if stage == "dynamics" and seed != 1:
                continue
            folder = args.out / f"{stage}_{precision}_{seed}"
            given = whole if stage == "dynamics" else None
            text = config(seed, precision, args.factor)
            run = train(args, folder, text, "--stage", stage, given=given)
            curves[f"{precision.lower()}, seed {seed}"] = curve(run, stage)
        steps = sorted(set().union(*curves.values()))
        print(f"| {title}, after step | " + " | ".join(f"{step:,}" for step in steps) + " |")
        print("|---" * (len(steps) + 1) + "|")
        for name, points in curves.items():
            cells = [f"{points[step]:.3f}" if step in points else "" for step in steps]
            print(f"| {name} | " + " | ".join(cells) + " |")
        print(flush=True)


if __name__ == "__main__":
    main()
