#!/usr/bin/env python3
"""Make video of games that nothing in Djinn was tuned on, to try its defaults.

    pip install "procgen-mirror==0.10.7" "imageio-ffmpeg==0.3.0" "numpy<2" \\
        "setuptools<81" ale-py
    python docs/experiments/other_games.py ninja --out ninja-video      # climber and enduro likewise
    djinn ingest ninja-video --out ninja.dataset --fps 15
    djinn train ninja.dataset --out ninja.world

Ninja and Climber are Procgen's (easy mode, every level once or twice, backgrounds and
all); Enduro is Atari's, every fourth of its sixty frames a second. Each is played by
somebody who presses random keys that suit the game and holds them for a while: no
better player is needed to see whether the defaults work. An episode is one file, with
what was pressed beside it in `.actions.jsonl`, which is used to measure, never to train.
"""

import argparse
import itertools
import json
import multiprocessing
import pathlib
import subprocess

import imageio_ffmpeg
import numpy as np

FPS = 15
SHORTEST = 40
LONGEST = 600
HOLD_FRAMES = (2, 14)

# What is pressed: the game's number, and how often it comes to mind.
PLATFORM = {
    "right": (7, 0.30),
    "right+jump": (8, 0.25),
    "left": (1, 0.15),
    "left+jump": (2, 0.12),
    "jump": (5, 0.10),
    "idle": (4, 0.08),
}
GAMES = {
    "ninja": PLATFORM,
    "climber": PLATFORM,
    "enduro": {
        "gas": (1, 0.45),
        "gas+right": (6, 0.18),
        "gas+left": (7, 0.18),
        "brake": (4, 0.06),
        "idle": (0, 0.13),
    },
}


class Procgen:
    """One level of one of Procgen's games."""

    scale = 4  # each pixel a block, so that video's halved colours lose nothing

    def __init__(self, name, level):
        from procgen import ProcgenGym3Env

        self.env = ProcgenGym3Env(
            num=1, env_name=name, start_level=level, num_levels=1,
            distribution_mode="easy", num_threads=0, rand_seed=level,
        )  # fmt: skip

    def picture(self):
        return self.env.observe()[1]["rgb"][0].copy()

    def step(self, action):
        self.env.act(np.array([action]))
        return bool(self.env.observe()[2][0])


class Atari:
    """A game of Atari's, begun at some moment that the level's number decides."""

    scale = 1

    def __init__(self, name, level):
        import ale_py
        from ale_py import roms

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setInt("random_seed", level)
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.loadROM(roms.get_rom_path(name))
        self.ale.reset_game()
        for _ in range(40 + level % 200):
            self.step(1)

    def picture(self):
        return self.ale.getScreenRGB()

    def step(self, action):
        for _ in range(4):
            self.ale.act(action)
        return self.ale.game_over()


def play(task):
    """Plays one episode; returns its pictures and what was pressed after each."""
    name, level, seed = task
    rng = np.random.default_rng([seed, level])
    game = (Atari if name == "enduro" else Procgen)(name, level)
    actions = GAMES[name]
    share = [share for _, share in actions.values()]
    frames, pressed, left = [game.picture()], [], 0
    while len(frames) < LONGEST:
        if left == 0:
            action = str(rng.choice(list(actions), p=share))
            left = int(rng.integers(*HOLD_FRAMES))
        left -= 1
        if game.step(actions[action][0]):
            break
        pressed.append(action)
        frames.append(game.picture())
    return np.stack(frames), pressed + [None], game.scale


def write(path, frames, pressed, scale):
    big = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = big.shape[1:3]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo",
        "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FPS), "-i", "-",
        "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-crf", "14",
        "-threads", "1", str(path),
    ]  # fmt: skip
    subprocess.run(command, input=big.tobytes(), check=True)
    with open(path.with_suffix(".actions.jsonl"), "w", encoding="utf-8") as file:
        for i, action in enumerate(pressed):
            file.write(json.dumps({"frame": i, "action": action}) + "\n")


def collect(folder, name, first, wanted, seed):
    folder.mkdir(parents=True)
    total = 0
    with multiprocessing.Pool() as pool:
        for level in itertools.count(first, 16):
            tasks = [(name, level + i, seed) for i in range(16)]
            for (_, number, _), episode in zip(tasks, pool.imap(play, tasks)):
                frames, pressed, scale = episode
                if total >= wanted:
                    print(f"{folder}: {total} frames")
                    return
                if len(frames) >= SHORTEST:
                    write(folder / f"{name}_{number:05d}.mp4", frames, pressed, scale)
                    total += len(frames)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("game", choices=GAMES)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--frames", type=int, default=40_000)
    parser.add_argument("--validation-frames", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    collect(args.out / "train", args.game, 0, args.frames, args.seed)
    collect(args.out / "validation", args.game, 50_000, args.validation_frames, args.seed)


if __name__ == "__main__":
    main()
