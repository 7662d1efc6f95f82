"""Settings: values that are accepted, errors of those that are not, and exact round trips through TOML."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.config.choices import SGD, Adam
from cnnpar.config.resolve import Option, read_toml, resolve, to_tables, to_toml
from cnnpar.config.sections import Config
from cnnpar.errors import InputError

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.toml"))


def refusal(tables: dict[str, Any], *assignments: str) -> str:
    """Return the error of resolving these settings, after checking that it is one line."""
    with pytest.raises(InputError) as caught:
        resolve(tables, assignments, "run.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_empty_settings_are_the_defaults_on_the_digits() -> None:
    assert resolve({}) == Config()
    assert Config().data.name == "digits"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_file_in_configs_is_accepted(path: Path) -> None:
    resolve(read_toml(path), source=str(path))


def test_digits_configuration_spells_out_the_defaults() -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / "digits.toml"
    if not path.exists():
        pytest.skip("not written yet")
    assert resolve(read_toml(path)) == Config()


numbers = st.floats(min_value=1e-18, max_value=0.999)  # float32 holds products of two
optimizers = st.one_of(
    st.fixed_dictionaries({"type": st.just("sgd"), "learning_rate": numbers, "momentum": numbers}),
    st.fixed_dictionaries({"type": st.just("adam"), "beta1": numbers, "epsilon": numbers}),
    st.fixed_dictionaries({"type": st.just("adamw"), "weight_decay": numbers}),
    st.fixed_dictionaries({"type": st.just("rmsprop"), "alpha": numbers, "momentum": numbers}),
    st.fixed_dictionaries({"type": st.just("adagrad"), "epsilon": numbers}),
    st.fixed_dictionaries({"type": st.just("lars"), "trust_coefficient": numbers}),
    st.fixed_dictionaries({"type": st.just("lamb"), "weight_decay": numbers}),
)
points = st.dictionaries(numbers, numbers, min_size=1).map(lambda factors: sorted(factors.items()))
schedules = st.one_of(
    st.just({"type": "constant"}),
    st.fixed_dictionaries({"type": st.just("step"), "factor": numbers, "every_epochs": st.integers(1, 99)}),
    st.fixed_dictionaries({"type": st.just("cosine"), "warmup_epochs": numbers, "final": numbers}),
    st.fixed_dictionaries({"type": st.just("one_cycle"), "warmup": numbers}),
    st.fixed_dictionaries({"type": st.just("piecewise"), "points": points}),
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(optimizers, schedules, texts, st.integers(0, 2**53))
def test_settings_survive_toml_exactly(
    optimizer: dict[str, Any], schedule: dict[str, Any], path: str, seed: int
) -> None:
    wanted = resolve({"optimizer": optimizer, "schedule": schedule, "data": {"train": path}, "train": {"seed": seed}})
    assert resolve(tomllib.loads(to_toml(wanted))) == wanted
    assert resolve(to_tables(wanted)) == wanted


@pytest.mark.parametrize(
    ("tables", "place", "allowed"),
    [
        ({"training": {}}, "unknown key `training`", "data, augment, model, loss, train"),
        ({"train": {"epoch": 3}}, "train", "epochs, batch_size, microbatch, seed"),
        ({"train": {"type": "sgd"}}, "train", "epochs, batch_size, microbatch, seed"),
        ({"optimizer": {"type": "adam", "momentum": 0.9}}, "optimizer", "learning_rate, beta1, beta2"),
        ({"optimizer": {"nestrov": True}}, "optimizer", "learning_rate, momentum, nesterov"),
        ({"optimizer": {"type": "adamax"}}, "optimizer.type", "sgd, adam, adamw, rmsprop, adagrad, lars, lamb"),
        ({"schedule": {"type": "one-cycle"}}, "schedule.type", "constant, step, cosine, one_cycle, piecewise"),
        ({"schedule": {"type": "constant", "final": 0}}, "schedule", ""),
        ({"engine": {"transport": "mpi"}}, "engine.transport", "direct, ray"),
        ({"augment": {"ratio": 2}}, "augment.ratio", "1, 4"),
        ({"loss": {"class_weights": [0, 0]}}, "loss.class_weights", "above 0"),
        ({"schedule": {"type": "cosine", "warmup_epochs": 9}, "train": {"epochs": 8}}, "`warmup_epochs`", "only 8"),
        (
            {"schedule": {"type": "piecewise", "points": [[0.5, 1], [0.5, 0]]}},
            "schedule.points go from 0.5 to 0.5",
            "rise",
        ),
        ({"schedule": {"type": "piecewise", "points": [[0, 0]]}}, "schedule.points have no factor above 0", ""),
        ({"schedule": {"type": "piecewise", "points": [0.1, 1]}}, "schedule.points[0]", "[[share, factor], ...]"),
        ({"schedule": {"type": "piecewise", "points": [[0, -1]]}}, "schedule.points[0][1]", "[[share, factor], ...]"),
        ({"schedule": {"points": [[0, 1]]}}, "schedule", "with type one_cycle: warmup, start, final"),
        ({"loss": {"type": "l1"}}, "loss.type", "cross_entropy, mse, binary_cross_entropy, hinge"),
        ({"loss": {"type": "mse", "margin": 1}}, "loss", ""),
        ({"loss": {"smoothing": 0.1}}, "loss", "label_smoothing, class_weights"),
        ({"checkpoint": {"arrays": "hex"}}, "checkpoint.arrays", "base64, decimal"),
    ],
)
def test_unknown_names_are_refused_with_place_and_allowed_names(
    tables: dict[str, Any], place: str, allowed: str
) -> None:
    text = refusal(tables)
    assert text.startswith("run.toml: ")
    assert text.startswith(f"run.toml: {place}")
    assert allowed in text


@pytest.mark.parametrize(
    ("tables", "place"),
    [
        ({"train": 5}, "train"),
        ({"train": [1]}, "train"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"optimizer": {"type": 3}}, "optimizer.type"),
        ({"train": {"epochs": "5"}}, "train.epochs"),
        ({"train": {"epochs": 0}}, "train.epochs"),
        ({"train": {"epochs": True}}, "train.epochs"),
        ({"train": {"batch_size": 1.5}}, "train.batch_size"),
        ({"train": {"seed": -1}}, "train.seed"),
        ({"train": {"seed": 2**64}}, "train.seed"),
        ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate"),
        ({"optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate"),
        ({"optimizer": {"learning_rate": float("inf")}}, "optimizer.learning_rate"),
        ({"optimizer": {"weight_decay": float("inf")}}, "optimizer.weight_decay"),
        ({"optimizer": {"momentum": 0}}, "optimizer.nesterov needs"),
        ({"augment": {"rotation": 181}}, "augment.rotation"),
        ({"augment": {"scale": 1}}, "augment.scale"),
        ({"augment": {"flip": 1}}, "augment.flip"),
        ({"augment": {"elastic_sigma": 0}}, "augment.elastic_sigma"),
        ({"augment": {"contrast": -0.1}}, "augment.contrast"),
        ({"augment": {"mixup": -1}}, "augment.mixup"),
        ({"augment": {"plain_epochs": -1}}, "augment.plain_epochs"),
        ({"schedule": {"type": "piecewise", "points": []}}, "schedule.points"),
        ({"schedule": {"type": "piecewise", "points": [[1.5, 1]]}}, "schedule.points"),
        ({"engine": {"workers": -1}}, "engine.workers"),
        ({"engine": {"workers": "8:2"}}, "engine.workers is LOW:HIGH, and LOW is larger than HIGH"),
        ({"engine": {"workers": "2:9999"}}, "engine.workers is LOW:HIGH, and HIGH is at most 4096"),
        ({"engine": {"workers": "2:4", "min_workers": 5}}, "engine.min_workers is 5, and engine.workers only 4"),
        ({"engine": {"max_worker_failures": -2}}, "engine.max_worker_failures"),
        ({"train": {"clip_norm": -1}}, "train.clip_norm"),
        ({"train": {"clip_value": float("nan")}}, "train.clip_value"),
        ({"train": {"on_nonfinite": "ignore"}}, "train.on_nonfinite: unknown value 'ignore'; allowed: stop, skip"),
        ({"engine": {"step_timeout": float("inf")}}, "engine.step_timeout"),
        ({"data": {"validation": 1}}, "data.validation"),
        ({"data": {"shape": [8]}}, "data.shape is"),
        ({"data": {"name": "cifar"}}, "data.name is"),
        ({"data": {"name": "digits", "train": "a.csv"}}, "give either data.name or data.train, not both"),
        ({"data": {"name": "digits", "test": "a.csv"}}, "data"),
        ({"model": {"layers": []}}, "model"),
        ({"model": {"layers": [3]}}, "model.layers[0]"),
    ],
)
def test_wrong_values_are_refused_with_their_place(tables: dict[str, Any], place: str) -> None:
    assert refusal(tables).startswith(f"run.toml: {place}")


@pytest.mark.parametrize(
    ("engine", "fewest", "most", "minimum"),
    [
        ({"workers": 0}, 0, 0, 1),
        ({"workers": 4096}, 4096, 4096, 1),
        ({"workers": "2:8"}, 2, 8, 2),
        ({"workers": "5:5"}, 5, 5, 1),
        ({"workers": "2:8", "min_workers": 1}, 2, 8, 1),
        ({"workers": 4, "min_workers": 3}, 4, 4, 3),
    ],
)
def test_workers_are_a_number_or_a_range(engine: dict[str, Any], fewest: int, most: int, minimum: int) -> None:
    chosen = resolve({"engine": engine}).engine
    assert (chosen.fewest, chosen.most, chosen.minimum) == (fewest, most, minimum)


@pytest.mark.parametrize(
    "workers", [-1, 4097, 2.5, True, "", "2", "2:", ":8", "2:8:9", "0:8", "-2:8", "2:80000", "many"]
)
def test_wrong_workers_are_refused_with_the_allowed_forms(workers: object) -> None:
    text = refusal({"engine": {"workers": workers}})
    assert text == "run.toml: engine.workers: expected a number from 0 to 4096, or LOW:HIGH, such as 2:8"


def test_error_names_the_option_or_file_at_fault() -> None:
    def source(tables: dict[str, Any], *assignments: str) -> str:
        with pytest.raises(InputError) as caught:
            resolve(tables, assignments, "run.toml", options)
        return str(caught.value).partition(": ")[0]

    options = [Option("--workers 2", "engine", "workers", 2), Option("--min-workers 1", "engine", "min_workers", 1)]
    assert source({"engine": {"step_timeout": 0}}) == "run.toml"
    assert source({}, "engine.workers=x") == "--set engine.workers=x"
    assert source({}, "engine.worker=3") == "--set engine.worker=3"
    assert source({}, "train.epochs=0", "train.seed=1") == "--set train.epochs=0"
    assert source({"train": {"epochs": 0}}, "train.seed=1") == "run.toml"
    options[0] = Option("--workers -3", "engine", "workers", -3)
    assert source({}) == "--workers -3"
    assert source({}, "engine.workers=-4") == "--set engine.workers=-4"
    options[:] = [Option("--workers 2", "engine", "workers", 2), Option("--min-workers 3", "engine", "min_workers", 3)]
    assert source({}) == "--min-workers 3"


def test_assignment_is_read_as_a_toml_value_or_as_text() -> None:
    chosen = resolve(
        {},
        [
            "train.epochs=5",
            "optimizer.learning_rate=1e-2",
            "engine.portable=true",
            "data.train=/some where/a=b.csv",
            "data.shape=[8, 8]",
            'model.layers=[{type = "flatten"}, {type = "dense"}]',
        ],
    )
    assert (chosen.train.epochs, chosen.optimizer.learning_rate, chosen.engine.portable) == (5, 0.01, True)
    assert (chosen.data.train, chosen.data.shape) == ("/some where/a=b.csv", (8, 8))
    assert [layer["type"] for layer in chosen.model.layers] == ["flatten", "dense"]


def test_assignment_overrides_one_setting_of_the_file() -> None:
    chosen = resolve({"train": {"epochs": 3, "seed": 4}}, ["train.epochs=5"])
    assert (chosen.train.epochs, chosen.train.seed) == (5, 4)


@pytest.mark.parametrize("order", [1, -1])
def test_another_optimizer_drops_the_previous_ones_settings(order: int) -> None:
    assignments = ["optimizer.beta1=0.5", "optimizer.type=adam"][::order]
    chosen = resolve({"optimizer": {"type": "sgd", "momentum": 0.5}}, assignments)
    assert chosen.optimizer == Adam(beta1=0.5)


@pytest.mark.parametrize("tables", [{}, {"type": "sgd"}])
def test_naming_the_same_optimizer_keeps_its_settings(tables: dict[str, Any]) -> None:
    chosen = resolve({"optimizer": {**tables, "momentum": 0.5}}, ["optimizer.type=sgd"])
    assert chosen.optimizer == SGD(momentum=0.5)


@pytest.mark.parametrize(
    "assignment", ["", "train", "train.epochs", "train=5", "train.=5", ".epochs=5", "a.b=1", "train.a.b=1", "=", "."]
)
def test_malformed_assignment_is_quoted_in_the_error(assignment: str) -> None:
    assert f"--set {assignment}: " in refusal({}, assignment)


def test_assignment_into_a_value_that_is_no_table_is_refused() -> None:
    assert "train" in refusal({"train": 5}, "train.epochs=3")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"[train]\nepochs = = 3\n", "line 2"),
        (b"[train]\n[train]\n", "line 2"),
        (b"# \xff\n", "not a TOML file"),
        (b"a = " + b"[" * 100_000, "not a TOML file"),
    ],
)
def test_malformed_toml_file_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=what) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("key", ["x" * 100_000, "\u202e", "a\nb", "\x1b[2J"])
def test_an_unknown_key_is_quoted_short_and_printable(key: str) -> None:
    for tables, place in ({key: 1}, ""), ({"train": {key: 1}}, "train: "):
        message = refusal(tables)
        assert message.startswith(f"run.toml: {place}unknown key `")
        assert len(message) < 700
        assert message.isprintable()


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(InputError, match=f"^{path}: cannot read"):
            read_toml(path)


def test_resolved_settings_are_immutable() -> None:
    with pytest.raises(AttributeError):
        Config().train.epochs = 3  # type: ignore[misc]


def test_number_of_5000_digits_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "long.toml"
    file.write_text(f"[train]\nseed = {'9' * 5000}\n")
    with pytest.raises(InputError, match=r"long\.toml: not a TOML file"):
        read_toml(file)
    assert "train.seed" in refusal({}, f"train.seed={'9' * 5000}")


def test_step_decay_factor_above_1_is_refused() -> None:
    assert "schedule.factor" in refusal({"schedule": {"type": "step", "factor": 1.5}})
