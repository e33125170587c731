import numpy as np
import pytest

from rerender.video.compose import GAP, LABEL_HEIGHT, MARGIN, contact_sheet, side_by_side

RED = np.full((40, 60, 3), (200, 0, 0), dtype=np.uint8)
BLUE = np.full((20, 30, 3), (0, 0, 200), dtype=np.uint8)


def test_side_by_side_scales_the_right_frame_to_the_height_of_the_left() -> None:
    both = side_by_side(RED, BLUE)
    assert both.shape == (40, 120, 3)
    assert np.array_equal(both[:, :60], RED)
    assert (both[:, 60:] == (0, 0, 200)).all()


def test_equal_sizes_are_not_resampled() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    assert np.array_equal(side_by_side(*noise), np.concatenate(list(noise), axis=1))


@pytest.mark.parametrize(("count", "columns", "shape"), [(1, None, (1, 1)), (5, 2, (3, 2)), (6, None, (3, 2))])
def test_a_sheet_has_a_cell_and_a_label_for_each_pair(count: int, columns: int | None, shape: tuple[int, int]) -> None:
    labels = [f"frame {k}" for k in range(count)]
    sheet = np.asarray(contact_sheet([(RED, BLUE)] * count, labels, cell_width=248, columns=columns))
    cell_height = LABEL_HEIGHT + 80
    assert sheet.shape[0] == MARGIN + shape[0] * (cell_height + MARGIN)
    assert sheet.shape[1] == MARGIN + shape[1] * (248 + MARGIN)
    for number in range(count):
        x = MARGIN + number % shape[1] * (248 + MARGIN)
        y = MARGIN + number // shape[1] * (cell_height + MARGIN)
        cell = sheet[y + LABEL_HEIGHT : y + cell_height, x : x + 248]
        assert (cell[:, :120] == (200, 0, 0)).all()
        assert (cell[:, 120 + GAP :] == (0, 0, 200)).all()
        label = sheet[y : y + LABEL_HEIGHT, x : x + 248]
        assert label.min() < 120, "no text above the pair"


def test_a_label_for_each_pair() -> None:
    with pytest.raises(ValueError, match="labels"):
        contact_sheet([(RED, BLUE)], [])
    with pytest.raises(ValueError, match="0 pairs"):
        contact_sheet([], [])
