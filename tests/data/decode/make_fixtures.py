"""Pictures that the image crate cannot write: four quarters (red, green, blue, white), 64 x 64.

Made with Pillow 12. What Pillow itself decodes them to is in the names of the tests that read them.
Run it in this folder.
"""

from PIL import Image

SIZE = 64
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def quarters(mode, colours):
    picture = Image.new(mode, (SIZE, SIZE))
    for n, colour in enumerate(colours):
        picture.paste(colour, (n % 2 * 32, n // 2 * 32, n % 2 * 32 + 32, n // 2 * 32 + 32))
    return picture


cmyk = [(0, 255, 255, 0), (255, 0, 255, 0), (255, 255, 0, 0), (0, 0, 0, 0)]
quarters("CMYK", cmyk).save("cmyk.jpg", quality=95)

palette = quarters("P", [0, 1, 2, 3])
palette.putpalette([v for colour in COLOURS for v in colour])
palette.save("palette.png")
palette.save("palette_blue_transparent.png", transparency=2)

grey = quarters("L", [0, 85, 170, 255])
grey.save("grey_170_transparent.png", transparency=170)

frames = [quarters("RGB", COLOURS[n:] + COLOURS[:n]) for n in range(3)]
frames[0].save("animated.png", save_all=True, append_images=frames[1:])
frames[0].save("animated.webp", save_all=True, append_images=frames[1:], lossless=True)
