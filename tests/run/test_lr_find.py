"""`cnnpar lr-find`: the same losses for any number of workers, one picture as its only file, errors in one line."""

import json
import signal
from pathlib import Path
from random import Random

import pytest

from cnnpar.cli import commands, console
from cnnpar.config.resolve import resolve, to_tables, to_toml
from cnnpar.config.sections import Config, Engine
from cnnpar.errors import DivergedError, Stopped
from cnnpar.nn.sums import Sums
from cnnpar.parallel.server import Server
from cnnpar.report.progress import Progress
from cnnpar.run.lr_find import losses_by_rate
from cnnpar.training.lr_curve import Curve, Range
from cnnpar.training.state import TrainState, first_state
from tests.helpers.commands import read_until, start
from tests.helpers.limits import HANGING
from tests.helpers.made_runs import Nobody, fail, in_process, made_run, opened, trained
from tests.helpers.random_workers import RandomWorkers
from tests.helpers.tiny_runs import settings, write_csv

RATES = Range(1e-6, 10.0, 60).rates(1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    wanted = settings(write_csv(Path("train.csv")), train={"on_nonfinite": "skip"})
    Path("tiny.toml").write_text(to_toml(wanted))
    return tmp_path


def call(*arguments: object) -> int:
    return console.run(commands.app, ["lr-find", *map(str, arguments)])


def found(rates: list[float], server: Server | None = None, config: Config | None = None) -> Curve:
    made, work, data = made_run()
    server = server or in_process(work, data)
    config = config or made
    state = first_state(config, work.network)
    return losses_by_rate(config, work, server, state, rates, Progress("quiet"), lambda: False)


@pytest.mark.parametrize("workers", [1, 3, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 5))])
def test_losses_are_the_same_for_any_and_for_dying_workers(workers: int) -> None:
    _, work, data = made_run()
    warnings: list[str] = []
    transport = RandomWorkers(work, data, Random(workers), deaths=3)
    server = opened(Server(work, transport, Engine(workers=workers), warnings.append, clock=transport.clock))
    assert found(RATES, server) == found(RATES)


def test_losses_at_one_rate_are_those_of_a_run_at_that_rate() -> None:
    made, work, data = made_run()
    wanted = resolve({**to_tables(made), "schedule": {"type": "constant"}})
    losses: list[float] = []

    class Keeping(Nobody):
        def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
            losses.append(sums.loss / sums.count)

    trained(wanted, work, in_process(work, data), Keeping())
    curve = found([wanted.optimizer.learning_rate] * len(losses))
    assert curve.losses == losses
    assert len(losses) > work.steps_per_epoch


@pytest.mark.parametrize(("epochs", "plain", "same"), [(99, 0, True), (3, 2, True), (3, 3, False)])
def test_lr_find_augments_as_in_the_first_epoch(
    here: Path, capsys: pytest.CaptureFixture[str], epochs: int, plain: int, same: bool
) -> None:
    varied = ["augment.rotation=40", f"train.epochs={epochs}", f"augment.plain_epochs={plain}"]
    found = []
    for chosen in (varied, ["augment.rotation=40", "train.epochs=99"]):
        sets = [word for setting in chosen for word in ("--set", setting)]
        assert call("--config", "tiny.toml", "--steps", 20, "--to", "1e-3", *sets, "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["losses"])
    assert (found[0] == found[1]) == same


def test_lr_find_ends_at_a_much_worse_or_nonfinite_loss() -> None:
    worse = found(RATES)
    assert worse.diverged
    assert len(worse.rates) < len(RATES)
    assert not Curve.of(RATES, worse.losses[:-1]).diverged
    made, work, data = made_run()
    for skip in ("stop", "skip"):
        config = resolve({**to_tables(made), "train": {**to_tables(made)["train"], "on_nonfinite": skip}})
        infinite = found([1e-6, 1e-6, *[1e38] * 20], config=config)
        assert len(infinite.losses) == 3  # the loss before the third step was fine yet
    server, state = in_process(work, data), first_state(made, work.network)
    with pytest.raises(Stopped):
        losses_by_rate(made, work, server, state, RATES, Progress("quiet"), lambda: True)


def test_a_nonfinite_first_loss_is_an_error() -> None:
    class Bad(Server):
        def gradient(self, parameters: object, epoch: int, number: int) -> object:  # type: ignore[override]
            vector, sums = super().gradient(parameters, epoch, number)  # type: ignore[arg-type]
            return vector, sums._replace(loss=float("nan"))

    _, work, data = made_run()
    server = opened(Bad(work, in_process(work, data)._transport, Engine(workers=0), fail))
    with pytest.raises(DivergedError, match=r"step 1 \(learning rate 1e-06\): the loss is not finite"):
        found(RATES, server)


def test_lr_find_prints_a_table_and_writes_one_picture(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name for path in here.iterdir()}
    assert call("--config", "tiny.toml", "--steps", 200, "--set", "train.batch_size=32") == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert max(map(len, lines[2:])) <= 80
    assert "suggested: optimizer.learning_rate = " in lines[-2]
    assert lines[-1] == "drawn as lr-find.png"
    assert {path.name for path in here.iterdir()} - before == {"lr-find.png"}


def test_json_is_the_only_line_of_standard_output(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sub").mkdir()
    arguments = ["--train-data", "train.csv", "--workers", 0, "--from", "1e-5", "--to", 1, "--picture", "sub/a.png"]
    assert call(*arguments, "--json") == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert out.count("\n") == 1
    assert "drawn as sub/a.png" in err
    assert len(facts["learning_rates"]) == len(facts["losses"]) == len(facts["smoothed"]) == facts["steps"] <= 50
    assert (facts["learning_rates"][0], facts["exact"], facts["picture"]) == (1e-5, True, "sub/a.png")
    assert facts["lowest"] in facts["learning_rates"]
    assert call(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == facts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--from 1 --to 0.1", "--from 1 --to 0.1: two rates above 0"),
        ("--steps 3", "--steps 3: from 20 to 10,000"),
        ("--steps many", "many"),
        ("--picture a.jpg", "--picture a.jpg: expected FILE.png"),
        ("--picture none/a.png", "--picture none/a.png: expected FILE.png in a folder"),
        ("--picture /proc/a.png", "--picture /proc/a.png: cannot write in its folder: "),
        ("--from 1e-300", "--from 1e-300: 1e-300 is too small for float32"),
        ("--to 1e300", "--to 1e+300: 1e+300 is too large for float32"),
        ("--steps 20.0", "--steps 20.0: expected a whole number"),
        ("--data digits --train-data train.csv", "--data names"),
        ("--workers 8:2", "--workers 8:2: "),
        ("--set train.epoch=3", "epochs, batch_size"),
        ("--train-data absent.csv", "absent.csv"),
    ],
)
def test_wrong_options_exit_with_2_and_write_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: str, words: str
) -> None:
    before = {path.name for path in here.iterdir()}
    assert call("--config", "tiny.toml", *arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cnnpar: error: ")
    assert words in err
    assert err.count("\n") <= 2
    assert {path.name for path in here.iterdir()} == before


@pytest.mark.slow
def test_unwritable_picture_costs_a_note_after_the_result(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(".lr-find.png.tmp").mkdir()  # where it is written before it is renamed
    assert call("--config", "tiny.toml") == 0
    out, err = capsys.readouterr()
    assert "learning rate" in out
    assert "drawn as" not in out
    assert err == "lr-find.png: cannot draw the picture: Is a directory\n"
    assert call("--config", "tiny.toml", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["picture"] is None
    assert err.endswith("lr-find.png: cannot draw the picture: Is a directory\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_lr_find_and_nothing_is_written(here: Path, number: signal.Signals, code: int) -> None:
    before = {path.name for path in here.iterdir()}
    arguments = ["--config", "tiny.toml", "--steps", 10_000, "--from", "1e-30", "--to", "1e-29"]
    with start("cnnpar", "lr-find", *arguments, cwd=here) as process:
        read_until(process, "parameters")
        process.send_signal(number)
        out, err = process.communicate(timeout=HANGING)
    assert (process.returncode, out, err) == (code, f"stopped by {number.name}; nothing was written\n", "")
    assert {path.name for path in here.iterdir()} == before
