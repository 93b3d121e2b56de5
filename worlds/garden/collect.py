#!/usr/bin/env python3
"""Make first-person video of a walk in a garden (scene.py), with the actions beside it, to learn a world from.

Install (tried with Python 3.11 on Debian):

    apt-get install libopenal1      # the game's sound; without it the video is silent
    pip install "vizdoom==1.3.2" "imageio-ffmpeg==0.8.1" "pillow==13.0.0"

vizdoom is the engine; it brings numpy, and Freedoom (BSD-licensed), of which the garden shows nothing.
imageio-ffmpeg carries the ffmpeg that is used here.

Use:

    python worlds/garden/collect.py --out DIR     # train/ and validation/ under DIR

`--scene health_gathering_supreme` plays that scene of ViZDoom (MIT) with Freedoom's assets instead.

What is written:

* One episode is one file, `train/episode_00012.mp4`, with `train/episode_00012.actions.jsonl`
  beside it. Training and validation have no episode in common.
* The video is 17.5 frames a second, two of the game's tics each, 256x256: the middle of
  a view of 512x384, shrunk to 64x64 by averaging, then each pixel drawn as a 4x4 block.
  It is H.264, yuv420p, limited range, with the BT.601 matrix, and tagged so; the game's
  own sound is beside it as Opus. There is no HUD and no weapon to be seen.
* Line i of the sidecar is `{"frame": i, "action": "forward+left"}`: the action pressed
  after frame i was seen, whose effect is in frame i+1. The last frame of an episode has
  `"action": null`.

The player begins anywhere and changes its mood every few seconds: it explores, looking for
open space, stands and looks around, backs off, keeps pushing against whatever is before it,
or rests. Every choice follows from `--seed` and the episode's number, so a run can be
repeated exactly.
"""

import argparse
import collections
import functools
import itertools
import json
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile
import wave

import imageio_ffmpeg
import numpy as np
import vizdoom

from scene import Scene, random_start

FPS = 17.5
TICS = 2
SIZE = 64
SCALE = 4
CRF = 11
SOUND_RATE = 22050
LONGEST_EPISODE = 400  # frames
SHORTEST_EPISODE = 40
AT_A_TIME = 8  # episodes

BUTTONS = [
    vizdoom.Button.MOVE_FORWARD,
    vizdoom.Button.MOVE_BACKWARD,
    vizdoom.Button.TURN_LEFT_RIGHT_DELTA,
    vizdoom.Button.SPEED,
]
TURN = 1.75  # degrees a tic, half of the game's own: less of each picture is new
# Which of the buttons are held, and by how much the view turns. Whoever walks, runs: a step that moves the ground by less than a pixel
# is taken for standing still.
ACTIONS = {
    "idle": [0, 0, 0, 0],
    "forward": [1, 0, 0, 1],
    "back": [0, 1, 0, 1],
    "left": [0, 0, -TURN, 0],
    "right": [0, 0, TURN, 0],
    "forward+left": [1, 0, -TURN, 1],
    "forward+right": [1, 0, TURN, 1],
}
# How often the player is in a mood, and how often it thinks of each action in it.
# When it explores, it turns by what it sees.
MOODS = {
    "explore": (0.38, {"forward": 0.70, "forward+left": 0.15, "forward+right": 0.15}),
    "look": (0.16, {"left": 0.42, "right": 0.42, "idle": 0.16}),
    "push": (0.08, {"forward": 1.0}),
    "back": (0.26, {"back": 0.80, "left": 0.08, "right": 0.08, "idle": 0.04}),
    "rest": (0.12, {"idle": 0.90, "left": 0.05, "right": 0.05}),
}
MOOD_FRAMES = {
    "explore": (20, 90),
    "look": (10, 45),
    "push": (15, 40),
    "back": (8, 25),
    "rest": (10, 40),
}
HOLD_FRAMES = (2, 14)
NEAR = 7  # depth at which something is in the way; the ground that is seen there is at 13
BACKS_OFF = 0.25  # chance that a player whose way is blocked goes backwards before it turns
CHANGES_ITS_MIND = 0.25  # chance that an exploring player turns the other way


@functools.cache
def garden():
    return Scene()


class Game:
    """One scene on its own seed: the garden, or one that comes with ViZDoom."""

    def __init__(self, scene, rng):
        game = vizdoom.DoomGame()
        self.files = tempfile.TemporaryDirectory()
        files = pathlib.Path(self.files.name)
        game.set_doom_config_path(str(files / "vizdoom.ini"))
        if scene == "garden":
            archive = files / "garden.wad"
            archive.write_bytes(garden().archive(random_start(rng)))
            game.set_doom_scenario_path(str(archive))
            game.set_doom_map("map01")
        else:
            game.load_config(str(pathlib.Path(vizdoom.scenarios_path) / f"{scene}.cfg"))
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_512X384)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_depth_buffer_enabled(True)
        game.set_audio_buffer_enabled(True)
        game.set_audio_sampling_rate(vizdoom.SamplingRate.SR_22050)
        game.set_audio_buffer_size(TICS)
        game.set_window_visible(False)
        for what in [
            "hud", "weapon", "crosshair", "decals", "particles", "effects_sprites",
            "messages", "corpses", "screen_flashes",
        ]:  # fmt: skip
            getattr(game, f"set_render_{what}")(False)
        game.set_available_buttons(BUTTONS)
        game.set_available_game_variables([])
        game.set_episode_timeout(10 * TICS * LONGEST_EPISODE)
        game.set_seed(int(rng.integers(1 << 30)))
        # OpenAL's echo, which these scenes do not have, can end the program.
        game.add_game_args("+sv_cheats 1 +snd_efx 0 +movebob 0")
        game.init()
        game.new_episode()
        # Some of ViZDoom's floors hurt, and nobody walks far on them.
        game.send_game_command("god")
        self.game = game

    def see(self):
        """The picture, the depths of what is before the player, and the sound since the last time."""
        state = self.game.get_state()
        height, width = state.screen_buffer.shape[:2]
        left = (width - height) // 2
        square = state.screen_buffer[:, left : left + height]
        block = height // SIZE
        blocks = square.reshape(SIZE, block, SIZE, block, 3)
        picture = (blocks.sum(axis=(1, 3), dtype=np.uint32) // block**2).astype(np.uint8)
        return picture, state.depth_buffer, state.audio_buffer.copy()

    def step(self, action):
        """Presses an action for one frame; returns whether that ended the episode."""
        self.game.make_action(ACTIONS[action], TICS)
        return self.game.is_episode_finished()


class Player:
    """Presses random actions that suit its mood, and holds each for a while."""

    def __init__(self, rng):
        self.rng = rng
        self.mood_left = 0
        self.left_to_hold = 0
        self.action = "idle"

    def choose(self, depth):
        if self.mood_left == 0:
            share = [share for share, _ in MOODS.values()]
            self.mood = str(self.rng.choice(list(MOODS), p=share))
            self.mood_left = self.between(MOOD_FRAMES[self.mood])
            self.left_to_hold = 0
        blocked = self.mood == "explore" and self.is_blocked(depth)
        getting_away = self.action in ("left", "right", "back")
        if self.left_to_hold == 0 or (blocked and not getting_away):
            self.action = self.get_away(depth) if blocked else self.idea()
            self.left_to_hold = self.between(HOLD_FRAMES)
        self.mood_left -= 1
        self.left_to_hold -= 1
        return self.action

    def idea(self):
        weights = MOODS[self.mood][1]
        return str(self.rng.choice(list(weights), p=list(weights.values())))

    def is_blocked(self, depth):
        return self.thirds(depth)[1] < NEAR

    def get_away(self, depth):
        if self.rng.random() < BACKS_OFF:
            return "back"
        left, _, right = self.thirds(depth)
        to_the_left = left > right
        if self.rng.random() < CHANGES_ITS_MIND:
            to_the_left = not to_the_left
        return "left" if to_the_left else "right"

    @staticmethod
    def thirds(depth):
        height, width = depth.shape
        # Well below the horizon, where a low wall is seen when it is near, and before that the ground.
        middle = depth[height * 3 // 4 : height * 5 // 6].astype(float)
        return [part.mean() for part in np.array_split(middle, 3, axis=1)]

    def between(self, limits):
        return int(self.rng.integers(limits[0], limits[1] + 1))


def play(task):
    """Plays one episode; returns its pictures, sound and actions."""
    scene, seed, number = task
    rng = np.random.default_rng([seed, number])
    game, player = Game(scene, rng), Player(rng)
    picture, depth, _ = game.see()
    frames, sound, actions = [picture], [], []
    while len(frames) < LONGEST_EPISODE:
        action = player.choose(depth)
        if game.step(action):
            break
        picture, depth, heard = game.see()
        actions.append(action)
        frames.append(picture)
        sound.append(heard)
    actions.append(None)
    game.game.close()
    # A frame is heard while it is seen: the first one, before anything happened, in silence.
    sound.insert(0, np.zeros((TICS * SOUND_RATE // 35, 2), np.int16))
    return np.stack(frames), np.concatenate(sound), actions


def write_video(path, frames, sound):
    side = SIZE * SCALE
    big = frames.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        with wave.open(file, "wb") as track:
            track.setnchannels(2)
            track.setsampwidth(2)
            track.setframerate(SOUND_RATE)
            track.writeframes(sound.tobytes())
        file.flush()
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{side}x{side}", "-r", str(FPS),
            "-i", "-", "-i", file.name,
            "-vf", "scale=flags=neighbor+accurate_rnd+full_chroma_int:"
                   "out_color_matrix=bt601:out_range=tv,format=yuv420p",
            "-c:v", "libx264", "-preset", "veryfast", "-crf", str(CRF), "-threads", "1",
            "-colorspace", "smpte170m", "-color_primaries", "bt709", "-color_trc", "bt709",
            "-color_range", "tv", "-c:a", "libopus", "-b:a", "64k", "-ar", "48000",
            "-fflags", "+bitexact", "-movflags", "+faststart", str(path),
        ]  # fmt: skip
        subprocess.run(command, input=big.tobytes(), check=True)


def write_actions(path, actions):
    with open(path, "w", encoding="utf-8") as file:
        for i, action in enumerate(actions):
            file.write(json.dumps({"frame": i, "action": action}) + "\n")


def collect(folder, scene, seed, numbers, wanted):
    """Plays episodes, numbered so, until there are enough frames."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"{folder} is not empty")
    tasks = ((scene, seed, number) for number in numbers)
    lengths, pressed = [], collections.Counter()
    with multiprocessing.Pool() as pool:
        while sum(lengths) < wanted:
            some = list(itertools.islice(tasks, AT_A_TIME))
            for task, episode in zip(some, pool.imap(play, some)):
                frames, sound, actions = episode
                if sum(lengths) >= wanted or len(frames) < SHORTEST_EPISODE:
                    continue
                video = folder / f"episode_{task[-1]:05d}.mp4"
                write_video(video, frames, sound)
                write_actions(video.with_suffix(".actions.jsonl"), actions)
                lengths.append(len(frames))
                pressed.update(action for action in actions if action)
            line = f"\r{folder.name}: {sum(lengths)} of {wanted} frames"
            print(line, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    share = {action: pressed[action] / sum(pressed.values()) for action in ACTIONS}
    print(f"{folder.name}: {len(lengths)} files, {sum(lengths)} frames")
    print("  actions: " + ", ".join(f"{a} {s:.1%}" for a, s in share.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", required=True)
    parser.add_argument("--scene", default="garden")
    parser.add_argument("--frames", type=int, default=110_000)
    parser.add_argument("--validation-frames", type=int, default=6_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name, first, wanted in [
        ("train", 0, args.frames),
        ("validation", 100_000, args.validation_frames),
    ]:
        numbers = itertools.count(first)
        collect(args.out / name, args.scene, args.seed, numbers, wanted)


if __name__ == "__main__":
    main()
