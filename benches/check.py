"""Checks that the PyTorch models are Djinn's: with a world's weights they must do what Djinn does with it."""

import json
import subprocess
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from files import read_png, read_tensors
from modes import MODES
from play import Play

FRAMES = 40
# Rounding may tip a near tie between two tokens; anything that is really different changes many.
LEAST_AGREEMENT = 0.995
LEAST_PSNR = 25.0


def load_weights(models, world):
    """Fills the models with the weights of a world's folder; names and shapes must fit exactly."""
    for name, model in models.items():
        model.load_state_dict(read_tensors(world / f"{name}.safetensors"), strict=True)


def prompts(world):
    """A world's starting frames, [1, 1, H, W, 3] each."""
    return [picture(path) for path in sorted((world / "prompts").glob("*.png"))]


def picture(path):
    return torch.from_numpy(read_png(path)).float().div(255)[None, None]


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


def check(models, world, djinn):
    """Runs all checks on models with the world's weights; stops at the first that fails."""
    with torch.inference_mode():
        check_tokenizer(models["tokenizer"], prompts(world))
        with tempfile.TemporaryDirectory() as folder:
            session = record(djinn, world, Path(folder) / "session")
            check_play(models, *session)
            check_training(models["dynamics"], models, *session)
            check_descriptions(models, *session)


def report(passed, text):
    print(f"{'ok' if passed else 'FAILED'}: {text}", flush=True)
    if not passed:
        raise SystemExit("the PyTorch models are not Djinn's")


def check_tokenizer(tokenizer, pictures):
    found = [psnr(tokenizer.decode(tokenizer.encode(picture)), picture) for picture in pictures]
    mean = sum(found) / len(found)
    report(mean > LEAST_PSNR, f"the tokenizer gives the world's {len(found)} prompts back with {mean:.1f} dB PSNR")


def record(djinn, world, folder):
    """Has Djinn play without chance (one MaskGIT step, temperature 0). Returns the prompt and each frame's code and tokens [N]."""
    settings = ["--headless", "--frames", str(FRAMES), "--seed", "1"]
    settings += ["--steps", "1", "--temperature", "0", "--precision", "f32"]
    subprocess.run([djinn, "play", world, *settings, "--quiet", "--record", folder], check=True, stdout=subprocess.DEVNULL)
    lines = (folder / "actions.jsonl").read_text().splitlines()
    # Other lines tell what happened between frames.
    codes = [line["code"] for line in map(json.loads, lines) if "code" in line]
    return picture(folder / "prompt-000.png"), codes, read_tensors(folder / "tokens.safetensors")["tokens"]


def check_play(models, prompt, codes, tokens):
    """Plays the same codes; each frame follows Djinn's own past, so that one tipped token does not lead elsewhere."""
    play = Play(models, {"steps": 1, "temperature": 0, "choice_noise": 0}, MODES["eager_f32"])
    play.start(prompt)
    equal = 0
    for code, expected in zip(codes, tokens):
        visible, (angles, slot) = min(play.number + 1, play.window), play.place()
        code, expected = torch.tensor([[code]]), expected.view(1, 1, -1)
        decided = play.decide(code, play.forecast(play.picture, code), angles, slot, visible)
        equal += int((decided == expected).sum())
        play.commit(expected, code, angles, slot, visible)
        play.picture = play.tokenizer.decode(expected)
        play.number += 1
    share = equal / tokens.numel()
    report(share > LEAST_AGREEMENT, f"{share:.2%} of the tokens of {len(codes)} frames of play are those that Djinn makes")


def check_training(dynamics, models, prompt, codes, tokens):
    """The training pass over a clip must decide as play does: all tokens masked, the past clean."""
    changes = dynamics.mask.shape[0] // 2
    frames = torch.cat((models["tokenizer"].encode(prompt).view(1, -1), tokens))[: changes + 1].unsqueeze(0)
    clean, after = frames[:, :-1], frames[:, 1:]
    actions = torch.tensor([codes[:changes]])
    pixels = models["latent_actions"].forecast(models["tokenizer"].decode(clean), actions)
    batch = {
        "clean": clean,
        "masked": torch.full_like(clean, dynamics.mask_token),
        "actions": actions,
        "pixels": pixels,
        "latents": models["tokenizer"].latents(pixels),
    }
    logits, prior = dynamics.training_pass(batch)
    share = float((logits.argmax(-1) == after).float().mean())
    report(share > LEAST_AGREEMENT, f"{share:.2%} of the tokens of a training clip are decided as in play")
    loss = float(F.cross_entropy(prior[0], actions[0]))
    report(loss < 2.0, f"the action prior expects the codes that were played: {loss:.2f} nats")


def check_descriptions(models, prompt, codes, tokens):
    """The latent action model's encoder must find the played codes in the pictures far more often than by chance."""
    model = models["latent_actions"]
    frames = models["tokenizer"].decode(tokens.unsqueeze(0))
    described = model.describe(frames)
    found = (described.unsqueeze(2) - model.codebook).square().sum(-1).argmin(-1)[0]
    share = float((found == torch.tensor(codes[2:])).float().mean())
    report(share > 3 / len(model.codebook), f"the encoder finds {share:.0%} of the played codes in the pictures")
