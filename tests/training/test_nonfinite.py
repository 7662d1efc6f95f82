"""Losses and gradients beyond float32: the run stops and says where, or skips such steps and stays exact."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.sections import Config, Engine
from cnnpar.errors import DivergedError, InputError
from cnnpar.run.recorder import Recorder
from cnnpar.run.summary import Summary, as_text
from cnnpar.storage.checkpoint import encode, read
from cnnpar.storage.packing import pack, unpack
from cnnpar.storage.rundir import RunFiles
from cnnpar.storage.saver import Saver
from tests.helpers.checkpoints import NETWORK, PREPROCESSING, file_of, made_state
from tests.helpers.observers import Notes, Stopping
from tests.helpers.run_files import assert_same_run, metrics
from tests.helpers.tiny_runs import LAYERS, settings, train, write_csv

STEPS = 15


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "train.csv")


def steep(csv: Path, rate: float, on_nonfinite: str = "skip", layers: Any = None) -> Config:
    """Return settings of a run whose weights grow so large that the loss of some batches overflows."""
    return settings(
        csv,
        model={"layers": layers or [LAYERS[3], LAYERS[4], LAYERS[5]]},
        train={"on_nonfinite": on_nonfinite},
        optimizer={"learning_rate": rate, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        schedule={"type": "constant"},
    )


def test_skipped_steps_are_counted_and_left_out_of_the_means(tmp_path: Path, csv: Path) -> None:
    progress = Notes()
    summary = train(steep(csv, 2e37), tmp_path / "run", progress=progress)
    assert (summary.steps, summary.samples) == (STEPS, 3 * 36)  # as if all had counted
    assert 0 < summary.skipped_steps < STEPS
    lines = metrics(tmp_path / "run")
    skipped = [line for line in lines if "skipped" in line]
    assert [line["skipped_steps"] for line in skipped] == list(range(1, summary.skipped_steps + 1))
    assert {line["skipped"] for line in skipped} == {"the loss is not finite"}
    assert sorted(line["step"] for line in lines if "train_loss" not in line) == list(range(1, STEPS + 1))
    for epoch in (line for line in lines if "train_loss" in line):
        own = [line["loss"] for line in lines if "loss" in line and line["epoch"] == epoch["epoch"]]
        assert min(own) <= epoch["train_loss"] <= max(own)
    first = skipped[0]["step"]
    digests = {line["step"]: line["weights_sha256"] for line in lines if "loss" in line}
    told = [note for note in progress.notes if note.startswith("step ")]
    assert told == [f"step {first} is skipped: the loss is not finite"]  # the others came within ten seconds
    assert first - 1 in digests
    state = unpack(read(tmp_path / "run" / "model.json"), "")[1]
    assert state.skipped == summary.skipped_steps
    assert np.isfinite(state.parameters).all()
    assert f"\n{summary.skipped_steps} steps were skipped" in "\n" + as_text(summary, None, Engine())


def test_stops_change_nothing_in_a_run_with_skipped_steps(tmp_path: Path, csv: Path) -> None:
    wanted = steep(csv, 2e37)
    whole = train(wanted, tmp_path / "whole")
    model = tmp_path / "cut" / "model.json"
    for step in range(1, STEPS + 1):
        train(wanted, tmp_path / "cut", model if step > 1 else None, AtStep(step))
        assert read(model).state.step == step
    assert train(wanted, None, model).skipped_steps == whole.skipped_steps > 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


class AtStep(Stopping):
    """Stop at that step, skipped or not."""

    def note(self, text: str) -> None:
        if text.startswith(f"step {self.at} is skipped"):
            signal.raise_signal(self.number)


def test_skipped_step_leaves_parameters_and_optimizer_unchanged(tmp_path: Path, csv: Path) -> None:
    wanted = steep(csv, 2e37)
    train(wanted, tmp_path / "run")
    first = next(line["step"] for line in metrics(tmp_path / "run") if "skipped" in line)
    states = []
    for step in (first - 1, first):
        train(wanted, tmp_path / str(step), progress=AtStep(step))
        states.append(unpack(read(tmp_path / str(step) / "model.json"), "")[1])
    assert states[0].parameters.tobytes() == states[1].parameters.tobytes()
    assert {name: vector.tobytes() for name, vector in states[0].optimizer.items()} == {
        name: vector.tobytes() for name, vector in states[1].optimizer.items()
    }
    assert (states[1].step, states[1].sums) == (first, states[0].sums)


def test_epoch_of_only_skipped_steps_ends_the_run(tmp_path: Path, csv: Path) -> None:
    with pytest.raises(DivergedError, match="epoch 2: not one of its 5 steps had a finite loss"):
        train(steep(csv, 1e38), tmp_path / "run")
    state = unpack(read(tmp_path / "run" / "model.json"), "")[1]
    assert (state.epoch, state.index) == (1, 0)
    assert np.isfinite(state.parameters).all()


@pytest.mark.parametrize("on_nonfinite", ["stop", "skip"])
def test_weights_that_are_not_finite_end_the_run_either_way(tmp_path: Path, csv: Path, on_nonfinite: str) -> None:
    with pytest.raises(DivergedError, match=r"^step 2 \(learning rate 3e\+38\): the weights dense1\.\w+ are"):
        train(steep(csv, 3e38, on_nonfinite), tmp_path / "run")
    assert read(tmp_path / "run" / "model.json").state.step == 0  # saved before the first step


def test_a_loss_that_overflows_names_the_largest_weight(tmp_path: Path, csv: Path) -> None:
    with pytest.raises(DivergedError, match=r": the loss is not finite; the largest weight is \d\S*e\+37 in dense1\."):
        train(steep(csv, 2e37, "stop"), tmp_path / "run")


def test_overflow_in_backward_names_the_gradient_it_began_at(tmp_path: Path, csv: Path) -> None:
    """The loss and the last layer's gradient are finite; its weights make the gradient of the layer before overflow."""
    layers = [LAYERS[3], {"type": "dense", "units": 4}, {"type": "dense"}]
    wanted, model = steep(csv, 1e-9, "stop", layers), tmp_path / "run" / "model.json"
    train(wanted, tmp_path / "run", progress=Stopping(1))
    payload = read(model)
    network, state = unpack(payload, "")
    views = network.layout.views(state.parameters)
    views["dense1.weight"][...] = 0  # so that the large weights meet nothing on the way forward
    views["dense1.bias"][...] = 0
    views["dense2.weight"][...] = np.float32(3e38) * np.sign(views["dense2.weight"])
    known = payload.preprocessing, state, payload.fingerprint, payload.data_fingerprint
    model.write_bytes(encode(pack(payload.config, network, *known)))
    with pytest.raises(DivergedError, match=r"the gradient of dense1\.bias is not finite"):
        train(wanted, None, model)


def test_on_nonfinite_may_not_change_on_resume(tmp_path: Path, csv: Path) -> None:
    train(steep(csv, 2e37), tmp_path / "run", progress=Stopping(1))
    with pytest.raises(InputError, match=r"train\.on_nonfinite was skip and is now stop"):
        train(steep(csv, 2e37, "stop"), None, tmp_path / "run" / "model.json")


def test_a_checkpoint_without_skipped_steps_field_is_resumed(tmp_path: Path, csv: Path) -> None:
    wanted = settings(csv)
    whole = train(wanted, tmp_path / "whole")
    train(wanted, tmp_path / "cut", progress=Stopping(7))
    model = tmp_path / "cut" / "model.json"
    tree = json.loads(model.read_text())["payload"]
    del tree["state"]["skipped_steps"], tree["config"]["train"]["on_nonfinite"]
    del tree["config"]["train"]["clip_value"], tree["config"]["train"]["clip_norm"]
    for name in ("min_workers", "max_worker_failures", "deadline_factor", "deadline_floor", "give_up_after"):
        del tree["config"]["engine"][name]
    model.write_bytes(file_of(tree))
    assert train(wanted, None, model).weights_sha256 == whole.weights_sha256


def test_skipped_steps_are_shown_at_most_every_ten_seconds(tmp_path: Path) -> None:
    now, progress = 0.0, Notes()
    files = RunFiles.at(tmp_path, None)
    state = made_state()
    recorder = Recorder(
        Config(),
        files,
        progress,
        lambda state: pack(Config(), NETWORK, PREPROCESSING, state, {}, ""),
        Saver(progress.note),
        None,
        lambda: True,
        lambda: now,
    )
    for hundredth in range(3000):
        now = hundredth / 100
        state.skip(1, now)
        recorder.step_skipped(state, 1, "the loss is not finite", 0.1)
    recorder.close(state)
    assert [note.partition(" is skipped")[2] for note in progress.notes] == [
        ": the loss is not finite",
        ": the loss is not finite (1,000 skipped since the line before)",
        ": the loss is not finite (1,000 skipped since the line before)",
    ]
    assert len(files.metrics.read_text().splitlines()) == 3000


def test_impossible_counts_of_skipped_steps_are_refused(tmp_path: Path, csv: Path) -> None:
    train(steep(csv, 2e37), tmp_path / "run", progress=Stopping(3))
    tree = json.loads((tmp_path / "run" / "model.json").read_text())["payload"]
    changes: list[dict[str, int]] = [{"skipped_steps": 16}, {"skipped_steps": 1, "epoch_count": 0, "epoch_correct": 0}]
    for change in changes:
        bad = {**tree, "state": {**tree["state"], **change}}
        (tmp_path / "bad.json").write_bytes(file_of(bad))
        with pytest.raises(InputError, match=r"\$\.payload\.state\.(skipped_steps|epoch_count)"):
            train(steep(csv, 2e37), tmp_path / "new", tmp_path / "bad.json")


def test_the_summary_does_not_mention_skipped_steps_without_any(tmp_path: Path, csv: Path) -> None:
    summary: Summary = train(settings(csv, train={"epochs": 1}), tmp_path / "run")
    assert summary.skipped_steps == 0
    assert "skipped" not in as_text(summary, None, Engine())
