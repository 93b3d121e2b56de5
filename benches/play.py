"""Play in PyTorch: one frame at a time at batch 1, with a cache of keys and values."""

import torch
import torch._inductor.config
import torch.nn.functional as F

from layers import rotary_angles
from models import patch_count
from modes import choose_attention, milliseconds

WISH_BONUS = 4.0
# Looked up or added, not multiplied with.
TABLES = {"position", "tokens", "actions", "codebook"}


def round_weights(model):
    """Keeps the weights of matrix products as bf16: autocast would round them anew for every frame in inference mode."""
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and name.rsplit(".", 1)[-1] not in TABLES:
            weight.data = weight.data.bfloat16()


class Play:
    """A world in motion. Call it within `torch.inference_mode()` and the mode's autocast."""

    def __init__(self, models, sampler, mode):
        self.tokenizer, self.latent_actions, self.dynamics = (
            models[name] for name in ("tokenizer", "latent_actions", "dynamics")
        )
        self.sampler, self.mode = sampler, mode
        config = self.dynamics.config
        self.window, self.codes, self.tokens = config["window"], config["codes"], patch_count(config)
        head_width = config["width"] // config["heads"]
        # A ring of frames: the present frame's keys and values replace those of the one that has just left the window.
        shape = 2, self.tokens + 1, config["heads"], self.window, head_width
        dtype = torch.bfloat16 if mode.bf16 else torch.float32
        self.caches = [torch.zeros(shape, dtype=dtype) for _ in range(config["layers"])]
        self.table = self.dynamics.table()
        self.compiled_frame = mode.compile(self.frame)
        self.number = 0

    def start(self, picture):
        """Begins with a picture [1, 1, H, W, 3]."""
        self.number = 0
        tokens = self.tokenizer.encode(picture)
        self.prior = self.commit(tokens, torch.tensor([[self.codes]]), *self.place(), visible=1)
        self.picture = self.tokenizer.decode(tokens)
        self.number = 1

    def place(self):
        """Where the next frame stands: its rotary angles and its slot in the ring."""
        return rotary_angles(self.number, 1, self.dynamics.head_width), torch.tensor([self.number % self.window])

    def commit(self, tokens, code, angles, slot, visible):
        """Makes tokens [1, 1, N] part of the past; returns the logits [K] of the next code."""
        x = self.dynamics.embed(self.table, tokens, code, None)
        return self.dynamics.prior_logits(self.dynamics.step(x, angles, self.caches, slot, visible)).flatten()

    def choose(self, prior, bonus):
        """Draws a code [1, 1] from the prior's logits [K] under a wish."""
        return (prior.float() + bonus).softmax(-1).multinomial(1).unsqueeze(0)

    def forecast(self, picture, code):
        """What the guess of the frame after `picture` puts onto its tokens, [1, 1, N, D]."""
        guess = self.latent_actions.forecast(picture, code)
        return self.dynamics.forecast_embedding(guess, self.tokenizer.latents(guess))

    def frame(self, picture, prior, bonus, angles, slot, visible):
        """One frame under a wish: picture [1, 1, H, W, 3], as bytes and as numbers, its code, its tokens and the next prior."""
        code = self.choose(prior, bonus)
        tokens = self.decide(code, self.forecast(picture, code), angles, slot, visible)
        prior = self.commit(tokens, code, angles, slot, visible)
        picture = self.tokenizer.decode(tokens)
        return (picture * 255).round().byte(), picture, code, tokens, prior

    def decide(self, code, added, angles, slot, visible):
        """MaskGIT: tokens [1, 1, N], decided in a few passes, the surest first, each with an equal share of the doubt."""
        steps = self.sampler["steps"]
        tokens = torch.full((1, 1, self.tokens), self.dynamics.mask_token)
        for left in range(steps, 0, -1):
            x = self.dynamics.embed(self.table, tokens, code, added)
            x = self.dynamics.step(x, angles, self.caches, slot, visible)
            drawn, sureness = self.draw(self.dynamics.token_logits(x).float())
            masked = tokens == self.dynamics.mask_token
            if left == 1:
                return torch.where(masked, drawn, tokens)
            noise = self.sampler["choice_noise"] * (left - 1) / steps
            gumbel = -torch.rand_like(sureness).clamp(1e-9, 1 - 1e-7).log().neg().log()
            rank = (sureness.log() + noise * gumbel).masked_fill(~masked, -torch.inf)
            order = rank.argsort(-1, descending=True)
            doubt = (1 - sureness).masked_fill(~masked, 0).gather(-1, order)
            fits = doubt.cumsum(-1) <= doubt.sum(-1, keepdim=True) / left
            fits[..., 0] = True
            decided = torch.zeros_like(masked).scatter(-1, order, fits) & masked
            tokens = torch.where(decided, drawn, tokens)

    def draw(self, logits):
        """Tokens [1, 1, N] from logits [1, 1, N, V], and the probabilities of the likeliest ones."""
        temperature = self.sampler["temperature"]
        if temperature == 0:
            sureness, drawn = logits.softmax(-1).max(-1)
            return drawn, sureness
        probabilities = (logits / temperature).softmax(-1)
        sums = probabilities.cumsum(-1)
        drawn = (sums < torch.rand_like(sums[..., :1]) * sums[..., -1:]).sum(-1)
        return drawn, probabilities.amax(-1)

    def advance(self, bonus):
        """Makes the next frame; returns it as an array of bytes [H, W, 3]."""
        visible = min(self.number + 1, self.window)
        # Compiled for a full window; the first few frames are made without.
        frame = self.compiled_frame if visible == self.window else self.frame
        angles, slot = self.place()
        shown, self.picture, _, _, self.prior = frame(self.picture, self.prior, bonus, angles, slot, visible)
        self.number += 1
        return shown[0, 0].numpy()


class Playing:
    """Frames of play in one mode, under random wishes."""

    def __init__(self, models, sampler, mode, picture):
        self.mode, self.picture = mode, picture
        if mode.bf16:
            for model in models.values():
                round_weights(model)
        # Compiled code may lay the weights out for its products: they do not change.
        with torch._inductor.config.patch(freezing=True), torch.inference_mode(), mode.autocast():
            self.play = Play(models, sampler, mode)
            self.bonuses = WISH_BONUS * F.one_hot(torch.arange(self.play.codes), self.play.codes).float()
            self.warm_up()
            self.attention = choose_attention(models.values(), self.advance)

    def warm_up(self):
        self.play.start(self.picture)
        for _ in range(self.play.window + 2):
            self.advance()

    def advance(self):
        # A wish is held for a few frames.
        return self.play.advance(self.bonuses[self.play.number // 8 * 3 % self.play.codes])

    def measure(self, frames):
        """Milliseconds of each of `frames` frames, after some that fill the window."""
        with torch.inference_mode(), self.mode.autocast():
            self.warm_up()
            return [milliseconds(self.advance) for _ in range(frames)]
