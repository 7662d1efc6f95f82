"""Does everything bad to real runs that they must survive, and compares their weights with those of a quiet one.

    python scripts/chaos.py [--faults 100] [--runs N] [--seed 0] [--only KIND]... [--keep DIR] [--json]

A reference is trained in one process, without Ray. Then the same is trained again and again by real commands on real
Ray workers, on a Ray of its own or on several nodes, while faults of all kinds hit it, and is resumed whenever its
driver has died. Kinds, order, places and pauses follow from the seed; each fault comes when the run has reached a step.

The table says of each kind how often it was done, how often the run went on (or could be resumed, after the exit code
that belongs to it), and how often it ended with the reference's digest. The time lost by a fault is that up to the next
one, less what as many steps take when nothing is in the way (the median epoch of the same run). Nothing of a run may be
left ten seconds after any of its ends, no process and no file in /dev/shm; but for Ray's two agents, which take a
minute to notice that their head is dead.

Exit code 1 if anything was not as it must be; the files of such a run are kept, and named. Linux only.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import cnnpar
from scripts.chaos.disk import mount
from scripts.chaos.kinds import KINDS
from scripts.chaos.nodes import QUICK, Nodes
from scripts.chaos.plan import Fault, Plan, schedule
from scripts.chaos.training_run import ENVIRONMENT, Broken, Run, Skipped

FAULTS_OF_A_RUN = 5
SPACING = 250  # steps from fault to fault: four seconds or more
EPOCH = 6  # steps: five batches, and a short one
SETTINGS: dict[str, Any] = {
    "model": {
        "layers": [
            {"type": "conv2d", "channels": 24, "kernel": 3, "padding": "same"},
            {"type": "relu"},
            {"type": "conv2d", "channels": 32, "kernel": 3, "padding": "same"},
            {"type": "relu"},
            {"type": "maxpool2d", "size": 2},
            {"type": "flatten"},
            {"type": "dense", "units": 256},
            {"type": "relu"},
            {"type": "dropout", "rate": 0.25},
            {"type": "dense"},
        ]
    },
    "augment": {"shift": 1},
    "train": {"batch_size": 256, "microbatch": 16},
    "engine": {"give_up_after": 4.0, "start_timeout": 60.0},
    "checkpoint": {"every_seconds": 0.5},
    "report": {"every_steps": 1},
}


def play(plan: Plan, folder: Path, settings: dict[str, Any], steps: int, nodes: Nodes | None) -> None:
    """Have a run suffer its faults, and note what comes of it."""
    disk = mount(folder / "disk") if any(fault.kind.disk for fault in plan.faults) else None
    run = Run(folder, settings, steps, plan.workers, plan.transport, nodes, disk)
    last: Fault | None = None
    try:
        for fault in plan.faults:
            try:
                go_on(run, last, partial(run.reach, fault.step))
                time.sleep(fault.pause)
                fault.moment = time.monotonic()
                fault.kind.act(run, Random(fault.seed))
            except Skipped as reason:
                fault.skipped = str(reason)
            except Broken as trouble:
                fault.trouble = str(trouble)
            print(f"  step {run.step:>5}: {fault.kind.name} {fault.skipped}{fault.trouble}".rstrip(), flush=True)
            last = fault
        go_on(run, last, partial(run.end, 0))
        plan.digest = run.result()["weights_sha256"]
        done = [fault for fault in plan.faults if fault.moment]
        for fault, lost in zip(done, run.lost([fault.moment for fault in done], EPOCH), strict=True):
            fault.lost = lost
    except Broken as trouble:
        plan.wrong.append(str(trouble))
        run.driver.kill()
    finally:
        run.check_leftovers()
        plan.wrong += run.wrong
        run.clear()


def go_on(run: Run, last: Fault | None, wait: Callable[[], object]) -> None:
    """Wait for a run; if it does not survive what was done to it last, start it again, once."""
    try:
        wait()
    except Broken as trouble:
        if last is None:
            raise
        last.trouble = last.trouble or str(trouble)
        run.driver.kill()
        run.driver.wait()
        run.begin()
        wait()


def snapshot(folder: Path) -> Path:
    """A folder with the package as it is now: somebody may work on it meanwhile, and other code gives other bits."""
    shutil.copytree(Path(cnnpar.__file__).parent, folder / "cnnpar", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def reference(folder: Path, settings: dict[str, Any], steps: int) -> str:
    """The digest of a run that nobody disturbs, in one process."""
    run = Run(folder, settings, steps, "0", "direct")
    try:
        run.end(0)
        return str(run.result()["weights_sha256"])
    finally:
        run.clear()


def row(name: str, plans: Sequence[Plan], digest: str) -> dict[str, Any]:
    """What there is to say of one kind."""
    planned = [(fault, plan) for plan in plans for fault in plan.faults if fault.kind.name == name]
    done = [(fault, plan) for fault, plan in planned if fault.moment and not fault.skipped]
    lost = [fault.lost for fault, _ in done if fault.lost is not None]
    return {
        "kind": name,
        "count": len(done),
        "survived": sum(not fault.trouble for fault, _ in done),
        "same_digest": sum(plan.digest == digest for _, plan in done),
        "lost_median_s": round(median(lost), 2) if lost else None,
        "lost_max_s": round(max(lost), 2) if lost else None,
        "skipped": [fault.skipped for fault, _ in planned if fault.skipped],
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The table, as it stands in the README."""
    print("\n| fault | times | survived | same digest | seconds lost, median | most |")
    print("| --- | --- | --- | --- | --- | --- |")
    counts = "count", "survived", "same_digest"
    for one in rows:
        lost = ["" if one[key] is None else f"{one[key]:.1f}" for key in ("lost_median_s", "lost_max_s")]
        print("|", " | ".join([one["kind"], *(str(one[key]) for key in counts), *lost]), "|")
    print("|", " | ".join(["**all**", *(str(sum(one[key] for one in rows)) for key in counts)]), "| | |")
    for one in rows:
        for reason in sorted(set(one["skipped"])):
            print(f"{one['kind']}: {one['skipped'].count(reason)} times not done, because {reason}")


def faults_of(plan: Plan, digest: str) -> list[str]:
    """What was not as it must be."""
    bad = [*plan.wrong, *(f"{fault.kind.name}: {fault.trouble}" for fault in plan.faults if fault.trouble)]
    return bad if plan.digest == digest else [*bad, f"its digest is {plan.digest or 'unknown'}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=100, help="in all")
    parser.add_argument("--runs", type=int, help=f"that they are dealt out to (default: one for {FAULTS_OF_A_RUN})")
    parser.add_argument("--seed", type=int, default=0, help="decides kinds, order, steps and pauses")
    parser.add_argument("--only", action="append", choices=KINDS, metavar="KIND", help="; ".join(KINDS))
    parser.add_argument("--spacing", type=int, default=SPACING, help="steps from one fault to the next")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="put the files of all runs there")
    parser.add_argument("--json", action="store_true", help="print all results as one object, on the last line")
    options = parser.parse_args()

    began = time.monotonic()
    kinds = [KINDS[name] for name in options.only or KINDS]
    runs = options.runs or -(-options.faults // FAULTS_OF_A_RUN)
    plans = schedule(options.faults, runs, options.seed, kinds, options.spacing)
    epochs = -(-options.spacing * max(len(plan.faults) for plan in plans) // EPOCH)
    steps = epochs * EPOCH
    settings = {**SETTINGS, "train": {**SETTINGS["train"], "epochs": epochs}}
    root = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # Ray's sockets need short names
    ENVIRONMENT["PYTHONPATH"] = str(snapshot(root / "code"))
    nodes: Nodes | None = None
    bad: list[str] = []
    try:
        digest = reference(root / "reference", settings, steps)
        print(f"{len(plans)} runs, seed {options.seed}; the reference of {steps} steps has {digest}", flush=True)
        for number, plan in enumerate(plans, 1):
            if plan.cluster:
                nodes = nodes or Nodes(root / "nodes", 1, {**QUICK, "PYTHONPATH": ENVIRONMENT["PYTHONPATH"]})
                nodes.restore()
            where = "on several nodes" if plan.cluster else "on its own Ray"
            print(f"[{time.monotonic() - began:3.0f} s] run {number}: {plan.workers} {plan.transport} workers {where}")
            folder = root / f"{number:03}"
            play(plan, folder, settings, steps, nodes if plan.cluster else None)
            if options.keep:
                folder = Path(shutil.move(folder, options.keep / folder.name))
            found = [f"run {number}: {line}; its files: {folder}" for line in faults_of(plan, digest)]
            print("\n".join(f"  WRONG: {line}" for line in found), end="\n" if found else "", flush=True)
            if not (found or options.keep):
                shutil.rmtree(folder, ignore_errors=True)
            bad += found
    finally:
        if nodes:
            nodes.close()
    if not bad:
        shutil.rmtree(root, ignore_errors=True)
    rows = [row(kind.name, plans, digest) for kind in kinds]
    show(rows)
    seconds = round(time.monotonic() - began)
    print(f"{seconds} s; {'all as it must be' if not bad else f'{len(bad)} things WRONG, see above'}")
    if options.json:
        print(json.dumps({"seed": options.seed, "digest": digest, "seconds": seconds, "wrong": bad, "table": rows}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
