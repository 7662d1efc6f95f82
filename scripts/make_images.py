"""Make a data set of the shape of CIFAR-10 that a convolutional network can learn, and a linear model cannot.

    python -m scripts.make_images OUT [--classes 10] [--samples 6000] [--side 32] [--seed 0] [--folders]
    cnnpar-train --config configs/cifar10-resnet.toml --train-data OUT/train.npz --test-data OUT/test.npz

It writes OUT/train.npz and OUT/test.npz, or with --folders OUT/train and OUT/test, folders of class folders with PNG
pictures; a sixth of the samples is for the test, as in CIFAR-10. Both forms hold the same images in the same order, so
that training on them gives the same weights.

An image shows a disc, square, triangle, cross or ring, plain, striped or chequered, of random colours, size and place,
somewhat turned, on a background of softer colours, with specks and bars before and behind it. Outline and pattern are
the class.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.harness import make_parser

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]
Place = tuple[Floats, Floats, Floats]
Part = tuple[Images, NDArray[np.int64]]

OUTLINES = ("disc", "square", "triangle", "cross", "ring")
PATTERNS = ("plain", "striped", "chequered")
NAMES = tuple(f"{pattern}-{outline}" for pattern in PATTERNS for outline in OUTLINES)
BEHIND, BEFORE = 5, 2  # specks and bars


def inside(outline: str, u: Floats, v: Floats) -> Floats:
    """Return how far inside of an outline of radius about 1 points are; below 0 outside."""
    radius, across, down = np.hypot(u, v), np.abs(u), np.abs(v)
    how_far: dict[str, Floats] = {
        "disc": 0.8 - radius,
        "square": 0.75 - np.maximum(across, down),
        "triangle": 0.5 - np.maximum(v, np.sqrt(0.75) * across - 0.5 * v),
        "cross": np.maximum(np.minimum(0.27 - across, 1 - down), np.minimum(0.27 - down, 1 - across)),
        "ring": 0.22 - np.abs(radius - 0.75),
    }
    return how_far[outline]


def second_colour(pattern: str, u: Floats, v: Floats) -> NDArray[np.bool_]:
    """Return where a pattern has its second colour."""
    stripe, other = np.sin(10 * u) > 0, np.sin(10 * v) > 0
    if pattern == "striped":
        return stripe
    return stripe ^ other if pattern == "chequered" else np.zeros(u.shape, bool)


def placed(random: np.random.Generator, count: int, side: int, smallest: float, largest: float, turn: float) -> Place:
    """Return coordinates (count, side, side) of the pixels, relative to `count` things of random place, size and angle.

    Behind them come the sizes (count, 1, 1), in pixels. Centres are `smallest` away from every edge; angles are up to
    `turn`.
    """
    size = side * random.uniform(smallest, largest, (count, 1, 1))
    x, y = side * random.uniform(smallest, 1 - smallest, (2, count, 1, 1))
    angle = random.uniform(-turn, turn, (count, 1, 1))
    pixels = np.arange(side) + 0.5
    across, down = (pixels[np.newaxis, :] - x) / size, (pixels[:, np.newaxis] - y) / size
    u, v = across * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - across * np.sin(angle)
    return u, v, size


def painted(images: Floats, how_far: Floats, size: Floats, colours: Floats) -> None:
    """Paint, in place, where `how_far` is above 0, with edges of the width of a pixel."""
    share = np.clip(how_far * size + 0.5, 0, 1)[..., np.newaxis]
    images += share * (colours - images)


def background(random: np.random.Generator, count: int, side: int) -> Floats:
    """Make soft blotches of colour (count, side, side, 3): grids of 5 x 5 colours, interpolated."""
    at = np.linspace(0, 4, side)
    weights = np.maximum(0, 1 - np.abs(at[:, np.newaxis] - np.arange(5)))  # (side, 5)
    grid = random.uniform(40, 216, (count, 5, 5, 3))
    blotches: Floats = np.einsum("yi,xj,nijc->nyxc", weights, weights, grid, optimize=True)
    return blotches


def clutter(random: np.random.Generator, images: Floats, how_many: int) -> None:
    """Paint specks and bars of any colours, in place."""
    count, side = images.shape[:2]
    for number in range(how_many):
        u, v, size = placed(random, count, side, 0.03, 0.09, np.pi)
        far = 1 - np.hypot(u, v) if number % 2 else np.minimum(0.4 - np.abs(u), 2.5 - np.abs(v))
        painted(images, far, size, random.uniform(0, 255, (count, 1, 1, 3)))


def drawn(label: int, count: int, side: int, seed: int) -> Images:
    """Draw images of a class, uint8 (count, side, side, 3)."""
    pattern, outline = NAMES[label].split("-")
    random = np.random.Generator(np.random.Philox(key=[seed, label]))
    images = background(random, count, side)
    clutter(random, images, BEHIND)
    u, v, size = placed(random, count, side, 0.28, 0.42, 0.6)
    first = random.uniform(-64, 64, (count, 1, 1, 3)) % 255  # dark or bright in every channel
    colours = np.where(second_colour(pattern, u, v)[..., np.newaxis], 255 - first, first)
    painted(images, inside(outline, u, v), size, colours)
    clutter(random, images, BEFORE)
    images += random.normal(0, 8, images.shape)
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def made(classes: int, samples: int, side: int, seed: int) -> dict[str, Part]:
    """Draw images (N, side, side, 3) and labels (N,) of the parts train and test, class after class."""
    parts: dict[str, list[Images]] = {"train": [], "test": []}
    for label in range(classes):
        count = samples // classes
        images = drawn(label, count, side, seed)
        for part, chosen in (("test", images[: count // 6]), ("train", images[count // 6 :])):
            parts[part].append(chosen)
    return {
        part: (np.concatenate(images), np.repeat(np.arange(classes), [len(own) for own in images]))
        for part, images in parts.items()
    }


def write(out: Path, parts: dict[str, Part], folders: bool) -> None:
    """Write the parts as files, or as folders; these have names that sort as the labels do."""
    out.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in parts.items():
        if not folders:
            np.savez_compressed(out / f"{part}.npz", images=images, labels=labels)
            continue
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = out / part / f"{label:02}-{NAMES[label]}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:06}.png")


def main() -> None:
    parser = make_parser(__doc__, json=False)
    parser.add_argument("out", type=Path, help="folder; made if it is not there")
    parser.add_argument("--classes", type=int, choices=range(2, len(NAMES) + 1), default=10, metavar=f"2..{len(NAMES)}")
    parser.add_argument("--samples", type=int, default=6000, help="in all, a sixth of them for the test")
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folders", action="store_true", help="PNG pictures in class folders, and not .npz")
    options = parser.parse_args()
    if options.samples < 12 * options.classes or options.side < 8:
        parser.error("at least 12 samples a class, of 8 x 8 pixels")
    parts = made(options.classes, options.samples, options.side, options.seed)
    write(options.out, parts, options.folders)
    counts = ", ".join(f"{len(labels):,} for {part}" for part, (_, labels) in parts.items())
    print(f"{options.out}: {counts}; {options.side} x {options.side} x 3, {options.classes} classes")


if __name__ == "__main__":
    main()
