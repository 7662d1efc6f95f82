"""Compare the bits that checkouts of cnnpar compute: digests of short runs of each, side by side.

    python -m scripts.digests [--trees BEFORE AFTER] [--mnist] [--json]

Without `--trees` it is this checkout alone. Printed: a row for each run, with the first letters of its digest in each
checkout. Every case is trained in this process and with two workers, on either transport; one is stopped in the middle
of an epoch and resumed with other workers. `--mnist` adds an epoch of MNIST, from $CNNPAR_DATA. Each run is a process
of its own.

Aim: no case whose digests differ, among ways of running or among checkouts.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.harness import ROOT, Report, Table, make_parser

STOP_AT = 9  # steps, of 21 in an epoch
EVERYTHING = """
[model]
layers = [
  { type = "conv2d", channels = 8, kernel = 3, padding = "same" },
  { type = "batchnorm2d" },
  { type = "relu" },
  { type = "maxpool2d", size = 2 },
  { type = "residual", layers = [{ type = "conv2d", channels = 8, kernel = 3, padding = "same" }] },
  { type = "flatten" },
  { type = "dropout", rate = 0.2 },
  { type = "dense" },
]
[optimizer]
type = "adam"
[data]
balance = true
[augment]
shift = 1
rotation = 10.0
elastic_alpha = 2.0
brightness = 0.2
cutout = 2
mixup = 0.2
[train]
epochs = 3
ema_decay = 0.9
clip_norm = 5.0
[report]
every_steps = 1
"""
SHOWN = 16  # letters of a digest
WAYS = {
    "in process": ("--workers", "0"),
    "2 workers, direct": ("--workers", "2"),
    "2 workers, ray": ("--workers", "2", "--transport", "ray"),
}


def train(tree: Path, options: Sequence[str]) -> str:
    """Train with a checkout's package to the end; the digest of the weights."""
    done = subprocess.run(
        [sys.executable, "-m", "cnnpar", "train", "--json", "--quiet", *options],
        cwd=tree,  # python -m looks for the package here first
        env=environment(tree),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return str(json.loads(done.stdout.splitlines()[-1])["weights_sha256"])


def train_in_two_parts(tree: Path, options: Sequence[str], folder: Path) -> str:
    """Train, stop in the middle of the first epoch, and resume with two workers; the digest."""
    run = folder / "run"
    line = [sys.executable, "-m", "cnnpar", "train", "--quiet", *options, "--run-dir", str(run)]
    with subprocess.Popen(line, cwd=tree, env=environment(tree)) as process:
        metrics = run / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and f'"step":{STOP_AT},' in metrics.read_text()):
            os.sched_yield()
        process.send_signal(signal.SIGTERM)
    if process.returncode != 128 + signal.SIGTERM:
        raise SystemExit(f"{tree}: a run that was to be stopped ended with {process.returncode}")
    return train(tree, ["--resume", str(run), "--workers", "2"])


def environment(tree: Path) -> dict[str, str]:
    """Make the environment of this process, with a checkout's package for Ray's workers."""
    return {**os.environ, "PYTHONPATH": str(tree), "CNNPAR_CACHE": "off"}


def digests(tree: Path, mnist: bool) -> dict[str, str]:
    """Train every case in every way; the digests by case and way."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        settings = Path(name) / "everything.toml"
        settings.write_text(EVERYTHING)
        cases: dict[str, Sequence[str]] = {
            "digits": ("--epochs", "3"),
            "everything": ("--config", str(settings)),
            "everything, portable": ("--config", str(settings), "--set", "engine.portable=true"),
            "resnet8": ("--epochs", "1", "--set", "model.preset=resnet8"),
        }
        if mnist:
            cases |= {"mnist": ("--data", "mnist", "--config", str(ROOT / "configs/mnist.toml"), "--epochs", "1")}
        for case, options in cases.items():
            for number, (way, more) in enumerate(WAYS.items()):
                place = ("--run-dir", str(Path(name) / f"{case} {number}"))
                found[f"{case}; {way}"] = train(tree, [*options, *more, *place])
        options = ["--config", str(settings), "--workers", "0"]
        found["everything; stopped, resumed"] = train_in_two_parts(tree, options, Path(name))
    return found


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--trees", nargs="+", type=Path, default=[ROOT], help="checkouts to compare")
    parser.add_argument("--mnist", action="store_true", help="an epoch of MNIST too, from $CNNPAR_DATA")
    options = parser.parse_args()

    report = Report()
    columns = {str(tree): digests(tree.resolve(), options.mnist) for tree in options.trees}
    table = Table(f"{'run':<40}", *(f"{tree:>{SHOWN}}" for tree in columns))
    by_case: dict[str, set[str]] = {}
    for name in next(iter(columns.values())):
        found = [column[name] for column in columns.values()]
        table.row(name, *(digest[:SHOWN] for digest in found))
        by_case.setdefault(name.partition(";")[0], set()).update(found)
    differing = [case for case, values in by_case.items() if len(values) > 1]
    if differing:
        print(f"differ: {', '.join(differing)}")
    report.check("cases whose digests differ", len(differing), "at most", 0)
    return report.end(columns, options.json)


if __name__ == "__main__":
    sys.exit(main())
