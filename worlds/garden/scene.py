"""A walled garden in the format of Doom's games, made from arithmetic alone: a map, its pictures and one sound.

It is made so that a small world model can tell from a picture of 64x64 pixels where it is, wherever one walks:

* Walls that stop the player end well below its eyes, with fields beyond, and towers stand in the middle of such walls: no view is
  ever filled by one surface. They are made of light and dark posts, which pass by as one moves or turns before them.
* Hills stand all around, and their colour goes once round the circle of hues: every view tells its direction. The four outer walls
  and the five towers, with what they stand on, differ in colour.
* Everything is painted in large, soft patches, which move with the player but are not noise when they are small.
"""

import io
import math
import struct

import numpy as np
from PIL import Image

SIDE = 1024  # map units, 32 to a metre or so
WALL = 32  # high: too high to step on, and well below the player's eyes, which are at 41
OUTER = 4096  # how far the fields around go, to where they seem to touch the horizon
SKY = 640  # height of the ceiling, which is sky
HILLS = 60  # height in pixels of the panorama
HUES = 16  # of the hills, once around
SOUND_RATE = 22050

# A tower stands in the middle of a base: where, half the base's side, and steps of half the side and height.
TOWERS = {
    "RED": (256, 768, 64, [(28, 220)]),
    "BLUE": (768, 768, 64, [(36, 150)]),
    "GOLD": (768, 256, 64, [(20, 290)]),
    "PLUM": (256, 256, 72, [(44, 96), (22, 180)]),
    "MARBLE": (512, 512, 56, [(12, 130)]),
}
OUTER_WALLS = ["NORTH", "EAST", "SOUTH", "WEST"]


def picture(pixels):
    """PNG of an array [height, width, 3] of colours from 0 to 1."""
    file = io.BytesIO()
    pixels = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def plain(colour, height=64, width=64):
    return np.broadcast_to(np.array(colour, float), (height, width, 3)).copy()


def tower(upper, lower):
    """Wide bands of two colours, one above the other; the columns get darker to one side, which tells left from right."""
    pixels = plain(lower, 512)
    pixels[(np.arange(512) // 96) % 2 == 0] = upper
    return pixels * np.linspace(1.0, 0.8, pixels.shape[1])[None, :, None]


def wall(colour):
    """A wall with a light edge, in lighter and darker posts, so that one sees how one moves before it."""
    posts = np.where(np.arange(64) < 32, 1.2, 0.8)
    pixels = plain(colour) * posts[None, :, None]
    pixels[:6] *= 1.2
    return pixels


def ground():
    """The whole ground, north at the top: a meadow in soft greens, paths, and beds of flowers."""
    y, x = np.mgrid[SIDE - 0.5 : 0 : -1, 0.5:SIDE]
    waves = np.sin(x * (2 * math.pi / 256)) * np.sin(y * (2 * math.pi / 256))
    patches = np.where(np.abs(waves) > 0.5, np.sign(waves), 0)
    pixels = np.array([0.26, 0.51, 0.18]) * (1 + 0.10 * patches)[..., None]
    from_middle = np.hypot(x - SIDE / 2, y - SIDE / 2)
    sand = (np.abs(x - SIDE / 2) < 40) | (np.abs(y - SIDE / 2) < 40) | (from_middle < 150)
    pixels[sand] = [0.80, 0.68, 0.44]
    beds = [
        (512, 830, [0.78, 0.16, 0.16]), (830, 512, [0.90, 0.80, 0.20]),
        (512, 190, [0.55, 0.30, 0.70]), (190, 512, [0.92, 0.90, 0.86]),
    ]  # fmt: skip
    for bed_x, bed_y, colour in beds:
        pixels[np.hypot(x - bed_x, y - bed_y) < 62] = colour
    return pixels


def fields():
    """What lies around the garden: fields in the colours of summer."""
    kinds = np.array([
        [0.62, 0.56, 0.28], [0.36, 0.50, 0.22], [0.50, 0.46, 0.22], [0.44, 0.58, 0.30],
    ])  # fmt: skip
    y, x = np.mgrid[0:SIDE, 0:SIDE] // 128
    return kinds[(3 * x + y + x * y) % 4]


def sky():
    """A panorama of the whole circle: a sun, a few clouds, and hills whose colour tells the direction."""
    height, width = 240, 1024
    y, x = np.mgrid[0:height, 0:width]
    high, low = np.array([0.30, 0.50, 0.84]), np.array([0.74, 0.86, 0.96])
    pixels = high + (low - high) * (y / height)[..., None]
    pixels[np.hypot(x - 225, y - 100) < 24] = [1.0, 0.92, 0.50]
    for cloud_x, cloud_y, size in [(60, 84, 44), (480, 96, 56), (760, 78, 50)]:
        cover = np.clip(1.5 - 2 * np.hypot((x - cloud_x) / 2.2, y - cloud_y) / size, 0, 1)[..., None]
        pixels = pixels * (1 - cover) + np.array([0.96, 0.97, 0.99]) * cover
    around = x * (2 * math.pi / width)
    direction = np.floor(x / width * HUES + 0.5) * (2 * math.pi / HUES)
    hue = np.stack([np.cos(direction - third * 2 * math.pi / 3) for third in range(3)], axis=-1)
    ridge = HILLS * (1 + 0.35 * np.sin(3 * around + 0.6) + 0.25 * np.sin(5 * around + 2.0))
    hills = height - y < ridge
    pixels[hills] = (np.array([0.46, 0.46, 0.46]) + 0.20 * hue)[hills]
    return pixels


def palette(pictures):
    """160 colours of which everything is painted, with the darker shades that the game gives to walls."""
    shades = [pixels.reshape(-1, 3) * shade for pixels in pictures for shade in (1.0, 0.85, 0.7)]
    # As many points of each picture, so that large ones do not take all the colours.
    points = np.concatenate([shade[:: max(1, len(shade) // 4096)][:4096] for shade in shades])
    image = Image.fromarray((np.clip(points, 0, 1) * 255 + 0.5).astype(np.uint8)[None])
    # Where more of the 256 are used, the game shows some as quite another colour.
    colours = image.quantize(160, Image.Quantize.MEDIANCUT, kmeans=8).getpalette()
    return bytes((bytes(3) + bytes(colours))[:768].ljust(768, b"\0"))


def footstep():
    """A dull step on grass in the game's format of sounds: a short fall of filtered noise, over in an eighth of a second."""
    count = SOUND_RATE // 8
    noise = np.random.default_rng(0).standard_normal(count)
    dull = np.convolve(noise, np.hanning(24), mode="same")
    samples = dull * np.exp(-np.arange(count) / (0.018 * SOUND_RATE))
    samples = (samples / np.abs(samples).max() * 100 + 128).astype(np.uint8)
    pad = bytes(16)
    return struct.pack("<HHI", 3, SOUND_RATE, count + 32) + pad + samples.tobytes() + pad


class Map:
    """A map in the text format UDMF: sectors (floors) with squares of lines between them."""

    def __init__(self):
        self.blocks, self.vertices, self.sides, self.sectors = [], 0, 0, 0

    def block(self, kind, **fields):
        def value(v):
            return f'"{v}"' if isinstance(v, str) else str(v).lower()

        self.blocks.append(f"{kind}{{{''.join(f'{k}={value(v)};' for k, v in fields.items())}}}")

    def sector(self, floor, flat, ceiling=SKY):
        self.block(
            "sector", heightfloor=floor, heightceiling=ceiling,
            texturefloor=flat, textureceiling="F_SKY1", lightlevel=255,
        )  # fmt: skip
        self.sectors += 1
        return self.sectors - 1

    def side(self, sector, **textures):
        self.block("sidedef", sector=sector, **textures)
        self.sides += 1
        return self.sides - 1

    def square(self, x, y, half, inside, outside, textures):
        """Lines around (x, y), north first: `outside` is None at the edge of the map; the textures are seen from the lower side."""
        corners = [(-half, half), (half, half), (half, -half), (-half, -half)]
        for dx, dy in corners:
            self.block("vertex", x=float(x + dx), y=float(y + dy))
        first = self.vertices
        self.vertices += 4
        for i, texture in enumerate(textures):
            ends = {"v1": first + i, "v2": first + (i + 1) % 4}
            if outside is None:
                front = self.side(inside, texturemiddle=texture)
                self.block("linedef", **ends, sidefront=front, blocking=True)
            else:
                front = self.side(inside, texturebottom=texture)
                back = self.side(outside, texturebottom=texture)
                self.block("linedef", **ends, sidefront=front, sideback=back, twosided=True)

    def text(self):
        return "\n".join(['namespace="zdoom";', *self.blocks]).encode()


def garden(start):
    """The map, with the player at `start`: x, y and an angle in degrees."""
    made = Map()
    middle = SIDE / 2
    # The sky of the outer wall begins right above it, so that nothing hides the panorama.
    outer = made.sector(WALL, "FIELDS", WALL + 1)
    meadow = made.sector(0, "GROUND")
    made.square(middle, middle, middle + OUTER, outer, None, ["WNORTH"] * 4)
    made.square(middle, middle, middle, meadow, outer, [f"W{side}" for side in OUTER_WALLS])
    for name, (x, y, base, steps) in TOWERS.items():
        around = made.sector(WALL, "HEDGE")
        made.square(x, y, base, around, meadow, [f"B{name}"] * 4)
        for half, height in steps:
            top = made.sector(WALL + height, "HEDGE")
            made.square(x, y, half, top, around, [f"T{name}"] * 4)
            around = top
    x, y, angle = start
    made.block("thing", x=float(x), y=float(y), angle=angle, type=1, **{
        f"skill{i}": True for i in range(1, 6)
    }, single=True)  # fmt: skip
    return made.text()


def is_free(x, y, room=40):
    """Whether a player may stand there, with some room around it."""
    if min(x, y, SIDE - x, SIDE - y) < room:
        return False
    return all(max(abs(x - a), abs(y - b)) > base + room for a, b, base, _ in TOWERS.values())


def pictures():
    return {
        "GROUND": ground(),
        "FIELDS": fields(),
        "HEDGE": plain([0.20, 0.40, 0.16]),
        "WNORTH": wall([0.55, 0.24, 0.16]),
        "WEAST": wall([0.18, 0.40, 0.16]),
        "WSOUTH": wall([0.72, 0.70, 0.68]),
        "WWEST": wall([0.20, 0.30, 0.52]),
        "BRED": wall([0.56, 0.40, 0.38]),
        "BBLUE": wall([0.40, 0.46, 0.58]),
        "BGOLD": wall([0.60, 0.52, 0.34]),
        "BPLUM": wall([0.50, 0.38, 0.52]),
        "BMARBLE": wall([0.62, 0.62, 0.62]),
        "TRED": tower([0.80, 0.12, 0.10], [0.94, 0.90, 0.86]),
        "TBLUE": tower([0.14, 0.22, 0.70], [0.24, 0.42, 0.88]),
        "TGOLD": tower([0.92, 0.76, 0.14], [0.42, 0.30, 0.12]),
        "TPLUM": tower([0.48, 0.18, 0.56], [0.66, 0.34, 0.70]),
        "TMARBLE": tower([0.94, 0.94, 0.94], [0.78, 0.80, 0.84]),
        "GSKY": sky(),
    }


WALKER = b"""
actor Walker : DoomPlayer
{
  Player.ViewHeight 41
  Player.ForwardMove 0.5
  States
  {
  See:
    PLAY A 7 A_PlaySound("walker/step", CHAN_BODY)
    PLAY B 7
    Loop
  }
}
"""
MAP_INFO = b"""
gameinfo { playerclasses = "Walker" }
map MAP01 "Garden" { sky1 = "GSKY" }
"""


class Scene:
    """The garden's files; only where the player begins differs from one archive to the next."""

    def __init__(self):
        painted = pictures()
        self.palette = palette(painted.values())
        self.textures = {name: picture(pixels) for name, pixels in painted.items()}
        self.step = footstep()

    def archive(self, start):
        """A WAD archive with the player at `start`."""
        lumps = [
            ("MAP01", b""), ("TEXTMAP", garden(start)), ("ENDMAP", b""),
            ("PLAYPAL", self.palette), ("MAPINFO", MAP_INFO),
            ("DECORATE", WALKER), ("SNDINFO", b"walker/step GSTEP\n"), ("GSTEP", self.step),
            ("TX_START", b""), *self.textures.items(), ("TX_END", b""),
        ]  # fmt: skip
        body, directory = bytearray(), bytearray()
        for name, content in lumps:
            directory += struct.pack("<ii8s", 12 + len(body), len(content), name.encode())
            body += content
        return struct.pack("<4sii", b"PWAD", len(lumps), 12 + len(body)) + body + directory


def random_start(rng):
    while True:
        x, y = rng.uniform(0, SIDE, 2)
        if is_free(x, y):
            return x, y, math.floor(rng.uniform(0, 360))
