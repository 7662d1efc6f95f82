"""The page of a report, section by section, and its pictures as files."""

from pathlib import PurePath

from cnnpar.report.html import document
from cnnpar.report.html.calibration import calibration_picture
from cnnpar.report.html.confusion import confusion_picture, most_confused
from cnnpar.report.html.contents import Contents, Judged, Mistake
from cnnpar.report.html.curves import curves
from cnnpar.report.html.mosaic import alt_of, mosaic, png
from cnnpar.report.html.theme import Drawing
from cnnpar.report.intervals import CONFIDENCE, as_percent
from cnnpar.text import one_line

_LONGEST, _SHORT = 40, 16  # characters of a class's name, and beneath a small picture
_Part = tuple[str, list[Drawing]]  # HTML, and the pictures in it that are worth a file


def whole(contents: Contents) -> tuple[bytes, list[Drawing]]:
    """Return the HTML file, and its pictures."""
    parts = [_what_it_was(contents), _curves(contents)]
    if contents.judged is not None:
        judged = contents.judged
        parts += [_classes(judged), _mistakes(judged), _calibration(judged)]
    parts += [_filters(contents), _activations(contents), _settings(contents)]
    found = [html for html, _ in parts if html]
    return document.page(contents.title, found), [picture for _, pictures in parts for picture in pictures]


def _what_it_was(contents: Contents) -> _Part:
    judged, lead = contents.judged, ""
    if judged is not None:
        lead = document.paragraph(
            f"accuracy {judged.correct / judged.total:.2%}: {judged.correct:,} of {judged.total:,} images right, "
            f"{judged.what} ({CONFIDENCE:.0%} interval {as_percent(judged.interval)})",
            "lead",
        )
    notes = [document.paragraph(note, "note") for note in contents.notes]
    return "\n".join([lead, *notes, document.table("", (), contents.facts)]), []


def _curves(contents: Contents) -> _Part:
    pictures = curves(contents.course)
    if not pictures:
        return "", []
    return document.section("Course of the training", document.group("row", map(document.figure, pictures))), pictures


def _classes(judged: Judged) -> _Part:
    if judged.matrix is None:
        return document.section("Classes", document.paragraph("There are too many for a table.")), []
    names = [one.name for one in judged.classes]
    picture = confusion_picture(judged.matrix, names)
    scores = [
        (one_line(one.name, _LONGEST), f"{one.images:,}", *map(_percent, (one.precision, one.recall, one.f1)))
        for one in judged.classes
    ]
    confused = [
        (f"{one_line(one.label, _LONGEST)} taken for {one_line(one.answer, _LONGEST)}", f"{one.times:,}", f"{one.of:,}")
        for one in most_confused(judged.matrix, names)
    ]
    said = "Right answers on the diagonal; each row is a label, each column an answer."
    matrix = document.figure(picture, said, "single")
    columns = ("class", "images", "precision", "recall", "F1")
    tables = [document.table("", columns, scores, "numbers")]
    if confused:
        tables.append(document.table("Most confused", ("confusion", "times", "of images"), confused, "numbers"))
    html = document.section(
        "Classes",
        document.paragraph(
            "Precision: how many of the answers of a class are right. Recall: how many images of the class are found. "
            "F1: their harmonic mean.",
            "quiet",
        ),
        document.group("row", [document.group("stack", tables), matrix]),
    )
    return html, [picture]


def _mistakes(judged: Judged) -> _Part:
    wrong = judged.total - judged.correct
    if not wrong:
        return document.section("Mistakes", document.paragraph("None: all answers are right.")), []
    shown = len(judged.mistakes)
    which = f"All {wrong:,}" if wrong <= shown else f"The {shown} worst of {wrong:,}"
    explained = f"{which}, those first whose label got the lowest probability."
    if any(one.file is None for one in judged.mistakes):
        explained += " Rows are counted from 1 in the file or data set, headers left out, as `cnnpar predict` does."
    pictures = document.group("small", map(_mistake, judged.mistakes))
    return document.section("Mistakes", document.paragraph(explained, "quiet"), pictures), []


def _mistake(one: Mistake) -> str:
    label, answer = one_line(one.label, _LONGEST), one_line(one.answer, _LONGEST)
    where = f"row {one.row:,}" if one.file is None else one_line(one.file)
    picture = Drawing("", f"{where}: label {label}, answer {answer}", png(one.image))
    name = where if one.file is None else one_line(PurePath(one.file).name, _LONGEST)
    caption = (
        f"<b>{document.text(label[:_SHORT])}</b> taken for <b>{document.text(answer[:_SHORT])}</b> with "
        f"{one.probability:.1%}; "
        f'label {one.of_label:.1%}; <span title="{document.text(where)}">{document.text(name)}</span>'
    )
    return document.figure(picture, caption)


def _calibration(judged: Judged) -> _Part:
    found = judged.calibration
    picture = calibration_picture(found)
    explained = (
        f"The probability of an answer and the share of right answers differ by {found.error:.2%} on average (expected "
        f"calibration error). On the dashed line, of the answers with a probability of 80% just 80% would be right; "
        f"below it the model is too sure of itself."
    )
    doubt = "" if found.are_probabilities else "With this loss the outputs rank the classes, and are no frequencies."
    html = document.section(
        "Calibration",
        document.paragraph(explained, "quiet"),
        document.paragraph(doubt, "note") if doubt else "",
        document.figure(picture, "", "single"),
    )
    return html, [picture]


def _filters(contents: Contents) -> _Part:
    if contents.filters is None:
        return "", []
    picture = mosaic("filters", contents.filters)
    colours = "each in its own colours" if contents.filters.maps.ndim == 4 else "red is above 0, blue below"
    explained = f"The weights that each output of the first layer multiplies the image with; {colours}."
    shown = document.group("maps", [document.figure(picture, document.text(alt_of(contents.filters)))])
    return document.section("First layer", document.paragraph(explained, "quiet"), shown), [picture]


def _activations(contents: Contents) -> _Part:
    if not contents.activations:
        return "", []
    pictures = [mosaic(f"activations-{number:02}", layer) for number, layer in enumerate(contents.activations)]
    explained = (
        "One image on its way through the network: what each layer makes of it. Bright, or red, is large; blue is "
        "below 0. Numbers without a place in the image are in rows."
    )
    figures = [
        document.figure(picture, document.text(alt_of(layer)))
        for picture, layer in zip(pictures, contents.activations, strict=True)
    ]
    html = document.section("Activations", document.paragraph(explained, "quiet"), document.group("maps", figures))
    return html, pictures


def _settings(contents: Contents) -> _Part:
    machine = document.folded("Machine and versions (the fingerprint)", document.table("", (), contents.machine))
    settings = document.folded("All settings", document.verbatim(contents.settings))
    return document.section("Details", machine, settings), []


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
