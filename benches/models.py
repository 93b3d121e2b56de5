"""The tokenizer, the latent action model and the dynamics in PyTorch, built from the sizes that `djinn bench --json` prints.

Each has the layers, the loss and the inference functions of the crate of the same name. Shapes are written with B batch, T frames,
N tokens per frame, D model width, K action codes, V codebook size, L numbers in a latent, P patch side.
"""

import torch
import torch.nn.functional as F
from torch import nn

from layers import blocks, gelu, linear_weight, paired_mask, parameter, patches_of, pictures_of, rms_norm, rotary_angles

ABSOLUTE_ERROR_WEIGHT = 0.1
FLOW_SCALE = 4.0
POSITION_GAIN = 0.5


def frame_size(config):
    return config["frame"]["height"], config["frame"]["width"]


def patch_count(config):
    height, width = frame_size(config)
    return (height // config["patch"]) * (width // config["patch"])


def patch_numbers(config):
    return config["patch"] ** 2 * 3


def centred_patches(frames, config):
    return patches_of(frames, config["patch"]) * 2 - 1


def picture_loss(predicted, frames):
    difference = predicted - frames
    return difference.square().mean() + ABSOLUTE_ERROR_WEIGHT * difference.abs().mean()


class FiniteScalarQuantizer:
    """Rounds each number of a latent to one of a few levels."""

    MARGIN = 1e-3

    def __init__(self, levels):
        levels = torch.tensor(levels, dtype=torch.float64)
        half_range = (levels - 1) * (1 - self.MARGIN) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0).double()
        half = (levels / 2).floor()
        places = torch.cat((torch.ones(1), levels[:-1].cumprod(0)))
        self.half_range, self.offset, self.half, self.places = (
            x.float() for x in (half_range, offset, half, places)
        )
        self.shift = (offset / half_range).atanh().float()
        tokens = torch.arange(int(levels.prod()))[:, None]
        digits = (tokens // places.long()) % levels.long()
        # The vector of every token, [V, L].
        self.codebook = ((digits - half) / half).float()

    def vectors(self, latents):
        """Rounded latents [.., L], with gradients passed straight through."""
        bounded = torch.tanh(latents + self.shift) * self.half_range - self.offset
        return (bounded + (bounded.round() - bounded).detach()) / self.half

    def tokens(self, latents):
        """Tokens [..] of latents [.., L]."""
        digits = (self.vectors(latents) * self.half + self.half).round()
        return (digits * self.places).sum(-1).round().long()


class Coder(nn.Module):
    """A transformer between two linear maps, with a learned position."""

    def __init__(self, width, heads, layers, tokens, inputs, outputs):
        super().__init__()
        self.input = linear_weight(width, inputs)
        self.position = parameter(tokens, width, gain=POSITION_GAIN)
        self.blocks = blocks(width, heads, layers)
        self.norm = parameter(width, value=1.0)
        self.output = linear_weight(outputs, width)
        self.output_bias = parameter(outputs)

    def forward(self, x):
        x = F.linear(x, self.input) + self.position
        for block in self.blocks:
            x = block(x)
        return F.linear(rms_norm(x, self.norm), self.output, self.output_bias).float()


class Tokenizer(nn.Module):
    def __init__(self, config):
        super().__init__()
        if config["temporal_window"] is not None or "Fsq" not in config["quantizer"]:
            raise SystemExit("only tokenizers without temporal attention and with finite scalar quantization are written here")
        self.config = config
        self.quantizer = FiniteScalarQuantizer(config["quantizer"]["Fsq"]["levels"])
        sizes = config["width"], config["heads"]
        tokens, pixels, latent = patch_count(config), patch_numbers(config), self.quantizer.half.numel()
        self.encoder = Coder(*sizes, config["encoder_layers"], tokens, pixels, latent)
        self.decoder = Coder(*sizes, config["decoder_layers"], tokens, latent, pixels)

    def latents(self, frames):
        """Latents [B, T, N, L] of frames [B, T, H, W, 3] with values 0..1."""
        return self.encoder(centred_patches(frames, self.config))

    def pictures(self, vectors):
        """Frames [B, T, H, W, 3] of the quantizer's vectors [B, T, N, L]; not clamped."""
        patches = (self.decoder(vectors) + 1) * 0.5
        return pictures_of(patches, frame_size(self.config), self.config["patch"])

    def encode(self, frames):
        """Tokens [B, T, N] of frames [B, T, H, W, 3]."""
        return self.quantizer.tokens(self.latents(frames))

    def decode(self, tokens):
        """Frames [B, T, H, W, 3] with values 0..1 of tokens [B, T, N]."""
        return self.pictures(F.embedding(tokens, self.quantizer.codebook)).clamp(0, 1)

    def loss(self, frames):
        return picture_loss(self.pictures(self.quantizer.vectors(self.latents(frames))), frames)


class ActionEncoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config["width"]
        self.gain = config["change_gain"]
        self.input = linear_weight(width, 3 * patch_numbers(config))
        self.position = parameter(patch_count(config), width, gain=POSITION_GAIN)
        self.blocks = blocks(width, config["heads"], config["encoder_layers"])
        self.norm = parameter(width, value=1.0)
        self.output = linear_weight(config["action_width"], width)

    def forward(self, before, at, after):
        """Descriptions [B, C, A] of C changes, from the patches of the frame before, at and after each."""
        if self.gain is not None:
            before, after = (before - at) * self.gain, (after - at) * self.gain
        x = F.linear(torch.cat((before, at, after), -1), self.input) + self.position
        for block in self.blocks:
            x = block(x)
        x = F.linear(rms_norm(x, self.norm).mean(2), self.output).float()
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


class Predictor(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        width, actions = config["width"], config["action_width"]
        self.input = linear_weight(width, patch_numbers(config))
        self.action = linear_weight(width, actions)
        self.position = parameter(patch_count(config), width, gain=POSITION_GAIN)
        self.blocks = blocks(width, config["heads"], config["predictor_layers"], condition_width=actions)
        self.norm = parameter(width, value=1.0)
        self.flow = linear_weight(config["flow_cells_per_patch"] ** 2 * 2, width, 0.01)
        self.residual = linear_weight(patch_numbers(config), width, 0.01)
        height, columns = frame_size(config)
        y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(columns)), indexing="ij")
        # Where each pixel reads from without flow, [H, W, 2], and what turns pixels into `grid_sample`'s -1..1.
        self.rest = torch.stack((x, y), -1)
        self.unit = 2 / torch.tensor([columns - 1.0, height - 1.0])

    def forward(self, frames, actions):
        """Guesses [B, T, H, W, 3] of the frames that follow `frames` [B, T, H, W, 3] under `actions` [B, T, A]; not clamped."""
        x = F.linear(centred_patches(frames, self.config), self.input)
        x = x + self.position + F.linear(actions, self.action).unsqueeze(2)
        for block in self.blocks:
            x = block(x, actions)
        x = rms_norm(x, self.norm)
        size = frame_size(self.config)
        residual = pictures_of(F.linear(x, self.residual), size, self.config["patch"])
        return self.warp(frames, F.linear(x, self.flow).float() * FLOW_SCALE) + residual

    def warp(self, frames, flow):
        """Moves the pixels of `frames` [B, T, H, W, 3] along `flow`, whose cells come as patches [B, T, N, cells * cells * 2]."""
        height, width = frame_size(self.config)
        cells = self.config["flow_cells_per_patch"]
        grid = height // self.config["patch"] * cells, width // self.config["patch"] * cells
        flow = pictures_of(flow, grid, cells).flatten(0, 1).permute(0, 3, 1, 2)
        flow = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
        places = (flow.permute(0, 2, 3, 1) + self.rest) * self.unit - 1
        pictures = frames.flatten(0, 1).permute(0, 3, 1, 2)
        moved = F.grid_sample(pictures, places, mode="bilinear", padding_mode="border", align_corners=True)
        return moved.permute(0, 2, 3, 1).reshape(frames.shape)


class LatentActionModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        if "Noisy" not in config["bottleneck"]:
            raise SystemExit("only the noisy bottleneck is written here")
        self.config = config
        self.noise = config["bottleneck"]["Noisy"]["noise"]
        self.encoder = ActionEncoder(config)
        self.codebook = parameter(config["codes"], config["action_width"])
        self.predictor = Predictor(config)

    def describe(self, frames):
        """What happened from each frame but the first and last to the next: [B, T - 2, A] of frames [B, T, H, W, 3]."""
        patches = centred_patches(frames, self.config)
        return self.encoder(patches[:, :-2], patches[:, 1:-1], patches[:, 2:])

    def loss(self, frames):
        """As in training before there are codes: the predictor gets the encoder's numbers and noise."""
        actions = self.describe(frames)
        actions = actions + self.noise * torch.randn_like(actions)
        return picture_loss(self.predictor(frames[:, 1:-1], actions), frames[:, 2:])

    def forecast(self, frames, codes):
        """Guesses [B, T, H, W, 3] (0..1) of the frames that follow `frames` under `codes` [B, T]."""
        return self.predictor(frames, F.embedding(codes, self.codebook)).clamp(0, 1)


class Dynamics(nn.Module):
    def __init__(self, config, codebook, clip_frames):
        """`codebook` holds the quantizer's vectors [V, L]; `clip_frames` are the frames of a training clip."""
        super().__init__()
        if not config["forecast"]:
            raise SystemExit("only dynamics with a forecast are written here")
        self.config = config
        width, vocabulary, latent = config["width"], config["vocabulary"], config["latent_width"]
        self.mask_token, self.no_action = vocabulary, config["codes"]
        # Zeros stand for the mask.
        self.vectors = F.pad(codebook, (0, 0, 0, 1))
        self.tokens = parameter(vocabulary + 1, width, gain=POSITION_GAIN)
        self.vector = linear_weight(width, latent)
        self.actions = parameter(config["codes"] + 1, width, gain=POSITION_GAIN)
        self.position = parameter(patch_count(config) + 1, width, gain=POSITION_GAIN)
        self.forecast_pixels = linear_weight(width, patch_numbers(config))
        self.forecast_latents = linear_weight(width, latent)
        self.blocks = blocks(width, config["heads"], config["layers"], timely=True)
        self.norm = parameter(width, value=1.0)
        self.output = linear_weight(vocabulary, width)
        self.output_bias = parameter(vocabulary)
        self.prior_norm = parameter(width, value=1.0)
        self.prior_hidden = linear_weight(2 * width, width)
        self.prior_output = linear_weight(config["codes"], 2 * width)
        self.head_width = width // config["heads"]
        changes = clip_frames - 1
        # Of the clean frames, and of the masked ones, which are one frame on.
        streams = zip(rotary_angles(0, changes, self.head_width), rotary_angles(1, changes, self.head_width))
        self.angles = tuple(torch.stack(pair) for pair in streams)
        self.mask = paired_mask(changes, config["window"])

    def table(self):
        """What every token enters as, [V + 1, D]."""
        return self.tokens + F.linear(self.vectors, self.vector)

    def embed(self, table, tokens, actions, added):
        """Groups [B, T, N + 1, D] of tokens [B, T, N], each led by the action [B, T]; `added` [B, T, N, D] is put onto the tokens."""
        token = F.embedding(tokens, table)
        if added is not None:
            token = token + added
        action = F.embedding(actions, self.actions).unsqueeze(2)
        return torch.cat((action.to(token.dtype), token), 2) + self.position

    def forecast_embedding(self, pixels, latents):
        """What guesses put onto their frames' tokens, [B, C, N, D], from pixels [B, C, H, W, 3] and latents [B, C, N, L]."""
        patches = centred_patches(pixels, self.config)
        return F.linear(patches, self.forecast_pixels) + F.linear(latents, self.forecast_latents)

    def token_logits(self, x):
        """Logits [B, T, N, V] from the transformer's output [B, T, N + 1, D]."""
        return F.linear(rms_norm(x[:, :, 1:], self.norm), self.output, self.output_bias)

    def prior_logits(self, x):
        """Logits [B, T, K] of the next action from the transformer's output [B, T, N + 1, D]."""
        return F.linear(gelu(F.linear(rms_norm(x[:, :, 0], self.prior_norm), self.prior_hidden)), self.prior_output)

    def training_pass(self, batch):
        """Of each change [B, C]: logits of the tokens of the frame after [B, C, N, V] and of the action [B, C, K]."""
        clips = batch["clean"].shape[0]
        start = torch.full((clips, 1), self.no_action)
        before = torch.cat((start, batch["actions"][:, :-1]), 1)
        added = self.forecast_embedding(batch["pixels"], batch["latents"])
        table = self.table()
        x = torch.cat(
            (
                self.embed(table, batch["clean"], before, None),
                self.embed(table, batch["masked"], batch["actions"], added),
            )
        )
        for block in self.blocks[:-1]:
            x = block.feed_forward(block.attend_paired(x, self.angles, self.mask))
        # As Djinn does, the last feed-forward layer spares the rows that nobody reads.
        x = self.blocks[-1].attend_paired(x, self.angles, self.mask)
        x = self.blocks[-1].feed_forward(torch.cat((x[:clips, :, :1], x[clips:, :, 1:]), 2))
        return self.token_logits(x), self.prior_logits(x)

    def loss(self, batch, prior_weight):
        logits, prior = self.training_pass(batch)
        losses = F.cross_entropy(logits.flatten(0, 2).float(), batch["targets"].flatten(), reduction="none")
        weights = batch["weights"].flatten()
        prior = F.cross_entropy(prior.flatten(0, 1).float(), batch["actions"].flatten())
        return (losses * weights).sum() / weights.sum() + prior_weight * prior

    def step(self, x, angles, caches, slot, visible):
        """One frame x [1, 1, N + 1, D] against the cached past, one cache for each block; its own keys and values go into `slot`."""
        for block, cache in zip(self.blocks, caches):
            x = block.step(x, angles, cache, slot, visible)
        return x


def build(models):
    """The three models, by name, of the sizes in `models`; stops when they differ in size from Djinn's."""
    tokenizer = Tokenizer(models["tokenizer"]["config"])
    built = {
        "tokenizer": tokenizer,
        "latent_actions": LatentActionModel(models["latent_actions"]["config"]),
        "dynamics": Dynamics(
            models["dynamics"]["config"], tokenizer.quantizer.codebook, models["dynamics"]["clip_frames"]
        ),
    }
    for name, model in built.items():
        count, expected = sum(p.numel() for p in model.parameters()), models[name]["parameters"]
        if count != expected:
            raise SystemExit(f"{name}: {count} parameters here, {expected} in Djinn: not the same model")
    return built
