"""Makes the sounds of this world: sounds/wind.wav and sounds/jump.wav. Pure arithmetic, the same bytes on every run.

    python3 worlds/coinrun/make_sounds.py

Nothing is sampled from anywhere; like the rest of this world the sounds are MIT OR Apache-2.0, and CC0 for who prefers that.
"""

import math
import random
import struct
import wave
from pathlib import Path

FOLDER = Path(__file__).parent / "sounds"


def write(name, rate, samples):
    with wave.open(str(FOLDER / name), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", round(32767 * s)) for s in samples))


def wind(rate=8000, seconds=3):
    """Air: many low tones of random phase. Each has a whole number of periods in the loop, so that the loop has no seam."""
    dice = random.Random(1)
    count = rate * seconds
    tones = []
    for periods in range(60 * seconds, 900 * seconds, 5):
        hertz = periods / seconds
        tones.append((periods, (200 / (200 + hertz)) ** 2, dice.random()))
    # Gusts: the same for every pass of the loop.
    gust = [0.7 + 0.3 * math.sin(2 * math.pi * i / count) * math.sin(4 * math.pi * i / count + 1) for i in range(count)]
    air = [0.0] * count
    for periods, loudness, phase in tones:
        step = 2 * math.pi * periods / count
        start = 2 * math.pi * phase
        for i in range(count):
            air[i] += loudness * math.sin(step * i + start)
    air = [a * g for a, g in zip(air, gust)]
    loudest = max(map(abs, air))
    return rate, [0.9 * a / loudest for a in air]


def jump(rate=22050, seconds=0.18):
    """A short rising blip: a sine with a little of its third and fifth overtone, softly begun and ended."""
    count = int(rate * seconds)
    samples = []
    turn = 0.0
    for i in range(count):
        part = i / count
        turn += 2 * math.pi * (330 + 440 * part ** 0.7) / rate
        begin = min(1.0, i / (0.006 * rate))
        end = (1 - part) ** 1.6
        tone = math.sin(turn) + 0.18 * math.sin(3 * turn) + 0.06 * math.sin(5 * turn)
        samples.append(0.75 * begin * end * tone / 1.15)
    return rate, samples


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    write("wind.wav", *wind())
    write("jump.wav", *jump())
