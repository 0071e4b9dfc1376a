"""The peer of the RWKV-CLIP bench: both towers in eager PyTorch, float32 on the CPU.

    rwkv_clip_torch.py MODE [--config FILE] [--batch 8] [--threads 2] [--seconds 3]
                            [--wkv chunked|seq] [--fused] [--parity FOLDER]
                            [--task FOLDER] [--double]

MODE is one of
    image    a forward pass of the image tower, without gradients
    text     a forward pass of the text tower, always over the whole context, without gradients
    step     a training step: both towers, the loss, backward, clip, AdamW, without drop path
    curve    the loss over the steps of the task in FOLDER (benches/curve.rs), a line of JSON a step
    parity   compares features, loss and gradients with FOLDER, by default tests/data/parity

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
PARITY = Path(__file__).parents[2] / "tests/data/parity"
LOW_RANK, DECAY_RANK = 32, 64


def wkv_seq(r, k, v, decay, u, _):
    """The recurrence as it is written: r, k, v, decay (B, T, H, N), u (H, N) to y (B, T, H, N)."""
    y = (r * u * k).sum(-1, keepdim=True) * v
    a = decay.exp()
    tokens = range(r.shape[1])
    for order in (tokens, tokens[::-1]):
        state = torch.zeros_like(k[:, 0, :, :, None] * v[:, 0, :, None])
        reads = []
        for t in order:  # the state is (B, H, N, N): keys, then values
            reads.append((r[:, t, :, None] @ state).squeeze(2))
            kept = a[:, t, :, :, None] * state
            state = torch.addcmul(kept, k[:, t, :, :, None], v[:, t, :, None])
        y = y + torch.stack(reads[:: order.step], 1)
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

    # Within a chunk: a pair (later, earlier) is weighed by what lies between, the same both ways.
    later, earlier = torch.tril_indices(size, size, -1)
    pairs = (before.index_select(2, later) - upto.index_select(2, earlier)).exp_()
    scores = r.new_zeros(chunks, b * h, size, size)
    for i, j in ((later, earlier), (earlier, later)):
        scores[:, :, i, j] = (pairs * r.index_select(2, i) * k.index_select(2, j)).sum(-1)
    own = (r * k * u.repeat(b, 1)[:, None]).sum(-1)
    y = list(((scores + own.diag_embed()) @ v).unbind())  # chunks of (B*H, size, N)

    # Between chunks: a state (B*H, N, N) goes forward, another backward.
    from_start, to_end = before.exp(), (total - upto).exp()
    whole = total.exp().mT.unbind()  # (B*H, N, 1)
    for order, reads, writes in (
        (range(chunks), r * from_start, k * to_end),
        (range(chunks - 1, -1, -1), r * to_end, k * from_start),
    ):
        reads, adds = reads.unbind(), (writes.mT @ v).unbind()
        state = adds[order[0]]
        for i in order[1:]:
            y[i] = torch.baddbmm(y[i], reads[i], state)
            state = torch.addcmul(adds[i], whole[i], state)
    y = torch.stack(y).view(chunks, b, h, size, n).permute(1, 0, 3, 2, 4)
    return y.reshape(b, t + missing, h, n)[:, :t]


def grid_shift(x, grid, heads):
    """(B, T, C): a quarter of each head from the left, the right, above and below."""
    q = x.shape[2] // heads // 4
    left, right, up, down = x.unflatten(2, (heads, -1)).unflatten(1, grid).split(q, 4)
    left, right = F.pad(left, (0, 0, 0, 0, 1, -1)), F.pad(right, (0, 0, 0, 0, -1, 1))
    up, down = F.pad(up, (0, 0, 0, 0, 0, 0, 1, -1)), F.pad(down, (0, 0, 0, 0, 0, 0, -1, 1))
    return torch.cat([left, right, up, down], 4).view(x.shape)


def line_shift(x, heads):
    """(B, T, C): half of each head from the previous token, half from the next."""
    previous, following = x.unflatten(2, (heads, -1)).chunk(2, 3)
    shifted = [F.pad(previous, (0, 0, 0, 0, 1, -1)), F.pad(following, (0, 0, 0, 0, -1, 1))]
    return torch.cat(shifted, 3).view(x.shape)


def uniform(low, high, *shape):
    return nn.Parameter(torch.empty(shape).uniform_(low, high))


class TokenMix(nn.Module):
    def __init__(self, c, heads, eps, wkv):
        super().__init__()
        self.heads, self.wkv = heads, wkv
        for name in "xwkvrg":
            self.register_parameter(f"time_maa_{name}", uniform(0, 1, 1, 1, c))
        self.time_maa_w1 = uniform(-0.01, 0.01, c, 5 * LOW_RANK)
        self.time_maa_w2 = uniform(-0.01, 0.01, 5, LOW_RANK, c)
        self.time_decay = uniform(-6, -1, 1, 1, c)
        self.time_decay_w1 = uniform(-0.01, 0.01, c, DECAY_RANK)
        self.time_decay_w2 = uniform(-0.01, 0.01, DECAY_RANK, c)
        self.time_faaaa = uniform(-0.1, 0.1, heads, c // heads)
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
    def __init__(self, c, hidden, prefix):
        super().__init__()
        self.prefix = prefix
        for name in "kr":
            self.register_parameter(f"{prefix}_{name}", uniform(0, 1, 1, 1, c))
        self.key = nn.Linear(c, hidden, bias=False)
        self.receptance = nn.Linear(c, c, bias=False)
        self.value = nn.Linear(hidden, c, bias=False)

    def forward(self, x, shifted):
        if self.prefix == "spatial_mix":  # weighs the token itself, time_maa the shifted one
            x, shifted = shifted, x
        xk, xr = (torch.lerp(x, shifted, getattr(self, f"{self.prefix}_{name}")) for name in "kr")
        return torch.sigmoid(self.receptance(xr)) * self.value(F.relu(self.key(xk)).square())


class Block(nn.Module):
    def __init__(self, c, first, att, ffn):
        super().__init__()
        self.ln0 = nn.LayerNorm(c) if first else None
        self.ln1, self.ln2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.att, self.ffn = att, ffn

    def forward(self, x, shift):
        x = self.ln0(x) if self.ln0 else x
        y = self.ln1(x)
        x = x + self.att(y, shift(y))
        y = self.ln2(x)
        return x + self.ffn(y, shift(y))


class ImageTower(nn.Module):
    def __init__(self, config, wkv):
        super().__init__()
        c, self.heads = config["image_embed_dims"], config["image_num_heads"]
        self.patch = config["image_patch_size"]
        self.grid = (math.ceil(config["input_size"] / self.patch),) * 2
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], c))
        self.patch_embed = nn.ModuleDict({"projection": nn.Conv2d(3, c, self.patch, self.patch)})
        self.layers = nn.ModuleList()
        for i in range(config["image_depth"]):
            ffn = ChannelMix(c, c * config["image_hidden_rate"], "spatial_mix")
            self.layers.append(Block(c, i == 0, TokenMix(c, self.heads, 1e-5, wkv), ffn))
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
        c, self.heads = config["n_embd"], config["dim_att"] // config["head_size"]
        eps = 1e-5 * config["head_size_divisor"] ** 2
        self.emb = nn.Embedding(config["vocab_size"], c)
        self.blocks = nn.ModuleList()
        for i in range(config["n_layer"]):
            ffn = ChannelMix(c, config["dim_ffn"], "time_maa")
            self.blocks.append(Block(c, i == 0, TokenMix(c, self.heads, eps, wkv), ffn))
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
    inputs = load_file(folder / "inputs.safetensors")
    expected = load_file(folder / "expected.safetensors")
    images, texts = model.image_model(inputs["image.square"]), model.text_model(inputs["tokens"])
    loss = model.loss(images, texts)
    loss.backward()
    found = {"image_features": images, "text_features": texts, "loss": loss}
    for shape in ("nonsquare", "unaligned"):
        found[f"image_features_{shape}"] = model.image_model(inputs[f"image.{shape}"])
    parameters = dict(model.named_parameters())

    def difference(a, b):
        return ((a.detach() - b).abs().max() / b.abs().max()).item()

    features = [
        (difference(value, expected[name]), 1e-5 if name == "loss" else 1e-4, name)
        for name, value in found.items()
    ]
    gradients = [
        (difference(parameters[name].grad, value), 1e-3, f"gradient of {name}")
        for name, value in load_file(folder / "grads.safetensors").items()
    ]
    print("difference / largest value   allowed")
    for value, limit, name in features + sorted(gradients, reverse=True)[:5]:
        print(f"{value:28.1e}   {limit:7.0e}  {name}")
    sys.exit(any(not value <= limit for value, limit, _ in features + gradients))


def curve(form, folder, dtype):
    from safetensors.torch import load_file

    task = json.loads((folder / "task.json").read_text())
    model = Clip(json.loads((folder / "config.json").read_text()), form)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    model.to(dtype)
    batches = load_file(folder / "batches.safetensors")
    adamw = torch.optim.AdamW(
        model.parameters(),
        lr=task["max_lr"],
        betas=(0.9, task["beta2"]),
        eps=task["eps"],
        weight_decay=task["weight_decay"],
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adamw, task["max_lr"], total_steps=task["steps"], pct_start=task["pct_start"]
    )
    for step in range(task["steps"]):
        i = step % task["batches"]
        images = model.image_model(batches[f"pixels.{i}"].to(dtype))
        loss = model.loss(images, model.text_model(batches[f"tokens.{i}"]))
        adamw.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), task["max_norm"])
        adamw.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step + 1 < task["steps"]:
            schedule.step()
        row = {"step": step, "loss": loss.item(), "grad_norm": norm.item()}
        print(json.dumps(row | {"logit_scale": model.logit_scale.item()}), flush=True)


def timed(once, seconds):
    """Milliseconds of the parts of each call, and the CPU seconds a second of wall time.

    once() gives the marks between the parts.
    """
    for _ in range(2):
        once()
    rows, started, cpu = [], time.perf_counter(), time.process_time()
    while len(rows) < 3 or time.perf_counter() - started < seconds:
        marks = [time.perf_counter(), *once(), time.perf_counter()]
        rows.append([1000 * (b - a) for a, b in zip(marks, marks[1:])])
    return rows, (time.process_time() - cpu) / (time.perf_counter() - started)


def main():
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("mode", choices=("image", "text", "step", "curve", "parity"))
    arguments.add_argument("--config", type=Path)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--seconds", type=float, default=3)
    arguments.add_argument("--wkv", choices=("chunked", "seq"), default="chunked")
    arguments.add_argument("--fused", action="store_true")
    arguments.add_argument("--parity", type=Path, default=PARITY)
    arguments.add_argument("--task", type=Path)
    arguments.add_argument("--double", action="store_true")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    if given.mode == "parity":
        parity(given.wkv, given.parity)
    if given.mode == "curve":
        return curve(given.wkv, given.task, torch.float64 if given.double else torch.float32)
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

    rows, cores = timed(step if given.mode == "step" else forward, given.seconds)
    whole = [sum(row) for row in rows]
    median = statistics.median(whole)
    found = {"milliseconds": median, "minimum": min(whole), "iterations": len(whole)}
    found["per_second"] = 1000 * given.batch / median
    found |= {"torch": torch.__version__, "threads": given.threads}
    found["cpu_share"] = cores / given.threads  # below 1: others had the cores, or threads waited
    if given.mode == "step":
        parts = [statistics.median(part) for part in zip(*rows)]
        found |= dict(zip(("forward", "backward", "optimizer"), parts))
    print(json.dumps(found))


main()
