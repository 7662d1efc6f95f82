"""Make cnnpar/data/digits.npz from scikit-learn's copy of the UCI digits.

    python -m scripts.make_digits [FILE]

It needs scikit-learn, and writes the same bytes each time. Source and licence: cnnpar/data/digits.md.
"""

from pathlib import Path

import numpy as np

from scripts.harness import ROOT, make_parser

TARGET = ROOT / "cnnpar" / "data" / "digits.npz"


def main() -> None:
    parser = make_parser(__doc__, json=False)
    parser.add_argument("file", nargs="?", type=Path, default=TARGET, help="default: the file in the package")
    target: Path = parser.parse_args().file
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.uint8)  # (1797, 8, 8), counts of ink pixels in 4 x 4 blocks: 0..16
    assert (images == digits.images).all()
    np.savez_compressed(target, images=images, labels=digits.target.astype(np.uint8))
    print(f"{target}: {len(images)} images, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
