"""`cnnpar.train` and `cnnpar.load`: the same runs as the commands', and models that predict."""

import subprocess
import sys
import threading
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from msgspec import structs

import cnnpar
from cnnpar.config.resolve import resolve, to_tables, to_toml
from cnnpar.config.sections import Augment, Config, Train
from cnnpar.errors import InputError
from cnnpar.storage.checkpoint import encode, read
from tests.helpers.commands import call
from tests.helpers.tiny_runs import ROOT, settings, write_csv
from tests.helpers.tiny_runs import train as train_in_process


def tables(csv: Path, **changes: dict[str, Any]) -> dict[str, Any]:
    return to_tables(settings(csv, **changes))


def test_cnnpar_train_and_a_run_give_the_same_weights(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    expected = train_in_process(settings(csv), tmp_path / "command").weights_sha256
    (tmp_path / "run.toml").write_text(to_toml(settings(csv)))
    configs: list[Any] = [tables(csv), settings(csv), tmp_path / "run.toml", str(tmp_path / "run.toml")]
    for number, config in enumerate(configs):
        result = cnnpar.train(config, run_dir=tmp_path / str(number))
        assert result.weights_sha256 == result.model.weights_sha256 == expected


def test_home_and_variables_are_replaced_in_each_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path))
    csv = write_csv(tmp_path / "data.csv")
    given = tables(csv, data={"train": "$PLACE/data.csv"}, train={"epochs": 1})
    (tmp_path / "run.toml").write_text(to_toml(resolve(given)))
    first = cnnpar.train("~/run.toml", run_dir="$PLACE/first")
    assert cnnpar.load("~/first").weights_sha256 == first.weights_sha256
    assert cnnpar.load(Path("${PLACE}/first/model.json")).weights_sha256 == first.weights_sha256
    second = cnnpar.train({**given, "model": {**given["model"], "init_from": "~/first"}}, run_dir=Path("~/second"))
    assert second.summary.run_dir == str(tmp_path / "second")
    assert cnnpar.train(resume="~/second").weights_sha256 == second.weights_sha256
    with pytest.raises(InputError, match="the environment has no variable NOWHERE"):
        cnnpar.load("$NOWHERE/model.json")


def test_a_run_goes_on_from_where_another_stopped(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    whole = cnnpar.train(tables(csv, schedule={"type": "constant"}), run_dir=tmp_path / "whole")
    cnnpar.train(tables(csv, schedule={"type": "constant"}, train={"epochs": 1}), run_dir=tmp_path / "part")
    rest = cnnpar.train(tables(csv, schedule={"type": "constant"}), resume=tmp_path / "part")
    assert rest.weights_sha256 == whole.weights_sha256
    assert rest.summary.run_dir == str(tmp_path / "part")
    again = cnnpar.train(resume="auto", run_dir=tmp_path / "part")
    assert again.weights_sha256 == whole.weights_sha256


def test_the_history_of_a_result_has_an_array_for_each_number(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    begun = cnnpar.train(tables(csv, schedule={"type": "constant"}, train={"epochs": 1}), run_dir=tmp_path / "run")
    history = cnnpar.train({"train": {"epochs": 3}}, resume=tmp_path / "run").history
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train_loss"][0] == begun.history["train_loss"][0] == begun.summary.train_loss
    assert history["seconds"].sum() > 0
    assert {values.shape for values in history.values()} == {(3,)}
    unmeasured = cnnpar.train(tables(csv, data={"validation": 0}), run_dir=tmp_path / "unmeasured").history
    assert np.isnan(unmeasured["validation_accuracy"]).all()


def test_the_model_of_an_overwritten_result_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = write_csv(tmp_path / "data.csv")
    constant = {"type": "constant"}
    monkeypatch.chdir(tmp_path)
    first = cnnpar.train(tables(csv, schedule=constant, train={"epochs": 1}), run_dir="run")
    second = cnnpar.train(tables(csv, schedule=constant), resume="run")
    monkeypatch.chdir("/")
    assert second.model.weights_sha256 == second.weights_sha256
    with pytest.raises(InputError, match="the run has gone on since"):
        _ = first.model


@pytest.mark.parametrize("config", [5, b"run.toml", [], object()])
def test_what_is_no_configuration_is_an_error(config: Any) -> None:
    with pytest.raises(
        InputError, match=r"^config: .* is neither a TOML file, nor tables, nor a cnnpar\.config\.Config$"
    ):
        cnnpar.train(config)


def test_settings_may_be_numpy_numbers_and_paths(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    plain = cnnpar.train(tables(csv, train={"epochs": 1}), run_dir=tmp_path / "plain")
    given = tables(csv, train={"epochs": 1})
    given["train"]["epochs"] = np.int64(1)
    given["train"]["ema_decay"] = np.float64(given["train"]["ema_decay"])
    given["data"]["train"] = csv
    given["data"]["shape"] = np.array([8, 8])
    given["engine"]["allow_inexact"] = np.bool_(False)
    assert cnnpar.train(given, run_dir=tmp_path / "given").weights_sha256 == plain.weights_sha256
    config = structs.replace(resolve(tables(csv)), train=Train(epochs=np.int64(1)))  # type: ignore[arg-type]
    once = tables(csv)
    once["train"] = {"epochs": 1}
    again = cnnpar.train(MappingProxyType(once), run_dir=tmp_path / "again")
    assert cnnpar.train(config, run_dir=tmp_path / "config").weights_sha256 == again.weights_sha256


def test_a_model_predicts_what_the_test_counts(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    test = write_csv(tmp_path / "test.csv", 70, seed=1)
    result = cnnpar.train(tables(csv, data={"test": str(test)}, train={"epochs": 20}), run_dir=tmp_path / "run")
    model = cnnpar.load(tmp_path / "run")
    rows = np.loadtxt(test, delimiter=",", dtype=np.int64)
    labels, images = rows[:, 0], rows[:, 1:].astype(np.uint8).reshape(-1, 8, 8)
    predicted = model.predict(images)
    assert result.test_accuracy == (predicted == labels).mean()
    assert (predicted == labels).mean() > 0.5
    np.testing.assert_array_equal(model.predict(images[..., np.newaxis]), predicted)
    probabilities = model.probabilities(images)
    assert probabilities.shape == (70, len(model.class_names))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert model.predict(images[:0]).shape == (0,)
    short = model.weights_sha256[:12]
    assert (
        repr(model) == f"<cnnpar.Model: 8 x 8 x 1 uint8, {len(model.class_names)} classes, weights sha256 {short}...>"
    )
    assert repr(result).startswith(f"<cnnpar.Result: test accuracy {result.test_accuracy:.2%}, validation accuracy ")
    assert model.parameters()["conv1.weight"].shape == (3, 3, 1, 2)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 7, 8), np.uint8), np.zeros((64,), np.uint8), np.zeros((2, 8, 8)), np.zeros((2, 8, 8, 3), np.uint8)],
)
def test_images_that_do_not_fit_are_refused_with_both_shapes(tmp_path: Path, images: Any) -> None:
    csv = write_csv(tmp_path / "data.csv")
    model = cnnpar.train(tables(csv, train={"epochs": 1}), run_dir=tmp_path / "run").model
    with pytest.raises(InputError, match=r"images are .* and the model takes \(N, 8, 8, 1\) uint8"):
        model.predict(images)
    with pytest.raises(InputError, match=r"np\.rint\(images \* 255\)\.astype\(np\.uint8\) turns 0 to 1 into 0 to 255"):
        model.predict(np.full((8, 8), 0.5))
    with pytest.raises(InputError, match=r"these are 0\.5 to 200: np\.rint\(images\.clip\(0, 255\)\)\.astype"):
        model.predict(np.linspace(0.5, 200, 64).reshape(8, 8))
    with pytest.raises(
        InputError, match=r"takes \(N, 8, 8, 1\) uint8; \.reshape\(-1, 8, 8\) makes images of such rows"
    ):
        model.predict(np.zeros((2, 64), np.uint8))


def test_wrong_arguments_raise_the_commands_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r": train: unknown key `epoch` \(did you mean epochs\?\)"):
        cnnpar.train({"train": {"epoch": 3}})
    with pytest.raises(InputError, match="cannot read"):
        cnnpar.train(tmp_path / "none.toml")
    with pytest.raises(InputError, match="no checkpoint"):
        cnnpar.train(resume=tmp_path / "none")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Config(train=Train(ema_decay=5)), r": train\.ema_decay: expected a number below 1$"),
        (Config(train=Train(batch_size=0)), r": train\.batch_size: expected a whole number of at least 1$"),
        (Config(train=Train(epochs=1.5)), r": train\.epochs: expected a whole number, not one with decimals$"),  # type: ignore[arg-type]
        (Config(loss=None), r": loss: expected a table, not nothing$"),  # type: ignore[arg-type]
        (Config(augment=Augment(ratio=3)), r": augment\.ratio: unknown value 3; allowed: 1, 4$"),  # type: ignore[arg-type]
        ({"data": {"train": object()}}, "object .* is no setting"),
    ],
)
def test_a_config_is_checked_as_its_tables_are(tmp_path: Path, wrong: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        cnnpar.train(wrong, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_may_be_in_another_thread(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    found: list[cnnpar.Result] = []
    thread = threading.Thread(target=lambda: found.append(cnnpar.train(tables(csv), run_dir=tmp_path / "run")))
    thread.start()
    thread.join()
    assert found[0].summary.epochs == 3


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, cnnpar; assert not {'numpy', 'ray', 'msgspec'} & set(sys.modules); cnnpar.register; cnnpar.train"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        cnnpar.trian  # noqa: B018


def test_threads_may_share_a_model(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    model = cnnpar.train(tables(csv, train={"epochs": 1}), run_dir=tmp_path / "run").model
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8), np.uint8)
    expected = model.probabilities(images)
    found: list[Any] = []

    def ask() -> None:
        found.extend(model.probabilities(images) for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all((probabilities == expected).all() for probabilities in found)


def arrays(csv: Path) -> tuple[Any, Any]:
    rows = np.loadtxt(csv, delimiter=",", dtype=np.int64)
    return rows[:, 1:].astype(np.uint8).reshape(-1, 8, 8), rows[:, 0]


def without_files(csv: Path, **changes: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of the same run, in which no file is named."""
    return {**tables(csv, **changes), "data": {}}


def test_arrays_and_files_of_equal_samples_give_equal_weights(tmp_path: Path) -> None:
    csv, test = write_csv(tmp_path / "data.csv"), write_csv(tmp_path / "test.csv", 70, seed=1)
    (x, y), (x_test, y_test) = arrays(csv), arrays(test)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    file = cnnpar.train(tables(csv, data={"test": str(test)}), run_dir=tmp_path / "csv")
    npz = cnnpar.train(tables(tmp_path / "data.npz"), run_dir=tmp_path / "npz")
    before = x.copy(), y.copy()
    given = cnnpar.train(without_files(csv), data=(x, y), test=(x_test, y_test), run_dir=tmp_path / "given")
    assert file.weights_sha256 == npz.weights_sha256 == given.weights_sha256
    assert file.test_accuracy == npz.test_accuracy == given.test_accuracy
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])
    samples = cnnpar.train(without_files(csv), data=list(zip(x, y, strict=True)), run_dir=tmp_path / "samples")
    assert samples.weights_sha256 == given.weights_sha256


def test_a_run_on_arrays_goes_on_with_the_same_arrays_only(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    data, constant = arrays(csv), {"type": "constant"}
    whole = cnnpar.train(without_files(csv, schedule=constant), data=data, run_dir=tmp_path / "whole")
    part = tmp_path / "part"
    cnnpar.train(without_files(csv, schedule=constant, train={"epochs": 1}), data=data, run_dir=part)
    with pytest.raises(InputError, match=r"the data of this run were given to cnnpar\.train as data=\.\.\."):
        cnnpar.train(resume=part)
    with pytest.raises(InputError, match="the training or validation data are not those the run began with"):
        cnnpar.train(resume=part, data=(255 - data[0], data[1]))
    rest = cnnpar.train(without_files(csv, schedule=constant), resume=part, data=data)
    assert rest.weights_sha256 == whole.weights_sha256
    assert cnnpar.train(resume=part, data=data).weights_sha256 == whole.weights_sha256


def test_the_command_asks_for_test_data_of_a_run_on_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv = write_csv(tmp_path / "data.csv")
    cnnpar.train(without_files(csv, train={"epochs": 1}), data=arrays(csv), run_dir=tmp_path / "run")
    assert call("cnnpar-test", "--from-path", tmp_path / "run", "--workers", 0) == 2
    said = capsys.readouterr().err
    assert "its run's data were given to cnnpar.train as data=...; give --test-data PATH or --data NAME" in said
    assert call("cnnpar-test", "--from-path", tmp_path / "run", "--test-data", csv, "--workers", 0) == 0


@pytest.mark.parametrize("key", ["train", "test", "name"])
def test_files_and_arrays_at_once_are_refused(tmp_path: Path, key: str) -> None:
    named = {"name": "mnist"} if key == "name" else {"train": "a.csv", **({"test": "b.csv"} if key == "test" else {})}
    with pytest.raises(
        InputError, match=r"^config names data\..*, and data=\.\.\. gives others; leave one of them out"
    ):
        cnnpar.train({"data": named}, data=arrays(write_csv(tmp_path / "a.csv")))
    with pytest.raises(InputError, match=r"^test=\.\.\. goes with data=\.\.\."):
        cnnpar.train(test=([], []))


def test_a_single_image_gets_a_single_answer(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    x, y = arrays(csv)
    model = cnnpar.train(without_files(csv), data=(x, y), run_dir=tmp_path / "run").model
    for image in (x[0], x[0, ..., np.newaxis], x[0].tolist(), x[0].astype(np.int64)):
        predicted = model.predict(image)
        assert predicted.shape == ()
        assert predicted == model.predict(x)[0]
        np.testing.assert_array_equal(model.probabilities(image), model.probabilities(x[:1])[0])
    colour = np.repeat(x[..., np.newaxis], 3, axis=3)
    layered = cnnpar.train(without_files(csv), data=(colour, y), run_dir=tmp_path / "colour").model
    assert layered.predict(colour[0]).shape == ()
    assert layered.predict(colour[:1]).shape == (1,)
    double = cnnpar.train(without_files(csv), data=(colour[..., :2], y), run_dir=tmp_path / "double").model
    for other, images in (layered, colour), (double, colour[..., :2]):
        with pytest.raises(InputError, match=r"the channels come first, and images\.transpose\(0, 2, 3, 1\)"):
            other.predict(images.transpose(0, 3, 1, 2))
    for grey in (x[:1], x[0], x[:2, ..., np.newaxis], x[:2, np.newaxis]):
        with pytest.raises(InputError, match=r"takes \(N, 8, 8, 3\) uint8; these are grey, and colour is wanted$"):
            layered.predict(grey)
    with pytest.raises(InputError, match="these are colour, and grey is wanted"):
        model.predict(colour)


def test_a_model_refuses_what_is_no_array_of_images(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    x, y = arrays(csv)
    model = cnnpar.train(without_files(csv, train={"epochs": 1}), data=(x, y), run_dir=tmp_path / "run").model
    file: Any
    for file in ("x.jpg", Path("x.jpg"), ["x.jpg"]):
        with pytest.raises(InputError, match=r"^images: .*x\.jpg.* is no image; PIL\.Image\.open\(path\) gives"):
            model.predict(file)
    with pytest.raises(InputError, match=r"^images: they are of unlike sizes, such as \(6, 7\) and \(8, 8\); bring"):
        model.predict([x[0], np.zeros((6, 7), np.uint8)])
    assert model.predict([]).shape == model.predict(x[:0]).shape == (0,)
    assert model.probabilities([]).shape == (0, len(model.class_names))


def test_a_model_takes_tensors_as_torch_has_them(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="2 GB; the accuracy benchmarks have it")
    csv = write_csv(tmp_path / "data.csv")
    x, y = arrays(csv)
    model = cnnpar.train(without_files(csv), data=(x, y), run_dir=tmp_path / "run").model
    expected = model.predict(x)
    np.testing.assert_array_equal(model.predict(torch.from_numpy(x)), expected)
    np.testing.assert_array_equal(model.predict(torch.from_numpy(x)[:, None]), expected)
    assert model.predict(torch.from_numpy(x[:3])).shape == (3,)
    colour = np.stack([x, x // 2, x // 3], axis=3)
    model = cnnpar.train(without_files(csv), data=(colour, y), run_dir=tmp_path / "colour").model
    tensors = torch.from_numpy(colour.transpose(0, 3, 1, 2).copy())
    np.testing.assert_array_equal(model.predict(tensors), model.predict(colour))
    assert model.predict(tensors[0]) == model.predict(colour[0])


def test_a_model_takes_the_pixels_that_it_was_trained_on(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    x, y = arrays(csv)

    def model(images: Any, name: str, **data: Any) -> cnnpar.Model:
        settings = {**without_files(csv, train={"epochs": 1}), "data": data}
        return cnnpar.train(settings, data=(images, y), run_dir=tmp_path / name).model

    whole = model(x, "uint8")
    with pytest.raises(InputError, match=r"takes \(N, 8, 8, 1\) uint8; np\.rint\(images \* 255\)"):
        whole.predict(x / 255)
    assert model(x / 255, "empty").predict([]).shape == (0,)
    floats = model(x / 255, "float32")
    expected = floats.predict(x / 255)
    np.testing.assert_array_equal(floats.predict((x / 255).astype(np.float32)), expected)
    assert floats.predict(np.ones((3, 8, 8), int)).shape == (3,)
    with pytest.raises(InputError, match=r"bring 0 to 2\d\d to the range of the training, whose mean was 0\.\d+"):
        floats.predict(x)
    with pytest.raises(InputError, match=r"images: sample 0 .* has a pixel of nan"):
        floats.predict(np.full((1, 8, 8), np.nan))
    wide = model(x.astype(np.uint16) * 257, "uint16")
    assert wide.predict(x.astype(np.int64)).shape == (40,)
    with pytest.raises(InputError, match=r"and the model takes .* uint16; bring"):
        wide.predict(x)
    scaled = model(x / 255, "scaled", scale=255)
    np.testing.assert_array_equal(scaled.predict(x / 255), whole.predict(x))


def test_errors_name_arguments_instead_of_options(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    run = tmp_path / "a run"
    cnnpar.train(tables(csv, train={"epochs": 1}), run_dir=run)
    with pytest.raises(InputError) as caught:
        cnnpar.train(tables(csv), run_dir=run)
    ways = f"resume={str(run)!r} goes on with it, overwrite=True or another run_dir starts anew"
    assert str(caught.value) == f"{run}: holds a run already; {ways}"
    assert caught.traceback[-1].name != "train"  # where it was raised
    with pytest.raises(InputError, match=r"^resume: no checkpoint at .*; name the file or the run's directory$"):
        cnnpar.train(resume=tmp_path / "none")


def test_overwrite_replaces_a_run_and_nothing_else(tmp_path: Path) -> None:
    config, run = settings(write_csv(tmp_path / "train.csv")), tmp_path / "run"
    first = cnnpar.train(config, run_dir=run)
    with pytest.raises(InputError, match="overwrite=True or another run_dir starts anew"):
        cnnpar.train(config, run_dir=run)
    (run / "notes.txt").write_text("mine")
    again = cnnpar.train(
        structs.replace(config, train=structs.replace(config.train, seed=1)), run_dir=run, overwrite=True
    )
    assert again.weights_sha256 != first.weights_sha256
    assert cnnpar.load(run).weights_sha256 == again.weights_sha256
    assert (run / "notes.txt").read_text() == "mine"
    (run / "best.json").write_text("{}")
    with pytest.raises(InputError, match=r"best\.json: is no checkpoint, and stays"):
        cnnpar.train(config, run_dir=run, overwrite=True)
    assert cnnpar.load(run).weights_sha256 == again.weights_sha256
    for place, resume in ((run, run), (None, None)):
        with pytest.raises(InputError, match="overwrite=True: goes with"):
            cnnpar.train(config, overwrite=True, run_dir=place, resume=resume)


def test_tables_change_single_settings_of_a_run_that_goes_on(tmp_path: Path) -> None:
    config = tables(write_csv(tmp_path / "train.csv"), train={"epochs": 1}, optimizer={"type": "adam"})
    cnnpar.train(config, run_dir=tmp_path / "run")
    again = cnnpar.train({"train": {"epochs": 2}}, resume=tmp_path / "run")
    assert (again.summary.epochs, again.summary.workers) == (2, 0)
    assert again.model.config.optimizer.__struct_config__.tag == "adam"


def test_odd_data_are_a_warning(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8), np.zeros(20, int)
    config = {
        "model": {"layers": [{"type": "flatten"}, {"type": "dense"}]},
        "engine": {"workers": 0},
        "train": {"epochs": 1},
    }
    with pytest.warns(UserWarning, match="class"):
        result = cnnpar.train(config, data=(x, y), run_dir=tmp_path / "run")
    assert result.summary.notes


def test_tables_on_resume_take_no_workers_beyond_the_cores(tmp_path: Path) -> None:
    cnnpar.train(tables(write_csv(tmp_path / "train.csv"), train={"epochs": 1}), run_dir=tmp_path / "run")
    payload = read(tmp_path / "run" / "model.json")
    many = structs.replace(payload.config, engine=structs.replace(payload.config.engine, workers=4096))
    (tmp_path / "run" / "model.json").write_bytes(encode(structs.replace(payload, config=many)))
    with pytest.raises(InputError, match="its run had 4096 workers"):
        cnnpar.train({"train": {"epochs": 2}}, resume=tmp_path / "run")
    again = cnnpar.train({"train": {"epochs": 2}, "engine": {"workers": 0}}, resume=tmp_path / "run")
    assert again.summary.epochs == 2
