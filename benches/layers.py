"""Layers of the three models in PyTorch: the counterpart of Djinn's crate `nn`.

Weights have the names and shapes that they have in a world's safetensors files. Shapes are written with B batch, T frames, N tokens per
frame, S positions in a frame, D model width, H heads, W numbers per head, P patch side.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-6
ROTARY_BASE = 100.0


def parameter(*shape, gain=None, value=0.0):
    """A weight: normal with standard deviation `gain`, or constant."""
    start = torch.full(shape, value) if gain is None else torch.randn(shape) * gain
    return nn.Parameter(start)


def linear_weight(outputs, inputs, gain=1.0):
    return parameter(outputs, inputs, gain=gain / math.sqrt(inputs))


def rms_norm(x, weight):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPSILON) * weight.to(x.dtype)


def gelu(x):
    return F.gelu(x, approximate="tanh")


def patches_of(frames, side):
    """Frames [B, T, H, W, C] as patches [B, T, N, P * P * C], row by row."""
    b, t, h, w, c = frames.shape
    split = frames.reshape(b, t, h // side, side, w // side, side * c)
    return split.transpose(3, 4).reshape(b, t, (h // side) * (w // side), side * side * c)


def pictures_of(patches, size, side):
    """The inverse of `patches_of`, for frames of `size` (H, W)."""
    b, t, _, numbers = patches.shape
    h, w = size
    split = patches.reshape(b, t, h // side, w // side, side, numbers // side)
    return split.transpose(3, 4).reshape(b, t, h, w, numbers // side // side)


class Norm(nn.Module):
    """Normalisation before a sub-layer, modulated by a condition [B, T, C] where there is one (FiLM)."""

    def __init__(self, width, condition_width=None):
        super().__init__()
        self.weight = parameter(width, value=1.0)
        if condition_width is not None:
            self.film = linear_weight(2 * width, condition_width, 0.5)

    def forward(self, x, condition):
        normal = rms_norm(x, self.weight)
        if condition is None:
            return normal
        scale, shift = F.linear(condition, self.film).unsqueeze(2).chunk(2, -1)
        return normal * (1 + scale) + shift


def rotary_angles(first, count, head_width):
    """Cosines and sines [count, W / 2] of frames from `first` on, made in double precision."""
    half = head_width // 2
    frequencies = ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(first, first + count, dtype=torch.float64)[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()


def rotate(x, cosines, sines):
    """Turns pairs (i, i + W / 2) of the last dimension."""
    cosines, sines = cosines.to(x.dtype), sines.to(x.dtype)
    low, high = x.chunk(2, -1)
    return torch.cat((low * cosines - high * sines, low * sines + high * cosines), -1)


def attend_by_sdpa(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def attend_by_matmul(q, k, v, mask):
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    return scores.softmax(-1) @ v


ATTENTIONS = {"sdpa": attend_by_sdpa, "matmul": attend_by_matmul}


class Attention(nn.Module):
    """Attention with normalised queries and keys; what attends to what is up to the subclass.

    `attend` is one of `ATTENTIONS`, whichever was found to be the fastest at this layer's sizes.
    """

    def __init__(self, width, heads, residual_gain, condition_width):
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.norm = Norm(width, condition_width)
        self.qkv = linear_weight(3 * width, width)
        self.query_scale = parameter(self.head_width, value=self.head_width**0.25)
        self.key_scale = parameter(self.head_width, value=self.head_width**0.25)
        self.out = linear_weight(width, width, residual_gain)
        self.attend = attend_by_sdpa

    def queries_keys_values(self, x, condition):
        """Queries and keys, normalised, as [B, T, S, 2, H, W], and values [B, T, S, H, W]."""
        qkv = F.linear(self.norm(x, condition), self.qkv)
        # Split, not sliced: the gradients of slices would each be padded with zeros and added.
        qk, v = qkv.unflatten(-1, (3, self.heads, self.head_width)).split((2, 1), -3)
        scales = torch.stack((self.query_scale, self.key_scale)).unsqueeze(1)
        return rms_norm(qk, scales), v.squeeze(-3)

    def finish(self, x, attended):
        return x + F.linear(attended, self.out)


class SpaceAttention(Attention):
    """Every position of a frame attends to every position of the same frame."""

    def forward(self, x, condition=None):
        b, t, s, _ = x.shape
        qk, v = self.queries_keys_values(x, condition)
        q, k = qk.reshape(b * t, s, 2, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        v = v.reshape(b * t, s, self.heads, self.head_width).transpose(1, 2)
        out = self.attend(q, k, v, None)
        return self.finish(x, out.transpose(1, 2).reshape(b, t, s, -1))


class TimeAttention(Attention):
    """A position attends to the same position of past frames, over clean and masked clips or with a cache."""

    def forward(self, x, angles, mask):
        """Clean clips and, after them in the batch, masked ones, one frame on: x [2 * B, T, S, D]. A masked frame sees the clean past and itself."""
        b, t, s, _ = x.shape
        qk, v = self.queries_keys_values(x, None)
        # One problem for each clip and position: its clean frames, then its masked ones.
        qk = qk.unflatten(0, (2, b // 2)).permute(4, 1, 3, 5, 0, 2, 6)  # [2, B, S, H, 2, T, W]
        v = v.unflatten(0, (2, b // 2)).permute(1, 3, 4, 0, 2, 5)  # [B, S, H, 2, T, W]
        q, k = rotate(qk, *angles).reshape(2, b // 2 * s, self.heads, 2 * t, self.head_width)
        v = v.reshape(b // 2 * s, self.heads, 2 * t, self.head_width)
        out = self.attend(q, k, v, mask).reshape(b // 2, s, self.heads, 2, t, self.head_width)
        return self.finish(x, out.permute(3, 0, 4, 1, 2, 5).reshape(b, t, s, -1))

    def step(self, x, angles, cache, slot, visible):
        """One new frame x [1, 1, S, D] against `cache` [2, S, H, window, W] of keys and values, into whose `slot` its own are written."""
        qk, v = self.queries_keys_values(x, None)
        q, k = rotate(qk[0, 0].unsqueeze(3), *angles).unbind(1)  # [S, H, 1, W]
        cache.index_copy_(3, slot, torch.stack((k, v[0, 0].unsqueeze(2))).to(cache.dtype))
        keys, values = cache[:, :, :, :visible]
        out = self.attend(q.to(keys.dtype), keys, values, None)
        return self.finish(x, out.reshape(x.shape))


def paired_mask(frames, window):
    """0 where a row of clean frames and, after them, masked ones that follow each may attend to a column, minus infinity where not, [2 * T, 2 * T]."""
    row, column = torch.arange(frames)[:, None], torch.arange(frames)[None]
    past = (column <= row) & (row - column < window)
    before = (column <= row) & (row + 1 - column < window)
    none = torch.zeros_like(past)
    allowed = torch.cat((torch.cat((past, none), 1), torch.cat((before, row == column), 1)))
    return torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)


class FeedForward(nn.Module):
    def __init__(self, width, residual_gain, condition_width):
        super().__init__()
        self.norm = Norm(width, condition_width)
        self.up = linear_weight(4 * width, width)
        self.down = linear_weight(width, 4 * width, residual_gain)

    def forward(self, x, condition=None):
        return x + F.linear(gelu(F.linear(self.norm(x, condition), self.up)), self.down)


class Block(nn.Module):
    """Attention in space, attention in time where there is a window, feed-forward."""

    def __init__(self, width, heads, layers, timely, condition_width=None):
        super().__init__()
        gain = (3 * layers) ** -0.5
        self.space = SpaceAttention(width, heads, gain, condition_width)
        if timely:
            self.time = TimeAttention(width, heads, gain, condition_width)
        self.feed_forward = FeedForward(width, gain, condition_width)

    def forward(self, x, condition=None):
        return self.feed_forward(self.space(x, condition), condition)

    def attend_paired(self, x, angles, mask):
        """All of the block but its feed-forward layer."""
        return self.time(self.space(x), angles, mask)

    def step(self, x, angles, cache, slot, visible):
        return self.feed_forward(self.time.step(self.space(x), angles, cache, slot, visible))


def blocks(width, heads, layers, timely=False, condition_width=None):
    return nn.ModuleList(Block(width, heads, layers, timely, condition_width) for _ in range(layers))
