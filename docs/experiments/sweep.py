#!/usr/bin/env python3
"""Train one stage again and again, each time with something else, and print a table.

    python docs/experiments/sweep.py ninja.dataset --stage tokenizer --minutes 3
    python docs/experiments/sweep.py ninja.dataset --stage latent_actions --minutes 2
    python docs/experiments/sweep.py ninja.dataset --stage dynamics --minutes 4 \\
        --run ninja.world.run

Each row is one configuration, trained for the same time on the same machine, so do
nothing else there meanwhile; or, with `--steps` in place of `--minutes`, for the same
number of steps, which is fair among rows whose steps take equally long. The dynamics learns from the frames that a run has
prepared already: its tokenizer, latent actions and frames are taken from `--run`, which
must be of the same dataset. Rows that are done are kept in `--out` and not made again;
what is printed is Markdown.
"""

import argparse
import json
import pathlib
import shutil
import subprocess

# Row, and what of its stage's settings differs from the defaults.
ROWS = {
    "tokenizer": {
        "defaults (64 tokens of 1,000 codes)": "",
        "16 tokens a frame": "model: (patch: 16)",
        "256 tokens a frame, 128 wide": "model: (patch: 4, width: 128, heads: 4)",
        "codebook of 240": "model: (quantizer: Fsq(levels: [8, 6, 5]))",
        "codebook of 4,375": "model: (quantizer: Fsq(levels: [7, 5, 5, 5, 5]))",
        "learned codebook (VQ) of 1,024": "model: (quantizer: Vq(codes: 1024, width: 16))",
        "192 wide": "model: (width: 192, heads: 6)",
        "2 and 4 layers": "model: (encoder_layers: 2, decoder_layers: 4)",
        "temporal attention over 4 frames": "model: (temporal_window: 4), clip_frames: 4, batch: 4",
        "learning rate halved": "learning_rate: 5e-4",
        "weights not averaged": "",
        "adversary from 0.5": "adversarial: (begins: 0.5)",
    },
    "latent_actions": {
        "defaults (changes 16 times, noise 0.2, 8 numbers, 8 codes, batch 32)": "",
        "frames in place of changes": "model: (change_gain: None)",
        "changes 30 times": "model: (change_gain: Some(30))",
        "noise 0.4": "model: (bottleneck: Noisy(noise: 0.4))",
        "noise 0.8": "model: (bottleneck: Noisy(noise: 0.8))",
        "4 numbers": "model: (action_width: 4)",
        "vector quantization (as Genie)": "model: (bottleneck: Vq)",
        "6 codes": "model: (codes: 6)",
        "12 codes": "model: (codes: 12)",
        "batch 16": "batch: 16",
        "2 and 3 layers": "model: (encoder_layers: 2, predictor_layers: 3)",
    },
    "dynamics": {
        "defaults (192 wide, 6 layers, 8 frames)": "",
        "no forecast": "model: (forecast: false)",
        "256 wide, 4 layers": "model: (width: 256, heads: 8, layers: 4)",
        "128 wide, 10 layers": "model: (width: 128, heads: 4, layers: 10)",
        "sees 4 frames": "model: (window: 4), clip_frames: 4, batch: 6",
        "sees 16 frames": "model: (window: 16), clip_frames: 16, batch: 2",
        "past not corrupted": "corruption: 0.0",
        "past corrupted up to 0.3": "corruption: 0.3",
        "0.15 of frames masked wholly": "full_mask_fraction: 0.15",
        "batch 6": "batch: 6",
    },
}

# Rows whose optimizer differs.
OPTIMIZER = {"weights not averaged": "average_decay: 0.0"}

# Figures of the last evaluation that the table shows, and how.
COLUMNS = {
    "tokenizer": [
        ("PSNR", "psnr", "{:.2f} dB"),
        ("edges kept", "edges", "{:.2f}"),
        ("edge error", "edge_error", "{:.2f}"),
        ("codes used", "codes_used", "{:.0f}"),
    ],
    "latent_actions": [
        ("inferred", "psnr", "{:.2f} dB"),
        ("gap", "gap", "{:.2f} dB"),
        ("four frames on", "gap4", "{:.2f} dB"),
        ("mutual information", "nmi", "{:.3f}"),
    ],
    "dynamics": [
        ("cross-entropy", "cross_entropy", "{:.3f}"),
        ("prior", "prior_cross_entropy", "{:.3f}"),
        ("frame 4", "rollout_psnr4", "{:.2f} dB"),
        ("gap there", "rollout_gap4", "{:.2f} dB"),
    ],
}
# What the dynamics begins with.
GIVEN = ["tokenizer.checkpoint.safetensors", "latent_actions.checkpoint.safetensors", "prepared"]
# What a finished world is measured by takes longer than a row, and is not in the table.
EVALUATION = "evaluation: (frames: 64, clips: 4, wish_starts: 0, drift_rollouts: 0)"


def train(args, folder, text, *more, given=None):
    """Trains by the configuration `text` into `folder`, on what the run `given` has, unless that is done; returns the run's folder."""
    run = folder / "try.world.run"
    config = folder / "config.ron"
    if (folder / "done").exists() and config.read_text() == text:
        return run
    shutil.rmtree(folder, ignore_errors=True)
    run.mkdir(parents=True)
    config.write_text(text)
    for name in GIVEN if given else []:
        copy = shutil.copytree if (given / name).is_dir() else shutil.copy
        copy(given / name, run / name)
    command = [
        args.djinn, "train", args.dataset, "--out", folder / "try.world",
        "--config", config, *more,
    ]  # fmt: skip
    with open(folder / "log", "w", encoding="utf-8") as log:
        subprocess.run(list(map(str, command)), check=True, stderr=log, stdout=log)
    if given:
        shutil.rmtree(run / "prepared")
    (folder / "done").touch()
    return run


def evaluations(run, stage):
    """The steps and figures of a stage's evaluations, in order."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    held_out = (x for x in lines if x.get("stage") == stage and x.get("held_out"))
    return [(x["step"], x["figures"]) for x in held_out]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=pathlib.Path)
    parser.add_argument("--stage", choices=ROWS, required=True)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", type=pathlib.Path, help="a finished WORLD.run")
    parser.add_argument("--out", type=pathlib.Path, default="sweep")
    parser.add_argument("--djinn", default="target/release/djinn")
    args = parser.parse_args()
    if args.stage == "dynamics" and not args.run:
        parser.error("the dynamics needs --run")
    columns = COLUMNS[args.stage]
    budget = f"Steps({args.steps})" if args.steps else f"Minutes({args.minutes})"
    print("| " + " | ".join([args.stage, "steps", *(name for name, _, _ in columns)]) + " |")
    print("|---" * (len(columns) + 2) + "|", flush=True)
    for number, (name, row) in enumerate(ROWS[args.stage].items()):
        text = (
            f"(seed: {args.seed}, optimizer: ({OPTIMIZER.get(name, 'average_decay: 0.99')}), {EVALUATION}, "
            f"{args.stage}: (budget: {budget}, evaluations: 2, {row}))\n"
        )
        folder = args.out / f"{args.stage}_{number}"
        given = args.run if args.stage == "dynamics" else None
        run = train(args, folder, text, "--stage", args.stage, given=given)
        step, figures = evaluations(run, args.stage)[-1]
        cells = [form.format(figures[key]) for _, key, form in columns]
        print("| " + " | ".join([name, f"{step:,}", *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
