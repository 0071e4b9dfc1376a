"""The peer of the RWKV-CLIP bench: both towers in eager PyTorch, float32 on the CPU.

    rwkv_clip_torch.py MODE [--config FILE] [--batch 8] [--threads 2] [--seconds 3]
                            [--wkv chunked|seq] [--fused] [--parity FOLDER]

MODE is one of
    image    a forward pass of the image tower, without gradients
    text     a forward pass of the text tower, always over the whole context, without gradients
    step     a training step: both towers, the loss, backward, clip, AdamW, without drop path
    parity   compares features, loss and gradients with the tensors in FOLDER

Weights and inputs are random. A FILE has the field names of the official model_config; without one
it is B/32. The timed modes warm up twice and print one line of JSON; parity fails if a difference
is too large. The names of the parameters are those of the official checkpoints.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path

# Threads that spin while they wait take the cores from whoever shares the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import torch.nn.functional as F
from torch import nn

B32 = {
    "input_size": 224,
    "image_depth": 12,
    "image_embed_dims": 640,
    "image_patch_size": 32,
    "image_hidden_rate": 5,
    "image_num_heads": 8,
    "ctx_len": 77,
    "vocab_size": 49408,
    "head_size": 64,
    "head_size_divisor": 8,
    "n_layer": 6,
    "n_embd": 640,
    "dim_att": 640,
    "dim_ffn": 2240,
}
LOW_RANK, DECAY_RANK = 32, 64


def wkv_seq(r, k, v, decay, u, _):
    """The recurrence as it is written: r, k, v, decay (B, T, H, N), u (H, N) to y (B, T, H, N)."""
    y = (r * u * k).sum(-1, keepdim=True) * v
    a = decay.exp()
    order = range(r.shape[1])
    for steps in (order, reversed(order)):
        state, read = torch.zeros_like(k[:, 0, :, :, None] * v[:, 0, :, None]), {}
        for t in steps:  # the state is (B, H, N, N): keys, then values
            read[t] = (r[:, t, :, None] @ state).squeeze(2)
            state = torch.addcmul(a[:, t, :, :, None] * state, k[:, t, :, :, None], v[:, t, :, None])
        y = y + torch.stack([read[t] for t in order], 1)
    return y


def wkv_chunked(r, k, v, decay, u, size):
    """The same with all pairs of a chunk at once and one step of the state a chunk.

    Each exponent is a sum of decays, never above 0, so that nothing can overflow.
    """
    b, t, h, n = r.shape
    missing = -t % size  # tokens of zeros at the end change nothing
    chunks = (t + missing) // size

    def split(x):  # (B, T, H, N) to (chunks, B*H, size, N)
        x = F.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x
        return x.view(b, chunks, size, h, n).permute(1, 0, 3, 2, 4).reshape(chunks, b * h, size, n)

    r, k, v, decay = split(r), split(k), split(v), split(decay)
    upto = decay.cumsum(2)
    before = F.pad(upto[:, :, :-1], (0, 0, 1, 0))
    total = upto[:, :, -1:]

    # Within a chunk: pair (i, j) is weighed by what lies strictly between, the same both ways.
    above = torch.ones(size, size, dtype=torch.bool).triu()[:, :, None]
    pairs = before[:, :, :, None] - upto[:, :, None]  # (chunks, B*H, size, size, N)
    pairs = pairs.masked_fill_(above, -math.inf).exp_()
    pairs = (pairs + pairs.transpose(2, 3)) * k[:, :, None]
    scores = (pairs @ r[..., None]).squeeze(-1)  # (chunks, B*H, size, size)
    own = (r * k * u.repeat(b, 1)[:, None]).sum(-1)
    y = list(((scores + own.diag_embed()) @ v).unbind())  # chunks of (B*H, size, N)

    # Between chunks: a state (B*H, N, N) goes forward, another backward.
    from_start, to_end = before.exp(), (total - upto).exp()
    whole = total.exp().mT.unbind()  # (B*H, N, 1)
    for order, reads, writes in (
        (range(chunks), r * from_start, k * to_end),
        (range(chunks - 1, -1, -1), r * to_end, k * from_start),
    ):
        reads, adds, state = reads.unbind(), (writes.mT @ v).unbind(), None
        for i in order:
            if state is None:
                state = adds[i]
                continue
            y[i] = torch.baddbmm(y[i], reads[i], state)
            if i != order[-1]:
                state = torch.addcmul(adds[i], whole[i], state)
    y = torch.stack(y).view(chunks, b, h, size, n).permute(1, 0, 3, 2, 4)
    return y.reshape(b, t + missing, h, n)[:, :t]


def grid_shift(x, grid, heads):
    """(B, T, C): a quarter of each head from the left, the right, above and below."""
    q = x.shape[2] // heads // 4
    left, right, up, down = x.unflatten(2, (heads, -1)).unflatten(1, grid).split(q, 4)
    shifted = [
        F.pad(left, (0, 0, 0, 0, 1, -1)),
        F.pad(right, (0, 0, 0, 0, -1, 1)),
        F.pad(up, (0, 0, 0, 0, 0, 0, 1, -1)),
        F.pad(down, (0, 0, 0, 0, 0, 0, -1, 1)),
    ]
    return torch.cat(shifted, 4).view(x.shape)


def line_shift(x, heads):
    """(B, T, C): half of each head from the previous token, half from the next."""
    previous, following = x.unflatten(2, (heads, -1)).chunk(2, 3)
    shifted = [F.pad(previous, (0, 0, 0, 0, 1, -1)), F.pad(following, (0, 0, 0, 0, -1, 1))]
    return torch.cat(shifted, 3).view(x.shape)


def parameter(x):
    return nn.Parameter(x.reshape(1, 1, -1).clone())


def uniform(*shape, limit=0.01):
    return nn.Parameter(torch.empty(shape).uniform_(-limit, limit))


class TokenMix(nn.Module):
    def __init__(self, c, heads, layer, layers, eps, wkv):
        super().__init__()
        self.heads, self.eps, self.wkv = heads, eps, wkv
        depth, sigma, d = layer / max(layers - 1, 1), 1 - layer / layers, torch.arange(c) / c
        for name in "xwk":
            self.register_parameter(f"time_maa_{name}", parameter(1 - d**sigma))
        self.time_maa_v = parameter(1 - (d**sigma + 0.3 * depth))
        for name in "rg":
            self.register_parameter(f"time_maa_{name}", parameter(1 - d ** (0.5 * sigma)))
        self.time_maa_w1 = uniform(c, 5 * LOW_RANK)
        self.time_maa_w2 = uniform(5, LOW_RANK, c)
        n = torch.arange(c)
        ratio = n / (c - 1)
        self.time_decay = parameter(-6 + 5 * ratio ** (0.7 + 1.3 * depth))
        self.time_decay_w1 = uniform(c, DECAY_RANK)
        self.time_decay_w2 = uniform(DECAY_RANK, c)
        bonus = depth * (1 - ratio) + 0.1 * ((n + 1) % 3 - 1)
        self.time_faaaa = nn.Parameter(bonus.view(heads, -1))
        for name in ("receptance", "key", "value", "output", "gate"):
            self.add_module(name, nn.Linear(c, c, bias=False))
        self.ln_x = nn.GroupNorm(heads, c, eps)

    def forward(self, x, shifted):
        b, t, c = x.shape
        delta = shifted - x
        h = torch.tanh(torch.addcmul(x, delta, self.time_maa_x) @ self.time_maa_w1)
        h = h.view(b * t, 5, LOW_RANK).transpose(0, 1)  # (5, B*T, 32)
        maa = [self.time_maa_w, self.time_maa_k, self.time_maa_v, self.time_maa_r, self.time_maa_g]
        mix = torch.baddbmm(torch.cat(maa), h, self.time_maa_w2)  # (5, B*T, C)
        xw, xk, xv, xr, xg = torch.addcmul(x, delta, mix.view(5, b, t, c)).unbind()
        w = self.time_decay + torch.tanh(xw @ self.time_decay_w1) @ self.time_decay_w2
        r, k, v = self.receptance(xr), self.key(xk), self.value(xv)
        r, k, v, decay = (y.view(b, t, self.heads, -1) for y in (r, k, v, -w.exp()))
        y = self.wkv(r, k, v, decay, self.time_faaaa).reshape(b * t, c)
        return self.output(self.ln_x(y).view(b, t, c) * F.silu(self.gate(xg)))


class ChannelMix(nn.Module):
    def __init__(self, c, hidden, names, first):
        super().__init__()
        self.names = names
        for name in names:
            self.register_parameter(name, parameter(first))
        self.key = nn.Linear(c, hidden, bias=False)
        self.receptance = nn.Linear(c, c, bias=False)
        self.value = nn.Linear(hidden, c, bias=False)

    def forward(self, x, shifted):
        mix_k, mix_r = (getattr(self, name) for name in self.names)
        if self.names[0] == "spatial_mix_k":  # weighs the token itself, time_maa_k the shifted one
            x, shifted = shifted, x
        hidden = F.relu(self.key(torch.lerp(x, shifted, mix_k))).square()
        return torch.sigmoid(self.receptance(torch.lerp(x, shifted, mix_r))) * self.value(hidden)


class Block(nn.Module):
    def __init__(self, c, layer, att, ffn):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(c), nn.LayerNorm(c)
        if layer == 0:
            self.ln0 = nn.LayerNorm(c)
        self.att, self.ffn = att, ffn

    def forward(self, x, shift):
        if hasattr(self, "ln0"):
            x = self.ln0(x)
        y = self.ln1(x)
        x = x + self.att(y, shift(y))
        y = self.ln2(x)
        return x + self.ffn(y, shift(y))


class ImageTower(nn.Module):
    def __init__(self, config, wkv):
        super().__init__()
        c, layers = config["image_embed_dims"], config["image_depth"]
        self.heads, self.patch = config["image_num_heads"], config["image_patch_size"]
        self.grid = (math.ceil(config["input_size"] / self.patch),) * 2
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], c))
        self.patch_embed = nn.ModuleDict({"projection": nn.Conv2d(3, c, self.patch, self.patch)})
        self.layers = nn.ModuleList()
        for i in range(layers):
            mix = (torch.arange(c) / c) ** (1 - i / layers)
            names, hidden = ("spatial_mix_k", "spatial_mix_r"), c * config["image_hidden_rate"]
            att = TokenMix(c, self.heads, i, layers, 1e-5, wkv)
            self.layers.append(Block(c, i, att, ChannelMix(c, hidden, names, mix)))
        self.ln1 = nn.LayerNorm(c)

    def forward(self, images):
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        x = self.patch_embed["projection"](images)  # (B, C, gh, gw)
        grid, pos = tuple(x.shape[2:]), self.pos_embed
        if grid != self.grid:
            pos = pos.mT.unflatten(2, self.grid)
            pos = F.interpolate(pos, grid, mode="bicubic", align_corners=False).flatten(2).mT
        x = x.flatten(2).mT + pos  # (B, T, C)
        for block in self.layers:
            x = block(x, lambda y: grid_shift(y, grid, self.heads))
        return self.ln1(x).mean(1)


class TextTower(nn.Module):
    def __init__(self, config, wkv):
        super().__init__()
        c, layers = config["n_embd"], config["n_layer"]
        self.heads = config["dim_att"] // config["head_size"]
        self.emb = nn.Embedding(config["vocab_size"], c)
        nn.init.uniform_(self.emb.weight, -1e-4, 1e-4)
        self.blocks = nn.ModuleList()
        for i in range(layers):
            mix = 1 - (torch.arange(c) / c) ** (1 - i / layers)
            names, eps = ("time_maa_k", "time_maa_r"), 1e-5 * config["head_size_divisor"] ** 2
            att = TokenMix(c, self.heads, i, layers, eps, wkv)
            self.blocks.append(Block(c, i, att, ChannelMix(c, config["dim_ffn"], names, mix)))
        self.ln_out = nn.LayerNorm(c)

    def forward(self, ids):
        x = self.emb(ids)  # (B, T, C)
        for block in self.blocks:
            x = block(x, lambda y: line_shift(y, self.heads))
        return F.normalize(self.ln_out(x), dim=2).mean(1)


class Clip(nn.Module):
    def __init__(self, config, form):
        super().__init__()
        wkv = {"chunked": wkv_chunked, "seq": wkv_seq}[form]
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.text_model = TextTower(config, lambda *x: wkv(*x, 11))
        self.image_model = ImageTower(config, lambda *x: wkv(*x, 7))

    def loss(self, images, texts):
        logits = self.logit_scale.exp() * F.normalize(images) @ F.normalize(texts).T
        labels = torch.arange(len(logits))
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def parity(form, folder):
    from safetensors.torch import load_file

    model = Clip(json.loads((folder / "config.json").read_text()), form)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    inputs, expected = load_file(folder / "inputs.safetensors"), load_file(folder / "expected.safetensors")
    images, texts = model.image_model(inputs["image.square"]), model.text_model(inputs["tokens"])
    loss = model.loss(images, texts)
    loss.backward()
    found = {"image_features": images, "text_features": texts, "loss": loss}
    for shape in ("nonsquare", "unaligned"):
        found[f"image_features_{shape}"] = model.image_model(inputs[f"image.{shape}"])
    parameters = dict(model.named_parameters())

    def difference(a, b):
        return ((a.detach() - b).abs().max() / b.abs().max()).item()

    lines = [(difference(y, expected[x]), 1e-5 if x == "loss" else 1e-4, x) for x, y in found.items()]
    for name, gradient in load_file(folder / "grads.safetensors").items():
        lines.append((difference(parameters[name].grad, gradient), 1e-3, f"gradient of {name}"))
    for value, limit, name in sorted(lines, reverse=True):
        print(f"{value:.1e} of {limit:.0e}  {name}")
    sys.exit(any(not value <= limit for value, limit, _ in lines))


def timed(once, seconds):
    """Lists of the milliseconds of each part of a call; once() gives the marks between the parts."""
    for _ in range(2):
        once()
    rows, started = [], time.perf_counter()
    while len(rows) < 3 or time.perf_counter() - started < seconds:
        marks = [time.perf_counter(), *once(), time.perf_counter()]
        rows.append([1000 * (b - a) for a, b in zip(marks, marks[1:])])
    return rows


def main():
    arguments = argparse.ArgumentParser(usage=__doc__)
    arguments.add_argument("mode", choices=("image", "text", "step", "parity"))
    arguments.add_argument("--config", type=Path)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--seconds", type=float, default=3)
    arguments.add_argument("--wkv", choices=("chunked", "seq"), default="chunked")
    arguments.add_argument("--fused", action="store_true")
    arguments.add_argument("--parity", type=Path)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    if given.mode == "parity":
        parity(given.wkv, given.parity)
    config = json.loads(given.config.read_text()) if given.config else B32
    model = Clip(config, given.wkv)
    images = torch.randn(given.batch, 3, config["input_size"], config["input_size"])
    ids = torch.randint(config["vocab_size"], (given.batch, config["ctx_len"]))
    fused = {"fused": True} if given.fused else {}
    adamw = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.2, **fused
    )

    @torch.inference_mode()
    def forward():
        model.image_model(images) if given.mode == "image" else model.text_model(ids)
        return []

    def step():
        loss = model.loss(model.image_model(images), model.text_model(ids))
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        adamw.zero_grad(set_to_none=True)
        return forward, backward

    rows = timed(step if given.mode == "step" else forward, given.seconds)
    whole = [sum(row) for row in rows]
    median = statistics.median(whole)
    found = {
        "milliseconds": median,
        "minimum": min(whole),
        "iterations": len(whole),
        "per_second": 1000 * given.batch / median,
        "torch": torch.__version__,
        "threads": given.threads,
    }
    if given.mode == "step":
        parts = [statistics.median(part) for part in zip(*rows)]
        found |= dict(zip(("forward", "backward", "optimizer"), parts))
    print(json.dumps(found))


main()
