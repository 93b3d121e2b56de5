"""Reads safetensors files and PNG pictures, so that the benchmark needs nothing but PyTorch and NumPy."""

import json
import struct
import zlib

import numpy as np
import torch

TYPES = {"F16": np.float16, "F32": np.float32, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32}


def read_tensors(path):
    """The tensors of a safetensors file by name; floats as f32, integers as i64."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
        kind = np.float32 if entry["dtype"].startswith("F") else np.int64
        tensors[name] = torch.from_numpy(array.astype(kind))
    return tensors


def read_png(path):
    """An 8-bit RGB picture without interlacing, as u8 [H, W, 3]."""
    data, position, body = path.read_bytes(), 8, b""
    while position < len(data):
        (length,), kind = struct.unpack(">I", data[position : position + 4]), data[position + 4 : position + 8]
        chunk = data[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colours, _, _, interlace = struct.unpack(">IIBBBBB", chunk)
            if (depth, colours, interlace) != (8, 2, 0):
                raise ValueError(f"{path}: not an 8-bit RGB picture without interlacing")
        elif kind == b"IDAT":
            body += chunk
        position += 12 + length
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + 3 * width).astype(int)
    above, picture = [0] * (3 * width), []
    for kind, row in zip(rows[:, 0], rows[:, 1:].tolist()):
        for i, value in enumerate(row):
            left, corner = (row[i - 3], above[i - 3]) if i >= 3 else (0, 0)
            row[i] = (value + predicted(kind, left, above[i], corner)) % 256
        picture.append(row)
        above = row
    return np.array(picture, np.uint8).reshape(height, width, 3)


def predicted(kind, left, up, corner):
    """What a PNG filter of some kind expects of a number, from those beside and above it."""
    if kind == 4:
        distances = [abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)]
        return (left, up, corner)[distances.index(min(distances))]
    return (0, left, up, (left + up) // 2)[kind]
