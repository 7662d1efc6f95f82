"""Stop and resume: wherever a run is stopped, its weights, history and metrics are those of a run in one go."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from cnnpar.config.resolve import to_toml
from cnnpar.errors import InputError
from cnnpar.run.summary import Summary
from cnnpar.storage.checkpoint import encode, read
from cnnpar.storage.packing import unpack
from tests.helpers.checkpoints import file_of
from tests.helpers.commands import start
from tests.helpers.observers import Patient, Stopping, wait_for_step
from tests.helpers.run_files import assert_same_run, metrics
from tests.helpers.tiny_runs import LAYERS, Lines, settings, train, write_csv

STEPS = 15  # of the whole run; 5 make an epoch
OPTIMIZERS: list[dict[str, Any]] = [
    {"type": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": False},
    {"type": "adam", "learning_rate": 0.01},
    {"type": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
    {"type": "lamb", "learning_rate": 0.01},
]
ARRAYS = ["base64", "decimal", "base64", "decimal"]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "train.csv")


@pytest.mark.parametrize(
    ("optimizer", "arrays"), list(zip(OPTIMIZERS, ARRAYS, strict=True)), ids=["sgd", "adam", "adamw", "lamb"]
)
def test_stopping_after_every_step_changes_nothing(
    tmp_path: Path, csv: Path, optimizer: dict[str, Any], arrays: str
) -> None:
    wanted = settings(csv, optimizer=optimizer, checkpoint={"arrays": arrays})
    whole = train(wanted, tmp_path / "whole")
    assert whole.steps == STEPS
    model = tmp_path / "cut" / "model.json"
    for step in range(1, STEPS + 1):
        part = train(wanted, tmp_path / "cut", model if step > 1 else None, Stopping(step))
        assert (part.steps, part.stopped_by) == (step, "SIGTERM")
    last = train(wanted, None, model)
    assert (last.weights_sha256, last.stopped_by) == (whole.weights_sha256, None)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("step", [4, 9, 10, 11])
def test_one_stop_changes_nothing_with_a_plain_last_epoch(tmp_path: Path, csv: Path, step: int) -> None:
    points = [[0, 0.1], [0.3, 1], [0.6, 0], [0.7, 0.2], [1, 0]]
    augment = {"rotation": 20, "mixup": 0.5, "plain_epochs": 1}
    wanted = settings(csv, augment=augment, schedule={"type": "piecewise", "points": points})
    whole = train(wanted, tmp_path / "whole")
    assert whole.steps == STEPS
    train(wanted, tmp_path / "cut", progress=Stopping(step))
    other = settings(csv, augment=augment, schedule={"type": "piecewise", "points": [*points[:4], [1, 0.1]]})
    with pytest.raises(InputError, match=r"schedule\.points\[4\]\[1\] was 0\.0 and is now 0\.1;"):
        train(other, None, tmp_path / "cut" / "model.json")
    train(wanted, None, tmp_path / "cut" / "model.json")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("step", [1, 7, 10])
def test_one_stop_changes_nothing_with_shifted_copies(tmp_path: Path, csv: Path, step: int) -> None:
    wanted = settings(csv, augment={"ratio": 4}, train={"epochs": 1, "batch_size": 16})
    whole = train(wanted, tmp_path / "whole")
    train(wanted, tmp_path / "cut", progress=Stopping(step, signal.SIGINT))
    train(wanted, None, tmp_path / "cut" / "model.json")
    assert whole.steps > 10
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.fixture
def stopped(tmp_path: Path, csv: Path) -> Path:
    """Return the checkpoint of a run that was stopped in the middle of its second epoch."""
    summary = train(settings(csv), tmp_path / "cut", progress=Stopping(7))
    assert (summary.epochs, summary.steps) == (1, 7)
    return tmp_path / "cut" / "model.json"


def test_checkpoint_without_newer_layer_settings_is_resumed(csv: Path, stopped: Path) -> None:
    payload = read(stopped)
    for key in ("groups", "dilation"):
        del payload.network[0][key]
    stopped.write_bytes(encode(payload))
    assert train(settings(csv), None, stopped).steps == STEPS


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"train": {"seed": 1}}, "train.seed was 0 and is now 1"),
        ({"train": {"batch_size": 9}}, "train.batch_size was 8 and is now 9"),
        ({"train": {"microbatch": 8}}, "train.microbatch was 4 and is now 8"),
        ({"train": {"clip_norm": 0.5}}, "train.clip_norm was 0.0 and is now 0.5"),
        ({"optimizer": {"type": "sgd", "momentum": 0.5}}, "optimizer.momentum was 0.9 and is now 0.5"),
        ({"optimizer": {"type": "adam"}}, "optimizer.type was sgd and is now adam"),
        ({"schedule": {"type": "constant"}}, "schedule.type was one_cycle and is now constant"),
        ({"augment": {"shift": 0}}, "augment.shift was 1 and is now 0"),
        ({"augment": {"ratio": 4}}, "augment.ratio was 1 and is now 4"),
        ({"augment": {"rotation": 5.0}}, "augment.rotation was 0.0 and is now 5.0"),
        ({"augment": {"plain_epochs": 1}}, "augment.plain_epochs was 0 and is now 1"),
        ({"loss": {"class_weights": [1, 2, 3]}}, r"loss.class_weights\[0\] was missing and is now 1.0"),
        ({"model": {"kernels": "numpy"}}, "model.kernels was fast and is now numpy"),
        ({"data": {"validation": 0.2}}, "data"),
        ({"model": {"layers": [{**LAYERS[0], "kernel": 5}, *LAYERS[1:]]}}, "layer 1 was "),
        ({"model": {"layers": [*LAYERS[:4], *LAYERS[5:]]}}, "layer 5 was "),
    ],
)
def test_settings_that_would_change_the_weights_are_refused(
    stopped: Path, csv: Path, changes: dict[str, Any], what: str
) -> None:
    before = {path: path.read_bytes() for path in stopped.parent.iterdir()}
    with pytest.raises(InputError, match=f"^{stopped}: cannot resume: .*{what}") as caught:
        train(settings(csv, **changes), None, stopped)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert {path: path.read_bytes() for path in stopped.parent.iterdir()} == before


def test_changed_samples_are_refused(stopped: Path, csv: Path) -> None:
    write_csv(csv, seed=1)
    with pytest.raises(InputError, match="data are not those the run began with"):
        train(settings(csv), None, stopped)


def test_settings_that_leave_the_weights_alone_may_change(tmp_path: Path, stopped: Path, csv: Path) -> None:
    whole = train(settings(csv), tmp_path / "whole")
    moved = csv.rename(tmp_path / "moved.csv")
    spelled_out = read(stopped).network  # the same network, with every default written down
    changed = settings(
        moved,
        data={"test": str(write_csv(tmp_path / "test.csv", seed=2))},
        model={"layers": spelled_out},
        engine={"step_timeout": 7},
        checkpoint={"arrays": "decimal", "every_seconds": 1},
        report={"every_steps": 2},
    )
    summary = train(changed, None, stopped)
    assert summary.weights_sha256 == whole.weights_sha256
    assert summary.test_accuracy is not None


def test_more_epochs_go_on_from_a_finished_run(tmp_path: Path, csv: Path) -> None:
    constant = {"schedule": {"type": "constant"}}
    train(settings(csv, **constant), tmp_path / "short")
    longer = settings(csv, **constant, train={"epochs": 4})
    train(longer, None, tmp_path / "short" / "model.json")
    train(longer, tmp_path / "long")
    assert_same_run(tmp_path / "short", tmp_path / "long")


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"schedule": {"type": "constant"}}, ""),
        ({"schedule": {"type": "constant"}, "augment": {"plain_epochs": 1}}, "augment.plain_epochs"),
        ({"schedule": {"type": "constant"}, "augment": {"plain_epochs": 4}}, ""),
        ({"schedule": {"type": "step"}}, ""),
        ({"schedule": {"type": "cosine"}}, "the schedule"),
        ({"schedule": {"type": "one_cycle"}}, "the schedule"),
        ({"schedule": {"type": "piecewise"}, "augment": {"plain_epochs": 3}}, "the schedule and augment.plain_epochs"),
    ],
)
def test_more_epochs_are_noted_if_the_weights_depend_on_them(
    tmp_path: Path, csv: Path, changes: dict[str, Any], moved: str
) -> None:
    train(settings(csv, **changes), tmp_path)
    for epochs in (3, 4):
        told = Lines()
        train(settings(csv, **changes, train={"epochs": epochs}), None, tmp_path / "model.json", told)
        notes = [line for line in told.lines if "other weights" in line]
        expected = f"train.epochs was 3 and is now 4, which moves {moved}: other weights than with 4 from the start"
        assert notes == ([expected] if moved and epochs == 4 else [])


def test_resume_of_a_finished_run_trains_nothing(tmp_path: Path, csv: Path) -> None:
    wanted = settings(csv, data={"test": str(csv)})
    first = train(wanted, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    second = train(wanted, None, tmp_path / "run" / "model.json", Stopping(STEPS))
    assert second == Summary(**{**as_dict(second), **as_dict(first)})
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def as_dict(summary: Summary) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in summary.__struct_fields__}


@pytest.mark.parametrize("name", ["model.prev.json", "best.json"])
def test_resume_from_an_earlier_checkpoint_gives_the_same_run(tmp_path: Path, csv: Path, name: str) -> None:
    wanted = settings(csv)
    train(wanted, tmp_path / "whole", progress=Patient(tmp_path / "whole" / "model.json"))
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    checkpoint = tmp_path / "again" / name
    assert read(checkpoint).state.step < STEPS
    (tmp_path / "again" / "model.json").unlink()
    train(wanted, None, checkpoint)
    assert_same_run(tmp_path / "whole", tmp_path / "again")


def test_the_checkpoint_before_the_last_is_the_epoch_before(tmp_path: Path, csv: Path) -> None:
    train(settings(csv), tmp_path / "run", progress=Patient(tmp_path / "run" / "model.json"))
    assert [read(tmp_path / "run" / name).state.epoch for name in ("model.json", "model.prev.json")] == [3, 2]


def test_resume_in_another_directory_leaves_the_first_unchanged(tmp_path: Path, csv: Path, stopped: Path) -> None:
    before = {path: path.read_bytes() for path in stopped.parent.iterdir()}
    summary = train(settings(csv), tmp_path / "new", stopped)
    assert (summary.run_dir, summary.steps) == (str(tmp_path / "new"), STEPS)
    assert {path: path.read_bytes() for path in stopped.parent.iterdir()} == before


def test_resume_from_another_name_says_where_it_writes(tmp_path: Path, csv: Path, stopped: Path) -> None:
    kept = stopped.rename(tmp_path / "kept.json")
    content, told = kept.read_bytes(), Lines()
    train(settings(csv), None, kept, told)
    assert f"its newest checkpoint will be {tmp_path / 'model.json'}; --to-path puts it elsewhere" in told.lines
    assert (kept.read_bytes(), read(tmp_path / "model.json").state.epoch) == (content, 3)
    for place, again in (("a", kept), ("a", tmp_path / "a" / "model.json")):
        told = Lines()
        train(settings(csv), tmp_path / place, again, told)
        assert "its newest checkpoint" not in "\n".join(told.lines)


def test_counters_that_do_not_fit_the_data_are_refused(tmp_path: Path, csv: Path, stopped: Path) -> None:
    for name, value in (("index", 3), ("step", 8), ("index", 10**9)):
        tree = json.loads(stopped.read_bytes())["payload"]
        tree["state"][name] = value
        path = tmp_path / "changed.json"
        path.write_bytes(file_of(tree))
        with pytest.raises(InputError, match=r"changed.json: \$.payload.state"):
            train(settings(csv), tmp_path / "new", path)
        assert not (tmp_path / "new").exists()


def test_resume_with_another_fingerprint_is_inexact_if_allowed(tmp_path: Path, csv: Path, stopped: Path) -> None:
    tree = json.loads(stopped.read_bytes())["payload"]
    tree["fingerprint"]["numpy"] = "1.0"
    stopped.write_bytes(file_of(tree))
    with pytest.raises(InputError, match=r"numpy: .* instead of 1\.0.*engine\.allow_inexact=true"):
        train(settings(csv), None, stopped)
    summary = train(settings(csv, engine={"allow_inexact": True}), None, stopped)
    assert not summary.exact
    assert not read(stopped).state.exact
    again = train(settings(csv), None, stopped)
    assert not again.exact


def test_two_runs_cannot_go_on_from_one_checkpoint_at_once(csv: Path, stopped: Path) -> None:
    class Second(Stopping):
        def step(self, epoch: int, step: int, *rest: Any) -> None:
            with pytest.raises(InputError, match=f"another run is under way there .process {os.getpid()} on host"):
                train(settings(csv), None, stopped)
            super().step(epoch, step, *rest)

    assert train(settings(csv), None, stopped, Second(8)).steps == 8


def test_kill_before_an_epochs_checkpoint_repeats_no_line(tmp_path: Path, csv: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(settings(csv), whole)
    train(settings(csv), cut, progress=Stopping(5))  # the last step of the first epoch
    lines = (whole / "metrics.jsonl").read_text().splitlines(keepends=True)
    with (cut / "metrics.jsonl").open("a") as file:
        file.write(lines[5])
    assert metrics(cut) == metrics(whole)[:6]
    train(settings(csv), None, cut / "model.json")
    assert_same_run(whole, cut)


def test_after_kills_each_step_is_recorded_once(tmp_path: Path, csv: Path) -> None:
    wanted = settings(csv, train={"epochs": 6, "batch_size": 2})  # 108 steps
    often = settings(csv, train={"epochs": 6, "batch_size": 2}, checkpoint={"every_seconds": 1e-9})
    (tmp_path / "run.toml").write_text(to_toml(often))
    arguments = ["--config", tmp_path / "run.toml", "--run-dir", "run", "--quiet"]
    model = tmp_path / "run" / "model.json"
    steps = 0
    for resume in ([], ["--resume"]):
        with start("cnnpar-train", *arguments, *resume, cwd=tmp_path) as process:
            wait_for_step(model, steps + 4, process.poll)
            process.kill()
        steps = unpack(read(model), "")[1].step
    assert steps < 108
    train(wanted, None, model)
    train(wanted, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_resume_from_an_older_checkpoint_overwrites_no_newer(tmp_path: Path, csv: Path) -> None:
    wanted = settings(csv)
    whole = train(wanted, tmp_path / "run", progress=Patient(tmp_path / "run" / "model.json"))
    older = tmp_path / "run" / "model.prev.json"
    assert read(older).state.step < whole.steps
    with pytest.raises(InputError, match=r"has come to step 15, model.prev.json only to step"):
        train(wanted, None, older)
    assert read(tmp_path / "run" / "model.json").state.step == whole.steps
    elsewhere = train(wanted, tmp_path / "elsewhere", older)
    assert elsewhere.weights_sha256 == whole.weights_sha256
    (tmp_path / "run" / "model.json").write_text("damaged")
    assert train(wanted, None, older).weights_sha256 == whole.weights_sha256
