"""Training steps in PyTorch: loss, backward pass, clipped gradients, fused AdamW."""

import math

import torch

from modes import choose_attention, milliseconds

LEARNING_RATE = 1e-5
GRADIENT_CLIP = 1.0
BETAS = 0.9, 0.95
WEIGHT_DECAY = 0.01
PRIOR_WEIGHT = 0.5
FULL_MASK_FRACTION = 0.4
CORRUPTION = 0.1


def noise(size, frame):
    """Frames [B, T, H, W, 3] of noise."""
    return torch.rand(size["batch"], frame, size["config"]["frame"]["height"], size["config"]["frame"]["width"], 3)


def dynamics_batch(size):
    """Clips of tokens, codes and forecasts drawn at random, masked and corrupted as in training."""
    config, clips, changes = size["config"], size["batch"], size["clip_frames"] - 1
    count = config["frame"]["height"] // config["patch"] * (config["frame"]["width"] // config["patch"])
    frames = torch.randint(config["vocabulary"], (clips, changes + 1, count))
    before, targets = frames[:, :-1], frames[:, 1:]
    corrupted = torch.rand(before.shape) < CORRUPTION * torch.rand(clips, 1, 1)
    full = torch.rand(clips, changes, 1) < FULL_MASK_FRACTION
    share = torch.where(full, 1.0, torch.cos(math.pi / 2 * torch.rand(clips, changes, 1)))
    hidden = torch.rand(targets.shape) < share
    return {
        "clean": torch.where(corrupted, torch.randint(config["vocabulary"], before.shape), before),
        "masked": targets.masked_fill(hidden, config["vocabulary"]),
        "targets": targets,
        "weights": hidden.float(),
        "actions": torch.randint(config["codes"], (clips, changes)),
        "pixels": noise(size, changes),
        "latents": torch.zeros(clips, changes, count, config["latent_width"]),
    }


class Training:
    """The training step of one model in one mode."""

    def __init__(self, name, model, size, mode):
        self.model, self.mode = model, mode
        if name == "dynamics":
            self.arguments = dynamics_batch(size), PRIOR_WEIGHT
        else:
            self.arguments = (noise(size, size["clip_frames"]),)
        parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.dim() > 1]},
                {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
            ],
            lr=LEARNING_RATE,
            betas=BETAS,
            weight_decay=WEIGHT_DECAY,
            fused=True,
        )
        self.loss = mode.compile(model.loss)
        self.attention = choose_attention([model], self.step)

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        with self.mode.autocast():
            loss = self.loss(*self.arguments)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_CLIP)
        self.optimizer.step()

    def measure(self, steps):
        """Milliseconds of each of `steps` steps, after one that is not counted."""
        self.step()
        return [milliseconds(self.step) for _ in range(steps)]
