"""Draws parts/: turned metal discs that are good, scratched, dented, or lack their bore.

    python make_parts.py        (needs numpy and Pillow)
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 96
EACH = 10
CLASSES = ["good", "scratch", "dent", "missing_bore"]


def disc(random, bore=True):
    """A disc on a dark tray, lathe marks around its middle, light from one side."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    cx, cy = SIDE / 2 + random.uniform(-4, 4, 2)
    radius = SIDE * random.uniform(0.36, 0.43)
    r = np.hypot(x - cx, y - cy)
    angle = np.arctan2(y - cy, x - cx)
    metal = 150 + 14 * np.sin(r * 2.1 + random.uniform(0, 6)) + 6 * random.standard_normal((SIDE, SIDE))
    metal += 38 * np.cos(2 * (angle - random.uniform(0, np.pi))) * (r / radius)
    tray = 42 + 5 * random.standard_normal((SIDE, SIDE))
    grey = np.where(r < radius, metal, tray)
    grey[np.abs(r - radius) < 1.6] = 215
    if bore:
        grey[r < radius * 0.24] = 30
        grey[np.abs(r - radius * 0.24) < 1.2] = 205
    tint = np.array([1.0, random.uniform(0.96, 1.0), random.uniform(0.9, 1.0)])
    rgb = np.clip(grey[..., None] * tint, 0, 255).astype(np.uint8)
    return Image.fromarray(rgb), (cx, cy, radius)


def somewhere(random, place):
    """A point on the metal, off the bore and the rim."""
    cx, cy, radius = place
    angle, r = random.uniform(0, 2 * np.pi), radius * random.uniform(0.45, 0.75)
    return cx + r * np.cos(angle), cy + r * np.sin(angle)


def scratched(random, picture, place):
    x, y = somewhere(random, place)
    angle, length = random.uniform(0, np.pi), random.uniform(24, 44)
    dx, dy = np.cos(angle) * length / 2, np.sin(angle) * length / 2
    bend = random.uniform(-4, 4, 2)
    line = [(x - dx, y - dy), (x + bend[0], y + bend[1]), (x + dx, y + dy)]
    draw = ImageDraw.Draw(picture)
    draw.line([(px + 1, py + 1) for px, py in line], fill=(60, 56, 52), width=1)
    draw.line(line, fill=(244, 244, 238), width=1)


def dented(random, picture, place):
    x, y = somewhere(random, place)
    r = random.uniform(5, 8)
    mask = Image.new("L", picture.size, 0)
    ImageDraw.Draw(mask).ellipse([x - r, y - r, x + r, y + r], fill=190)
    mask = mask.filter(ImageFilter.GaussianBlur(1.6))
    picture.paste((62, 60, 58), mask=mask)
    light = Image.new("L", picture.size, 0)
    ImageDraw.Draw(light).arc([x - r, y - r, x + r, y + r], 20, 140, fill=220, width=2)
    picture.paste((232, 232, 228), mask=light.filter(ImageFilter.GaussianBlur(0.7)))


parts = Path(__file__).parent / "parts"
for number, name in enumerate(CLASSES):
    (parts / name).mkdir(parents=True, exist_ok=True)
    for i in range(EACH):
        random = np.random.default_rng(1000 * number + i)
        picture, place = disc(random, bore=name != "missing_bore")
        if name == "scratch":
            scratched(random, picture, place)
        if name == "dent":
            dented(random, picture, place)
        picture.save(parts / name / f"{i:02}.jpg", quality=88)
