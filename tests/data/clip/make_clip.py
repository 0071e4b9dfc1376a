"""Pictures in the modes a file can have, and what the official evaluation transform makes of them.

`NAME.expected.png` is what Pillow resizes, crops and converts; dividing and normalising follows and
is the same arithmetic everywhere. Made with Pillow 12.0 (10.4 writes the same; 13.0 does not: it
resizes pictures more than twice as high as wide in another order). Run it in this folder.
"""

import random

from PIL import Image

SIZE = 32
random.seed(5)


def noise(mode, width, height, block):
    """Squares of `block` pixels of any level, the extremes often, over a gradient."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    level = lambda: random.choice([0, 255, random.randrange(256), random.randrange(256)])
    cells = {}
    picture = Image.new(mode, (width, height))
    for y in range(height):
        for x in range(width):
            cell = cells.setdefault((x // block, y // block), [level() for _ in range(bands)])
            pixel = [(c * 3 + (x * 255 // width)) // 4 if c not in (0, 255) else c for c in cell]
            picture.putpixel((x, y), tuple(pixel) if bands > 1 else pixel[0])
    return picture


def expected(picture):
    width, height = picture.size
    if width <= height:
        to = (SIZE, int(SIZE * height / width))
    else:
        to = (int(SIZE * width / height), SIZE)
    small = picture if to == picture.size else picture.resize(to, Image.Resampling.BICUBIC)
    left, top = round((small.width - SIZE) / 2.0), round((small.height - SIZE) / 2.0)
    return small.crop((left, top, left + SIZE, top + SIZE)).convert("RGB")


def make(name, picture, suffix="png", **options):
    picture.save(f"{name}.{suffix}", **options)
    with Image.open(f"{name}.{suffix}") as read:
        read.load()
        print(name, read.mode, read.size)
        expected(read).save(f"{name}.expected.png")


palette = noise("RGB", 61, 47, 3).quantize(32)
make("palette", palette)
make("palette_transparent", palette, transparency=3)
make("gif", palette, "gif")
make("gif_transparent", noise("RGB", 40, 57, 3).quantize(16), "gif", transparency=2)
make("one_bit", noise("L", 70, 50, 4).convert("1"))
make("grey_transparent", noise("L", 50, 77, 3), transparency=255)
make("rgb_transparent", noise("RGB", 50, 45, 3), transparency=(0, 0, 0))
make("grey_alpha", noise("LA", 55, 68, 3))
make("rgba_smaller", noise("RGBA", 90, 63, 2))
make("rgba_larger", noise("RGBA", 17, 12, 2))
make("rgba_as_is", noise("RGBA", SIZE, SIZE + 9, 2))
make("rgba_webp", noise("RGBA", 49, 41, 3), "webp", lossless=True, exact=True)
make("one_pixel", noise("RGB", 1, 1, 1))
make("one_row", noise("RGB", 15, 1, 2))
make("odd", noise("RGB", 33, 101, 2))
