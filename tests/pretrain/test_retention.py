"""Which checkpoints stay."""

from pretrain.runs.retention import name_of, surplus


def names(*steps: int) -> list[str]:
    return [name_of(step) for step in steps]


def test_the_newest_stay() -> None:
    assert surplus(names(10, 20, 30), name_of(30), 2, None) == names(10)
    assert surplus(names(30), name_of(30), 2, None) == []


def test_milestones_stay_for_ever() -> None:
    there = names(10, 20, 30, 40, 50)
    assert surplus(there, name_of(50), 2, 20) == names(10, 30)
    assert surplus(there, name_of(50), 1, 10) == []


def test_later_ones_are_of_a_curve_that_was_left() -> None:
    assert surplus(names(10, 20, 30, 40), name_of(20), 2, 40) == names(30, 40)


def test_steps_count_as_numbers() -> None:
    there = [name_of(99_999_999), "step-100000000"]
    assert surplus(there, "step-100000000", 1, None) == [name_of(99_999_999)]
