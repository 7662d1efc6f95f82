"""Do real faults to real runs, and compare their weights with those of an undisturbed one.

    python -m scripts.chaos.run [--faults 100] [--runs N] [--seed 0] [--only KIND]... [--keep DIR] [--json]

A reference is trained in one process, without Ray. Then the same is trained again and again by real commands on real
Ray workers, on a Ray of its own or on several nodes, while faults of all kinds are done to it; whenever its driver has
died, it is resumed. Kinds, order, places and pauses follow from the seed; each fault comes when the run has reached a
step.

Printed for each kind: how often it was done, how often the run went on (or could be resumed, after the exit code that
belongs to it), how often it ended with the reference's digest, and the seconds lost. These are the time until the next
fault or the end, less what as many steps take when nothing is in the way (the median epoch of the same run).

Aim: nothing wrong. Where the driver need not die, it must not, and does each step once. Ten seconds after any end of a
run or of its Ray, no process, no file in /dev/shm and no directory of Ray's may be left of it; files that are not the
run's must be as they were. The files of a run with anything wrong are kept, and named. Linux only.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import cnnpar
from scripts.chaos.disk import mount
from scripts.chaos.kinds import KINDS
from scripts.chaos.nodes import QUICK, Nodes
from scripts.chaos.plan import Fault, Plan, schedule
from scripts.chaos.settings import EPOCH, SETTINGS
from scripts.chaos.training_run import ENVIRONMENT, Broken, Run, Skipped
from scripts.harness import Report, Table, make_parser

FAULTS_OF_A_RUN = 5
SPACING = 250  # steps from fault to fault: four seconds or more
AFTER = 0.5  # of that many steps, after the last fault


def disturb(plan: Plan, folder: Path, settings: dict[str, Any], nodes: Nodes | None, finished: Path) -> None:
    """Train a run, do its faults to it, and note in the plan what came of them; `finished`: directory of another."""
    disk = mount(folder / "disk") if any(fault.kind.disk for fault in plan.faults) else None
    run = Run(folder, settings, plan.workers, plan.transport, nodes, disk, finished)
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
    """Wait for a run; if it did not survive the fault before, start it again, once."""
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
    """Copy the package as it is now to a folder: a change to it meanwhile could change bits."""
    shutil.copytree(Path(cnnpar.__file__).parent, folder / "cnnpar", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def reference(folder: Path, settings: dict[str, Any]) -> tuple[str, Path]:
    """Train an undisturbed run in one process; its digest, and its directory."""
    run = Run(folder, settings, "0", "direct")
    try:
        run.end(0)
        return str(run.result()["weights_sha256"]), run.directory
    finally:
        run.clear()


def disturb_all(plans: Sequence[Plan], root: Path, settings: dict[str, Any], steps: int, keep: Path | None) -> str:
    """Train the reference and all runs; the reference's digest. What is wrong with a run is added to its plan."""
    began = time.monotonic()
    nodes: Nodes | None = None
    try:
        digest, finished = reference(root / "reference", settings)
        print(f"{len(plans)} runs; the reference of {steps} steps has {digest}", flush=True)
        for number, plan in enumerate(plans, 1):
            if plan.cluster:
                nodes = nodes or Nodes(root / "nodes", {**QUICK, "PYTHONPATH": ENVIRONMENT["PYTHONPATH"]})
                nodes.restore()
            where = "on several nodes" if plan.cluster else "on its own Ray"
            print(f"[{time.monotonic() - began:3.0f} s] run {number}: {plan.workers} {plan.transport} workers {where}")
            folder = root / f"{number:03}"
            disturb(plan, folder, settings, nodes if plan.cluster else None, finished)
            if keep:
                folder = Path(shutil.move(folder, keep / folder.name))
            plan.wrong += [f"{fault.kind.name}: {fault.trouble}" for fault in plan.faults if fault.trouble]
            if plan.digest != digest:
                plan.wrong.append(f"its digest is {plan.digest or 'unknown'}")
            plan.wrong = [f"run {number}: {line}; its files: {folder}" for line in plan.wrong]
            print("".join(f"  WRONG: {line}\n" for line in plan.wrong), end="", flush=True)
            if not (plan.wrong or keep):
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        if nodes:
            nodes.close()
    return digest


def row(name: str, plans: Sequence[Plan], digest: str) -> dict[str, Any]:
    """Sum up what came of one kind of faults."""
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
    """Print the table, and why faults were not done."""
    print()
    table = Table(f"{'fault':<34}", "times", "survived", "same digest", "seconds lost, median", "most")
    counts = "count", "survived", "same_digest"
    for one in rows:
        lost = ["" if one[key] is None else f"{one[key]:.1f}" for key in ("lost_median_s", "lost_max_s")]
        table.row(one["kind"], *(one[key] for key in counts), *lost)
    table.row("**all**", *(sum(one[key] for one in rows) for key in counts), "", "")
    for one in rows:
        for reason in sorted(set(one["skipped"])):
            print(f"{one['kind']}: {one['skipped'].count(reason)} times not done, because {reason}")


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--faults", type=int, default=100, help="in all")
    parser.add_argument("--runs", type=int, help=f"that they are dealt out to (default: one for {FAULTS_OF_A_RUN})")
    parser.add_argument("--seed", type=int, default=0, help="decides kinds, order, steps and pauses")
    parser.add_argument("--only", action="append", choices=KINDS, metavar="KIND", help="; ".join(KINDS))
    parser.add_argument("--spacing", type=int, default=SPACING, help="steps from one fault to the next")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="put the files of all runs there")
    options = parser.parse_args()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it, and so would the runs
    began = time.monotonic()
    report = Report()
    kinds = [KINDS[name] for name in options.only or KINDS]
    runs = options.runs or -(-options.faults // FAULTS_OF_A_RUN)
    plans = schedule(options.faults, runs, options.seed, kinds, options.spacing)
    epochs = ceil(options.spacing * (max(len(plan.faults) for plan in plans) + AFTER) / EPOCH)
    settings = {**SETTINGS, "train": {**SETTINGS["train"], "epochs": epochs}}
    root = Path(tempfile.mkdtemp(prefix="ch-", dir="/tmp"))  # Ray's sockets need short names
    ENVIRONMENT["PYTHONPATH"] = str(snapshot(root / "code"))
    digest = disturb_all(plans, root, settings, epochs * EPOCH, options.keep)
    wrong = [line for plan in plans for line in plan.wrong]
    if not wrong:
        shutil.rmtree(root, ignore_errors=True)
    rows = [row(kind.name, plans, digest) for kind in kinds]
    show(rows)
    seconds = round(time.monotonic() - began)
    print(f"seed {options.seed}, {seconds} s")
    report.check("things that were wrong", len(wrong), "at most", 0)
    results = {"seed": options.seed, "digest": digest, "seconds": seconds, "wrong": wrong, "table": rows}
    return report.end(results, options.json)


if __name__ == "__main__":
    sys.exit(main())
