"""Words of `cnnpar compare` on the answers of models, against the numbers that they are about."""

from hypothesis import given
from hypothesis import strategies as st

from cnnpar.report import intervals
from cnnpar.report.comparison import Comparison, Pair, Side
from cnnpar.report.verdicts import verdicts


def _side(name: str, accuracy: float, trained_on_images: bool | None = False) -> Side:
    return Side(
        name=name,
        checkpoint=f"{name}.json",
        epoch=1,
        epochs=1,
        step=1,
        seconds=1.0,
        weights_sha256="",
        exact=True,
        preset=None,
        layers=1,
        parameters=1,
        trained_on_images=trained_on_images,
        accuracy=accuracy,
    )


def _said(*splits: tuple[int, int], total: int = 359, last_knows: bool | None = False) -> str:
    """Return the words on models that lose and win so many images against the first, of which half are right."""
    names, adjusted = "BCDEF", intervals.adjusted_by_holm([intervals.chance_of_split(*split) for split in splits])
    sides, pairs = [_side("A", 0.5)], list[Pair]()
    for name, (lost, won), chance in zip(names, splits, adjusted, strict=False):
        knows = last_knows if len(pairs) == len(splits) - 1 else False
        sides.append(_side(name, 0.5 + (won - lost) / total, knows))
        pairs.append(
            Pair(
                other=name,
                same_data=True,
                fingerprint="",
                same_shapes=True,
                same_weights=False,
                equal_step=None,
                unequal_step=1,
                unequal_epoch=1,
                only_first_right=lost,
                only_other_right=won,
                chance=intervals.chance_of_split(lost, won),
                adjusted_chance=chance,
                difference=(won - lost) / total,
                interval=intervals.of_difference(lost, won, total),
            )
        )
    return "\n".join(verdicts(Comparison(sides, True, [], pairs, total, "images", None, [])))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(120, 20_000))
def test_the_verdict_contradicts_neither_test_nor_interval(lost: int, won: int, total: int) -> None:
    said = _said((lost, won), total=total)
    low, high = intervals.of_difference(lost, won, total)
    differs, unlikely = not low <= 0 <= high, intervals.chance_of_split(lost, won) < 0.05
    assert ("it is hardly chance" in said) == (differs and unlikely)
    assert ("it may be chance" in said or "right on the same images" in said) == (not differs and not unlikely)
    assert ("a borderline case" in said) == (differs != unlikely)


def test_numbers_say_by_what_they_were_computed() -> None:
    said = _said((0, 5))
    assert "it may be chance. Equally good models differ so much, or more, in 6.2 of 100 comparisons" in said
    assert "(McNemar's exact test)" in said
    assert "+1.39 points (95% interval -0.04 to +2.81, Bonett and Price)" in said
    assert "Holm" not in said
    said = _said((16, 6), total=161)
    assert "a borderline case, possibly chance by the test and hardly chance by the interval" in said


def test_several_comparisons_are_adjusted_for_their_number() -> None:
    said = _said((0, 6), (1, 2), (2, 1))
    assert "in 3.1 of 100 comparisons (McNemar's exact test), which count as 9.4 of 100 among 3 comparisons" in said
    assert "it would hardly be chance if it were the only comparison, and may be chance among several" in said
    assert "it is hardly chance" in _said((0, 20), (1, 2))


def test_the_highest_accuracy_is_named() -> None:
    assert "highest accuracy: C\n" in _said((3, 0), (0, 3))
    assert "highest accuracy: A, C\n" in _said((3, 0), (2, 2))
    assert "highest accuracy" not in _said((0, 3))


def test_a_doubt_is_within_the_verdict() -> None:
    said = _said((0, 20), (0, 30), last_knows=True)
    assert "highest accuracy: C, but C was trained on these images\n" in said
    assert "it is hardly chance. " in said
    assert "it is hardly chance, but C was trained on these images. " in said
    assert "it is hardly chance, but B may have been trained on these images. " in _said((0, 20), last_knows=None)
