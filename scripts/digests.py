"""Whether checkouts of cnnpar compute the same bits: digests of short runs of each, side by side.

    python scripts/digests.py [--trees BEFORE AFTER] [--mnist] [--json]

Without `--trees` it is this checkout alone, whose digests must agree among themselves: in this process and with two
workers, on either transport, stopped in mid-epoch and resumed with other workers. `--mnist` adds an epoch of MNIST,
from $CNNPAR_DATA. Each run is a process of its own. Exits with 1 where digests differ that should not.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
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
WAYS = {
    "in process": ("--workers", "0"),
    "2 workers, direct": ("--workers", "2"),
    "2 workers, ray": ("--workers", "2", "--transport", "ray"),
}


def train(tree: Path, options: Sequence[str]) -> str:
    """Run `cnnpar train` of a checkout to its end; the digest of its weights."""
    done = subprocess.run(
        [sys.executable, "-m", "cnnpar", "train", "--json", "--quiet", *options],
        env=environment(tree),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return str(json.loads(done.stdout.splitlines()[-1])["weights_sha256"])


def train_in_two_parts(tree: Path, options: Sequence[str], folder: Path) -> str:
    """The same, stopped in the middle of its first epoch and resumed with two workers."""
    run = folder / "run"
    line = [sys.executable, "-m", "cnnpar", "train", "--quiet", *options, "--run-dir", str(run)]
    with subprocess.Popen(line, env=environment(tree)) as process:
        metrics = run / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and f'"step":{STOP_AT},' in metrics.read_text()):
            os.sched_yield()
        process.send_signal(signal.SIGTERM)
    if process.returncode != 128 + signal.SIGTERM:
        raise SystemExit(f"{tree}: a run that was to be stopped ended with {process.returncode}")
    return train(tree, ["--resume", str(run), "--workers", "2"])


def environment(tree: Path) -> dict[str, str]:
    """That of this process, with the package of a checkout."""
    return {**os.environ, "PYTHONPATH": str(tree), "CNNPAR_CACHE": "off"}


def digests(tree: Path, mnist: bool) -> dict[str, str]:
    """The digest of every run, by what it is."""
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
            cases |= {"mnist": ("--data", "mnist", "--config", str(HERE / "configs/mnist.toml"), "--epochs", "1")}
        for case, options in cases.items():
            for number, (way, more) in enumerate(WAYS.items()):
                place = ("--run-dir", str(Path(name) / f"{case} {number}"))
                found[f"{case}; {way}"] = train(tree, [*options, *more, *place])
        options = ["--config", str(settings), "--workers", "0"]
        found["everything; stopped, resumed"] = train_in_two_parts(tree, options, Path(name))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trees", nargs="+", type=Path, default=[HERE], help="checkouts to compare")
    parser.add_argument("--mnist", action="store_true", help="an epoch of MNIST too, from $CNNPAR_DATA")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    columns = [digests(tree.resolve(), options.mnist) for tree in options.trees]
    if options.json:
        print(json.dumps(dict(zip(map(str, options.trees), columns, strict=True)), indent=1))
    else:
        print("| run | " + " | ".join(map(str, options.trees)) + " |")
        print("| --- " * (1 + len(columns)) + "|")
        for case in columns[0]:
            print(f"| {case} | " + " | ".join(column[case][:16] for column in columns) + " |")
    by_case: dict[str, set[str]] = {}
    for column in columns:
        for name, digest in column.items():
            by_case.setdefault(name.partition(";")[0], set()).add(digest)
    differing = [case for case, found in by_case.items() if len(found) > 1]
    print(f"differ: {', '.join(differing)}" if differing else "equal for every number of workers and every checkout")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
