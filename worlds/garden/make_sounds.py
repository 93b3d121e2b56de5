"""Makes the sounds of this world: sounds/garden.wav and sounds/step.wav. Pure arithmetic, the same bytes on every run.

    pip install numpy
    python worlds/garden/make_sounds.py

Nothing is sampled from anywhere; like the rest of this world the sounds are MIT OR Apache-2.0, and CC0 for who prefers that.
"""

import wave
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "sounds"
DICE = np.random.default_rng(1)


def write(name, rate, samples):
    FOLDER.mkdir(exist_ok=True)
    with wave.open(str(FOLDER / name), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(32767 * samples).astype("<i2").tobytes())


def breeze(rate, count):
    """Low noise made from whole periods of the loop, so that the loop has no seam."""
    hertz = np.fft.rfftfreq(count, 1 / rate)
    loudness = np.where((hertz > 60) & (hertz < 1200), (150 / (150 + hertz)) ** 2, 0.0)
    turns = np.exp(2j * np.pi * DICE.random(len(hertz)))
    air = np.fft.irfft(loudness * turns, count)
    swell = 1 + 0.3 * np.sin(2 * np.pi * np.arange(count) / count)
    return air / np.abs(air).max() * swell


def bird(rate, low, high, notes):
    """A few short notes, each gliding from one pitch to another."""
    song = []
    for note in range(notes):
        part = np.linspace(0, 1, int(rate * 0.09))
        first, last = (low, high) if note % 2 == 0 else (high, 0.8 * high)
        turn = 2 * np.pi * np.cumsum(first + (last - first) * part**0.6) / rate
        song += [np.sin(turn) * np.sin(np.pi * part) ** 2, np.zeros(int(rate * 0.045))]
    return np.concatenate(song)


def garden(rate=10000, seconds=8):
    """A breeze, and birds at a distance."""
    count = rate * seconds
    samples = 0.35 * breeze(rate, count)
    for begin, low, high, notes, loudness in [
        (0.7, 2600, 3500, 4, 0.30), (2.6, 3100, 4200, 3, 0.16), (3.3, 3100, 4200, 5, 0.20),
        (5.4, 2100, 2700, 2, 0.26), (6.7, 2600, 3500, 3, 0.14),
    ]:  # fmt: skip
        song = bird(rate, low, high, notes)
        at = int(rate * begin)
        samples[at : at + len(song)] += loudness * song
    return rate, 0.9 * samples / np.abs(samples).max()


def step(rate=22050, seconds=0.38):
    """A dull step on grass, and the time until the next one: seven frames in all."""
    count = int(rate * seconds)
    dull = np.convolve(DICE.standard_normal(count), np.hanning(24), mode="same")
    part = np.arange(count) / rate
    samples = dull * np.minimum(1, part / 0.004) * np.exp(-part / 0.022)
    return rate, 0.8 * samples / np.abs(samples).max()


if __name__ == "__main__":
    write("garden.wav", *garden())
    write("step.wav", *step())
