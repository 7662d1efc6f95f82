"""`cnnpar report`: one page that is whole, harmless and names nothing outside of it; and its pictures."""

import io
import json
import re
import shutil
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnpar
from tests.helpers import tiny_runs
from tests.helpers.commands import call

HOSTILE = ("<script>alert(1)<|script>", '"><img src=http:evil onerror=x>', "$x^2_$ & 'co'")
VOID = {"meta", "img", "source"}
LOADING = {"src", "srcset", "href", "action", "data", "poster", "background", "cite", "formaction", "style"}
PICTURES = ("accuracy", "calibration", "confusion", "filters", "learning-rate", "loss", "mistakes")


class Page(HTMLParser):
    """The elements and the text of a page; closing tags must match."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.styles = ""
        self._open: list[str] = []
        self.feed(content.decode())
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            self.styles += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on pictures in class folders with hostile names, in a folder with one."""
    place = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 9)):
        for number, name in enumerate(HOSTILE):
            folder = place / "data" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 140, (8, 8, 3), dtype=np.uint8)
                pixels[2 * number] += np.uint8(80)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    layers = [{"type": "conv2d", "channels": 4, "kernel": 3}, {"type": "relu"}, {"type": "flatten"}, {"type": "dense"}]
    settings = tiny_runs.settings(place / "data", model={"layers": layers}, optimizer={"learning_rate": 0.005})
    tiny_runs.train(settings, place / "<b>run&amp;")
    return place


@pytest.fixture(scope="module")
def run(here: Path) -> Path:
    return here / "<b>run&amp;"


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    """Write the report into the run's directory, and its pictures beside it."""
    assert call("cnnpar", "report", run, "--png", run / "png") == 0
    return Page((run / "report.html").read_bytes())


def test_the_page_names_nothing_outside_of_it(page: Page) -> None:
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in LOADING & attributes.keys():
            assert re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", attributes[name] or ""), (tag, name)
    assert not re.search(r"url\(|@import|expression", page.styles)
    policy = next(one for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_hostile_names_are_text(page: Page) -> None:
    assert all(name in page.text for name in HOSTILE)
    assert "Report on <b>run&amp;" in page.text
    assert not page.all("b") or all(not attributes for attributes in page.all("b"))


def test_pictures_have_texts_and_tables_have_headings(page: Page) -> None:
    images = page.all("img")
    assert len(images) > 10
    assert all(len(one["alt"] or "") > 3 for one in images)
    for one in (*images, *page.all("source")):
        source = one.get("src") or one.get("srcset") or ""
        Image.open(io.BytesIO(b64decode(source.partition(",")[2]))).verify()
    assert {one.get("scope") for one in page.all("th")} == {"row", "col"}
    assert {"lang": "en"} in page.all("html")
    assert any(one.get("name") == "viewport" for one in page.all("meta"))


def test_the_dark_page_has_pictures_of_its_own(page: Page) -> None:
    sources = page.all("source")
    assert len(sources) == 5
    assert {one["media"] for one in sources} == {"(prefers-color-scheme: dark)"}
    assert "prefers-color-scheme: dark" in page.styles
    for one in sources:
        corner = (
            Image.open(io.BytesIO(b64decode((one["srcset"] or "").partition(",")[2]))).convert("RGB").getpixel((0, 0))
        )
        assert isinstance(corner, tuple)
        assert max(corner) < 60


def test_the_page_says_what_the_model_answers(run: Path, page: Page) -> None:
    model = cnnpar.load(run)
    images = [
        np.asarray(Image.open(f))
        for name in model.class_names
        for f in sorted((run.parent / "data" / "test" / name).iterdir())
    ]
    labels = np.repeat(np.arange(3), 9)
    right = int((model.predict(np.stack(images)) == labels).sum())
    assert f"{right} of 27 images right, test data of" in page.text
    mistakes = [one for one in page.all("img") if re.search(r"\d+\.png: label .*, answer [^%]*$", one["alt"] or "")]
    assert len(mistakes) == 27 - right > 0
    assert model.weights_sha256 in page.text
    assert model.config.data.train in page.text


def test_pictures_are_written_beside_the_page(run: Path, page: Page) -> None:
    files = list((run / "png").iterdir())
    layers = [f"activations-{number:02}" for number in range(5)]
    assert {file.name for file in files} == {f"{name}.png" for name in (*PICTURES, *layers)}
    for file in files:
        Image.open(file).verify()


def test_a_report_replaces_its_own_with_the_same_bytes(
    run: Path, here: Path, page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "report.html"
    before = file.read_bytes()
    assert call("cnnpar", "report", run, file, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["report"], found["pictures"], found["samples"]) == (str(file), [], 27)
    assert len(found["mistakes"]) == found["samples"] - found["correct"]
    assert {*found["mistakes"][0]} == {"row", "label", "answer", "probability", "of_label", "file"}
    for mistake in found["mistakes"]:
        assert Path(mistake["file"]).parent == here / "data" / "test" / mistake["label"]
        assert f"{Path(mistake['file']).name}" in page.text
    assert file.read_bytes() == before


@pytest.mark.slow
def test_a_file_of_the_users_is_kept(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("<!doctype html><title>on cnnpar</title>")
    assert call("cnnpar", "report", run, mine) == 2
    assert f"{mine}: is there already, and cnnpar has not written it" in capsys.readouterr().err
    link = tmp_path / "link.html"
    link.symlink_to(mine)
    assert call("cnnpar", "report", run, link) == 2
    assert f"{link}: is a link" in capsys.readouterr().err
    picture = tmp_path / "png" / "loss.png"
    picture.parent.mkdir()
    picture.write_bytes(b"mine")
    assert call("cnnpar", "report", run, tmp_path / "new.html", "--png", picture.parent) == 2
    assert (picture.read_bytes(), (tmp_path / "new.html").exists()) == (b"mine", False)
    assert "on cnnpar" in mine.read_text()


@pytest.mark.slow
def test_a_file_of_the_users_is_replaced_on_demand(run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    assert call("cnnpar", "report", run, mine, "--overwrite") == 0
    assert Page(mine.read_bytes()).text


@pytest.mark.slow
def test_without_the_data_there_is_a_page_all_the_same(tmp_path: Path) -> None:
    csv = tiny_runs.write_csv(tmp_path / "train.csv")
    tiny_runs.train(tiny_runs.settings(csv), tmp_path / "run")
    csv.unlink()
    assert call("cnnpar", "report", tmp_path / "run") == 0
    page = Page((tmp_path / "run" / "report.html").read_bytes())
    assert "no images were answered" in page.text
    assert "Course of the training" in page.text
    assert "Mistakes" not in page.text
    assert call("cnnpar", "report", tmp_path / "run", "--test-data", tmp_path / "gone.csv") == 2


def test_a_run_without_a_finished_epoch_answers_its_validation_part(tmp_path: Path) -> None:
    csv = tiny_runs.write_csv(tmp_path / "train.csv")

    class Stopping(tiny_runs.Lines):
        def step(self, *rest: Any) -> None:
            raise cnnpar.RunError("enough")

    with pytest.raises(cnnpar.RunError):
        tiny_runs.train(tiny_runs.settings(csv, loss={"type": "hinge"}), tmp_path / "run", progress=Stopping())
    assert call("cnnpar", "report", tmp_path / "run" / "model.json") == 0
    page = Page((tmp_path / "run" / "model.html").read_bytes())
    assert "Course of the training" not in page.text
    assert "Activations" in page.text
    assert f"validation part of {csv}" in page.text
    assert "the outputs rank the classes, and are no frequencies" in page.text


@pytest.mark.slow
def test_mistakes_are_rows_of_the_file_they_came_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv = tiny_runs.write_csv(tmp_path / "train.csv")
    tiny_runs.train(tiny_runs.settings(csv, data={"validation": 0.5}), tmp_path / "run")
    model, table = cnnpar.load(tmp_path / "run"), np.loadtxt(csv, np.int64, delimiter=",")
    capsys.readouterr()
    for words, warned in (((), False), (("--test-data", csv), True)):
        assert call("cnnpar", "report", tmp_path / "run", *words, "--json") == 0
        mistakes = json.loads(capsys.readouterr().out)["mistakes"]
        assert mistakes
        for mistake in mistakes:
            label, *pixels = table[mistake["row"] - 1]
            assert model.class_names[label] == mistake["label"]
            found = model.probabilities(np.array(pixels, np.uint8).reshape(8, 8))
            assert found[label] == pytest.approx(mistake["of_label"], rel=1e-5)
        page = Page((tmp_path / "run" / "report.html").read_bytes())
        assert f"row {mistakes[0]['row']:,}" in page.text
        assert ("the model was trained on these" in page.text) == warned


@pytest.mark.slow
def test_checkpoints_of_any_name_have_pages_of_their_own(tmp_path: Path) -> None:
    csv = tiny_runs.write_csv(tmp_path / "train.csv")
    tiny_runs.train(tiny_runs.settings(csv), tmp_path / "run")
    for name in ("net.1", "net.2.json"):
        shutil.copy(tmp_path / "run" / "model.json", tmp_path / name)
        assert call("cnnpar", "report", tmp_path / name) == 0
    assert {file.name for file in tmp_path.glob("*.html")} == {"net.1.html", "net.2.html"}


def test_a_wrong_use_is_told_in_a_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, error in {
        (run, run): f"{run}: the report is a file whose name ends with .html",
        (tmp_path / "gone",): f"{tmp_path / 'gone'}: cannot read the checkpoint: No such file or directory",
    }.items():
        assert call("cnnpar", "report", *words) == 2
        assert capsys.readouterr().err == f"cnnpar: error: {error}\n"
