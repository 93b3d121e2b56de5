#!/usr/bin/env python3
"""Make gameplay video of CoinRun, with the actions beside it, to learn a world from.

Install (tried with Python 3.11 on Linux):

    pip install "procgen-mirror==0.10.7" "imageio-ffmpeg==0.3.0" "numpy<2" "setuptools<81"

gym3, which procgen-mirror brings, wants imageio-ffmpeg below 0.4, and gym, which
it also brings, does not work with numpy 2; both want pkg_resources, which setuptools
had before version 81. A notice from gym that it is no longer
maintained is harmless. imageio-ffmpeg carries the ffmpeg that is used here.

Use:

    python worlds/coinrun/collect.py --out DIR                 # train/ and validation/ under DIR
    python worlds/coinrun/collect.py --clip DIR/coinrun.mp4    # one short clip, for tests

What is written:

* One episode is one file, `train/level_00012_03.mp4` (level 12, its fourth
  episode), with `train/level_00012_03.actions.jsonl` beside it. Training and
  validation have no level in common.
* The video is 15 frames a second, 256x256: the game's own 64x64 picture (easy mode,
  every other option at its default), each pixel drawn as a 4x4 block, so that
  averaging 4x4 blocks gives the game's picture back. It is H.264, yuv420p, limited
  range, with the BT.601 matrix, and tagged so. All levels look alike: in easy mode
  CoinRun has one background, one kind of wall and one player; only the layout differs.
* Line i of the sidecar is `{"frame": i, "action": "right+jump"}`: the action pressed
  after frame i was seen, whose effect is in frame i+1. The last frame of an episode
  has `"action": null`, because the game never shows the frame its last action led to
  (it goes straight to the next episode).
* Most episodes begin where the wall at the start of their level is out of sight; the
  player walks there first. Levels differ most in their middles.
* An episode ends before the end of its level comes in sight: the coin, and the wall
  behind it that nobody passes. What is learned from it then is a level without an end.
  It also ends when the player dies, and after `--max-episode` frames. An episode of
  fewer than 40 frames is dropped and another level taken in its place.

The player changes its mood every few seconds: it presses on to the right, goes back,
wanders, hops about or stands around, and in each mood presses random keys for as long
as a person would. It tries most of its ideas on a saved copy of the game first and
drops those that die, and sooner or later it jumps when walking does not get it
anywhere. Every choice follows from `--seed`, the level and the episode's number, so a
run can be repeated exactly.
"""

import argparse
import collections
import itertools
import json
import multiprocessing
import pathlib
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
from procgen import ProcgenGym3Env

RESERVED_FROM = 100_000  # levels from here on are kept for evaluation
FPS = 15
SIZE = 64
SCALE = 4
CRF = 11
SHORTEST_EPISODE = 40
LONGEST_EPISODE = 1000  # the game stops here by itself
AT_A_TIME = 16  # episodes
CLIP_FRAMES = 300
CLIP_SHORTEST_EPISODE = 75

# The game's numbers for what is pressed.
ACTIONS = {
    "right": 7,
    "right+jump": 8,
    "left": 1,
    "left+jump": 2,
    "jump": 5,
    "idle": 4,
}
# How often the player is in a mood, and how often it thinks of each action in it.
MOODS = {
    "onward": (0.55, {"right": 0.50, "right+jump": 0.40, "jump": 0.04, "idle": 0.06}),
    "back": (0.12, {"left": 0.55, "left+jump": 0.35, "jump": 0.04, "idle": 0.06}),
    "wander": (0.15, {action: 1 / len(ACTIONS) for action in ACTIONS}),
    "hop": (0.10, {"jump": 0.50, "right+jump": 0.20, "left+jump": 0.15, "idle": 0.15}),
    "rest": (0.08, {"idle": 0.80, "right": 0.10, "left": 0.10}),
}

MOOD_FRAMES = (15, 75)
TAPS = 0.6  # share of actions that are held only briefly
TAP_FRAMES = (1, 8)
HOLD_FRAMES = (6, 30)
CAREFUL = 0.95  # chance that an idea is tried on a copy of the game first
IDEAS = 6  # how many ideas a careful player has before it takes its chances
LOOK_PAST_HOLD = 6  # frames a careful player looks past the end of an idea
PATIENCE = (3, 25)  # frames without progress after which the player jumps
STUCK_CHANGE = 0.15  # a picture that scrolls changes more of its pixels than this
GET_UNSTUCK = {"right+jump": 0.75, "jump": 0.10, "left": 0.08, "left+jump": 0.07}
WALL = 150  # no channel of the wall's pixels is darker than this; all else has one
WALL_WIDTH = 3  # columns at the right edge that are all wall where a level ends
COIN_PIXELS = 2
FROM_THE_START = 0.25  # share of episodes that begin at the start of their level
LONGEST_WALK = 300  # frames in which the player must leave the start behind


class Game:
    """One level of CoinRun."""

    def __init__(self, level):
        self.env = ProcgenGym3Env(
            num=1,
            env_name="coinrun",
            start_level=level,
            num_levels=1,
            distribution_mode="easy",
            num_threads=0,
            rand_seed=0,
        )

    def picture(self):
        return self.env.observe()[1]["rgb"][0].copy()

    def step(self, action):
        """Presses an action for one frame; returns the reward and whether it ended."""
        self.env.act(np.array([ACTIONS[action]]))
        reward, _, first = self.env.observe()
        return float(reward[0]), bool(first[0])

    def survives(self, action, hold):
        """Whether holding the action, then nothing, keeps the player alive."""
        saved = self.env.callmethod("get_state")
        alive = True
        for i in range(hold + LOOK_PAST_HOLD):
            reward, ended = self.step(action if i < hold else "idle")
            if ended:
                alive = reward > 0
                break
        self.env.callmethod("set_state", saved)
        return alive


def end_in_sight(picture):
    """Whether the coin is to be seen, or a wall at the right from top to bottom."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    coin = (red > 200) & (green > 170) & (blue < 60)
    return coin.sum() >= COIN_PIXELS or picture[:, -WALL_WIDTH:].min() > WALL


def start_in_sight(picture):
    """Whether there is a wall at the left from top to bottom."""
    return picture[:, :WALL_WIDTH].min() > WALL


class Player:
    """Presses random actions that suit its mood, and holds each for a while."""

    def __init__(self, rng):
        self.rng = rng
        self.mood_left = 0
        self.action = "idle"
        self.left_to_hold = 0
        self.without_progress = 0
        self.patience = 0

    def saw(self, before, after):
        """Takes note of whether the last action moved the picture."""
        changed = (before != after).any(axis=-1).mean()
        stuck = self.action == "right" and changed < STUCK_CHANGE
        self.without_progress = self.without_progress + 1 if stuck else 0

    def choose(self, game):
        if self.mood_left == 0:
            share = [share for share, _ in MOODS.values()]
            self.feel(self.rng.choice(list(MOODS), p=share))
        stuck = self.without_progress >= self.patience
        if stuck or self.left_to_hold == 0:
            self.action, self.left_to_hold = self.idea(stuck)
            if self.rng.random() < CAREFUL:
                for _ in range(IDEAS):
                    if game.survives(self.action, self.left_to_hold):
                        break
                    self.action, self.left_to_hold = self.idea(stuck)
            self.without_progress = 0
        self.mood_left -= 1
        self.left_to_hold -= 1
        return self.action

    def feel(self, mood):
        self.weights = MOODS[mood][1]
        self.mood_left = self.between(MOOD_FRAMES)
        self.patience = self.between(PATIENCE)

    def idea(self, stuck):
        weights = GET_UNSTUCK if stuck else self.weights
        action = self.rng.choice(list(weights), p=list(weights.values()))
        tap = self.rng.random() < TAPS
        return str(action), self.between(TAP_FRAMES if tap else HOLD_FRAMES)

    def between(self, limits):
        return int(self.rng.integers(limits[0], limits[1] + 1))


def play(level, seed, max_frames):
    """Plays one episode; returns its pictures, its actions and how it ended."""
    game = Game(level)
    rng = np.random.default_rng(seed)
    player = Player(rng)
    picture = game.picture()
    if rng.random() >= FROM_THE_START:
        picture = leave_start(game, player, picture)
    frames, actions, end = [picture], [], "cut"
    while len(frames) < max_frames:
        action = player.choose(game)
        reward, ended = game.step(action)
        if ended:
            end = "coin" if reward > 0 else "death"
            break
        picture = game.picture()
        if end_in_sight(picture):
            end = "end in sight"
            break
        actions.append(action)
        frames.append(picture)
        player.saw(frames[-2], frames[-1])
    actions.append(None)
    game.env.close()
    return np.stack(frames), actions, end


def leave_start(game, player, picture):
    """Walks until the start of the level is out of sight; returns the last picture."""
    for _ in range(LONGEST_WALK):
        if not start_in_sight(picture):
            break
        if player.mood_left == 0:
            player.feel("onward")
        _, ended = game.step(player.choose(game))
        if ended:
            break
        before, picture = picture, game.picture()
        player.saw(before, picture)
    return picture


def play_episode(task):
    """Plays the episode that the arguments of `play` in `task` describe."""
    return play(*task)


def write_video(path, frames):
    side = SIZE * SCALE
    big = frames.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{side}x{side}", "-r", str(FPS),
        "-i", "-",
        "-vf", "scale=flags=neighbor+accurate_rnd+full_chroma_int:"
               "out_color_matrix=bt601:out_range=tv,format=yuv420p",
        "-c:v", "libx264", "-preset", "veryfast", "-crf", str(CRF), "-threads", "1",
        "-colorspace", "smpte170m", "-color_primaries", "bt709", "-color_trc", "bt709",
        "-color_range", "tv",
        "-fflags", "+bitexact", "-movflags", "+faststart", str(path),
    ]  # fmt: skip
    subprocess.run(command, input=big.tobytes(), check=True)


def write_actions(path, actions):
    with open(path, "w", encoding="utf-8") as file:
        for i, action in enumerate(actions):
            file.write(json.dumps({"frame": i, "action": action}) + "\n")


def write(video, frames, actions):
    write_video(video, frames)
    write_actions(video.with_suffix(".actions.jsonl"), actions)


def check_video(path, frames):
    """Decodes a video, shrinks it and says how far it is from the game's pictures."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path),
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
    ]  # fmt: skip
    raw = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    shape = (-1, SIZE, SCALE, SIZE, SCALE, 3)
    decoded = np.frombuffer(raw, np.uint8).reshape(shape).mean(axis=(2, 4))
    if decoded.shape != frames.shape:
        sys.exit(f"{path}: {len(frames)} frames went in, {len(decoded)} came out")
    error = np.mean((decoded - frames) ** 2)
    psnr = 10 * np.log10(255**2 / error)
    print(f"{path.name}: {len(frames)} frames, decoded PSNR {psnr:.1f} dB")


def collect(folder, levels, wanted, seed, max_frames):
    """Plays round after round of all the levels until there are enough frames."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"{folder} is not empty")
    order = np.random.default_rng([seed, len(levels)])
    tasks = (
        (level, [seed, level, episode], max_frames)
        for episode in itertools.count()
        for level in order.permutation(levels).tolist()
    )
    total, lengths = 0, []
    pressed, ends = collections.Counter(), collections.Counter()
    with multiprocessing.Pool() as pool:
        while total < wanted:
            # A few at a time: what is played beyond what is wanted is in vain.
            some = list(itertools.islice(tasks, AT_A_TIME))
            for task, episode in zip(some, pool.map(play_episode, some, chunksize=1)):
                frames, actions, end = episode
                if total >= wanted or len(frames) < SHORTEST_EPISODE:
                    continue
                level, (*_, round_number), _ = task
                video = folder / f"level_{level:05d}_{round_number:02d}.mp4"
                write(video, frames, actions)
                if not lengths:
                    check_video(video, frames)
                total += len(frames)
                lengths.append(len(frames))
                pressed.update(action for action in actions if action)
                ends[end] += 1
            line = f"\r{folder.name}: {len(lengths)} files, {total} of {wanted} frames"
            print(line, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if lengths:
        report(folder.name, lengths, pressed, ends)


def report(name, lengths, pressed, ends):
    share = {action: pressed[action] / sum(pressed.values()) for action in ACTIONS}
    print(
        f"{name}: {len(lengths)} files, {sum(lengths)} frames, "
        f"{np.mean(lengths):.0f} frames an episode "
        f"(median {np.median(lengths):.0f}, longest {max(lengths)})"
    )
    print("  actions: " + ", ".join(f"{a} {s:.1%}" for a, s in share.items()))
    print("  ended by: " + ", ".join(f"{e} {n}" for e, n in ends.most_common()))


def make_clip(video, levels, seed):
    """Writes one short clip of a few training episodes, one after another."""
    video.parent.mkdir(parents=True, exist_ok=True)
    all_frames, all_actions, ends = [], [], collections.Counter()
    left, lengths = CLIP_FRAMES, []
    for level in np.random.default_rng(seed).permutation(levels).tolist():
        frames, actions, end = play(level, [seed, level], left)
        rest = left - len(frames)
        # Neither a short episode, nor one that leaves room only for a short one.
        if len(frames) < CLIP_SHORTEST_EPISODE or 0 < rest < CLIP_SHORTEST_EPISODE:
            continue
        all_frames.append(frames)
        all_actions += actions
        lengths.append(len(frames))
        ends[end] += 1
        left = rest
        if left == 0:
            break
    frames = np.concatenate(all_frames)
    write(video, frames, all_actions)
    check_video(video, frames)
    report(video.name, lengths, collections.Counter(filter(None, all_actions)), ends)


def level_range(text):
    first, _, last = text.partition("-")
    first, last = int(first), int(last or first)
    if not 0 <= first <= last:
        raise argparse.ArgumentTypeError(f"{text} is not a range of levels")
    if last >= RESERVED_FROM:
        raise argparse.ArgumentTypeError(
            f"levels from {RESERVED_FROM} up are reserved for evaluation"
        )
    return range(first, last + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--clip", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--frames", type=int, default=96_000)
    parser.add_argument("--validation-frames", type=int, default=10_000)
    parser.add_argument("--levels", type=level_range, default="1000-9999")
    parser.add_argument("--validation-levels", type=level_range, default="500-599")
    parser.add_argument("--max-episode", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.out and not args.clip:
        parser.error("give --out, --clip or both")
    if not SHORTEST_EPISODE <= args.max_episode <= LONGEST_EPISODE:
        limits = f"{SHORTEST_EPISODE} to {LONGEST_EPISODE}"
        parser.error(f"--max-episode must be from {limits}")
    if set(args.levels) & set(args.validation_levels):
        parser.error("training and validation must not share levels")
    if args.clip:
        make_clip(args.clip, args.levels, args.seed)
    if args.out:
        splits = [
            ("train", args.levels, args.frames),
            ("validation", args.validation_levels, args.validation_frames),
        ]
        for name, levels, wanted in splits:
            collect(args.out / name, levels, wanted, args.seed, args.max_episode)


if __name__ == "__main__":
    main()
