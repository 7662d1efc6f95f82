"""A run that stands still is told so once, after its first epoch; one that diverges is told what to change."""

import signal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cnnpar.config.float32 import LARGEST, SMALLEST
from cnnpar.config.resolve import resolve, to_tables
from cnnpar.config.sections import Config
from cnnpar.errors import DivergedError, InputError
from cnnpar.nn.sums import Sums
from cnnpar.run.first_epoch import FirstEpoch
from cnnpar.training.advice import against_standing_still
from tests.config.test_float32 import SETTINGS
from tests.helpers.checkpoints import NETWORK
from tests.helpers.observers import Notes, Stopping
from tests.helpers.tiny_runs import LAYERS, settings, train, write_csv

DROPPED = [*LAYERS[3:4], {"type": "residual", "layers": [{"type": "dropout", "rate": 0.999999}]}, LAYERS[5]]


@pytest.fixture
def wanted(tmp_path: Path) -> Config:
    """Return settings of 3 epochs of 23 steps, without what varies from epoch to epoch."""
    csv = write_csv(tmp_path / "train.csv", 200)
    return settings(csv, augment={"shift": 0}, train={"ema_decay": 0.0}, model={"layers": LAYERS[3:6:2]})


def changed(config: Config, changes: dict[str, dict[str, Any]]) -> Config:
    tables = to_tables(config)
    return resolve({**tables, **{section: {**tables[section], **table} for section, table in changes.items()}})


def notes(config: Config, directory: Path) -> list[str]:
    """Return the lines about the first epoch, once the second one has begun."""

    class UntilTheSecond(Notes):
        def step(self, epoch: int, step: int, *rest: Any) -> None:
            if step == 30:
                signal.raise_signal(signal.SIGTERM)

    progress = UntilTheSecond()
    train(config, directory, progress=progress)
    return [note for note in progress.notes if "epoch 1" in note]


STILL = "the weights have hardly changed in epoch 1, by "
UNMOVED = "the training loss has not moved in epoch 1; most likely "
ADAM = {"type": "adam", "learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0}


@pytest.mark.parametrize(
    ("changes", "what", "reason"),
    [
        ({"optimizer": {"learning_rate": 1e-20}}, STILL, "optimizer.learning_rate = 1e-20 is too low"),
        ({"schedule": {"start": 0.0, "final": 0.0, "warmup": 0.999}, "train": {"epochs": 10**6}}, STILL, "schedule's"),
        ({"train": {"clip_value": 1e-20}}, UNMOVED, "train.clip_value = 1e-20 is too low"),
        ({"train": {"clip_norm": 1e-30}}, UNMOVED, "train.clip_norm = 1e-30 is too low"),
        ({"loss": {"class_weights": [1e-30] * 3}}, UNMOVED, "loss.class_weights, 1e-30 at most, are too low"),
        ({"loss": {"label_smoothing": 0.9999999}}, UNMOVED, "loss.label_smoothing is too close to 1"),
        ({"optimizer": {"weight_decay": 15.0}}, "", "optimizer.weight_decay = 15 is too high"),
        ({"optimizer": {"learning_rate": 1e4}}, "the training loss rose to ", "learning_rate = 10000 is too high"),
        (
            {"model": {"layers": DROPPED}, "optimizer": {"learning_rate": 1e-4}},
            "",
            "dropout's `rate` is too close to 1",
        ),
    ],
)
def test_a_run_that_stands_still_is_told_why(
    tmp_path: Path, wanted: Config, changes: dict[str, dict[str, Any]], what: str, reason: str
) -> None:
    (line,) = notes(changed(wanted, changes), tmp_path / "run")
    assert line.startswith(what)
    assert reason in line
    assert "\n" not in line


def test_large_epsilon_of_adam_is_named(tmp_path: Path, wanted: Config) -> None:
    (line,) = notes(resolve({**to_tables(wanted), "optimizer": {**ADAM, "epsilon": 1e30}}), tmp_path / "run")
    assert line.startswith(STILL)
    assert line.endswith("; most likely optimizer.epsilon = 1e+30 is too high")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": {"learning_rate": 1e-5}},
        {"train": {"clip_norm": 1e-3}},
        {"loss": {"class_weights": [1, 1, 0]}, "model": {"freeze": ["*.bias"]}, "optimizer": {"learning_rate": 1e-6}},
    ],
)
def test_a_run_that_learns_is_told_nothing(tmp_path: Path, wanted: Config, changes: dict[str, dict[str, Any]]) -> None:
    assert notes(changed(wanted, changes), tmp_path / "run") == []


EXTREMES = [
    (section, kind, key, value)
    for section, kind, key, _ in SETTINGS
    for value in (SMALLEST, LARGEST)
    if (section, key) != ("augment", "saturation")  # is for three channels
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "kind", "key", "value"),
    EXTREMES,
    ids=[f"{kind.__name__} {key} {value:g}" for _, kind, key, value in EXTREMES],
)
def test_an_extreme_setting_is_refused_or_trained_or_named(
    tmp_path: Path, wanted: Config, section: str, kind: type[msgspec.Struct], key: str, value: float
) -> None:
    tables = to_tables(wanted)
    tag = kind.__struct_config__.tag
    given = {"type": tag} if tag else tables[section]
    told = ""
    try:
        train(resolve({**tables, section: {**given, key: value}}), tmp_path / "run")
    except (InputError, DivergedError) as error:
        told = str(error)
    assert not told or f"{section}.{key}" in told or f"`{key}`" in told


def test_weights_of_0_are_named_only_where_the_loss_is_0() -> None:
    config = resolve({"loss": {"class_weights": [0, 1]}})
    assert against_standing_still(config, 0.1, 0.0) == "loss.class_weights are 0 for all classes that occur"
    assert against_standing_still(config, 0.1, 0.7) == ""


def test_only_the_first_epoch_of_a_run_is_looked_at(tmp_path: Path, wanted: Config) -> None:
    config = changed(wanted, {"optimizer": {"learning_rate": 1e-20}})
    train(config, tmp_path / "run", progress=Stopping(3))
    progress = Notes()
    train(config, None, tmp_path / "run" / "model.json", progress)
    assert not [note for note in progress.notes if "hardly" in note]


def test_unchanged_weights_without_a_strange_setting_point_at_the_data(wanted: Config) -> None:
    weights = NETWORK.init(0)
    watch = FirstEpoch(wanted, NETWORK.layout, weights)
    watch.step_done(Sums(1.0, 1, 8), 0.1)
    assert watch.warning(weights.copy()) == "no weight has changed in epoch 1; look at the data and the layers"
    assert watch.warning(weights + np.float32(0.01)) == ""


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"loss": {"class_weights": [1, 1, 1e35]}}, "smaller loss.class_weights (now up to 1e+35)"),
        ({"optimizer": {"weight_decay": 1e30}}, "a lower optimizer.weight_decay (now 1e+30)"),
        ({"optimizer": {"learning_rate": 1e30}}, "a lower optimizer.learning_rate (now 1e+30)"),
    ],
)
def test_a_run_that_diverges_is_told_what_to_change(
    tmp_path: Path, wanted: Config, changes: dict[str, dict[str, Any]], advice: str
) -> None:
    config = changed(wanted, {"model": {"layers": LAYERS}, **changes})
    with pytest.raises(DivergedError) as caught:
        train(config, tmp_path / "run")
    assert f"; start a new run with {advice}" in str(caught.value)


def test_a_first_loss_that_is_not_finite_does_not_blame_the_learning_rate(tmp_path: Path, wanted: Config) -> None:
    steep: dict[str, dict[str, Any]] = {"model": {"layers": LAYERS}, "optimizer": {"learning_rate": 1e30}}
    train(changed(wanted, steep), tmp_path / "one", progress=Stopping(1))
    begun = changed(wanted, {"model": {"layers": LAYERS, "init_from": str(tmp_path / "one")}})
    with pytest.raises(DivergedError) as caught:
        train(begun, tmp_path / "run")
    assert "learning_rate" not in str(caught.value)
    assert "no weight has changed yet, so the reason is in the data, the layers or the first weights, those of " in (
        str(caught.value)
    )
