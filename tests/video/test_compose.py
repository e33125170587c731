import numpy as np
import pytest

from rerender.video.compose import GAP, LABEL_HEIGHT, MARGIN, contact_sheet, side_by_side

RED = np.full((40, 60, 3), (200, 0, 0), dtype=np.uint8)
BLUE = np.full((20, 30, 3), (0, 0, 200), dtype=np.uint8)


def test_frames_are_scaled_to_the_height_of_the_first() -> None:
    joined = side_by_side(RED, BLUE, RED)
    assert joined.shape == (40, 180, 3)
    assert np.array_equal(joined[:, :60], RED)
    assert (joined[:, 60:120] == (0, 0, 200)).all()
    assert np.array_equal(joined[:, 120:], RED)


def test_equal_sizes_are_not_resampled() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    assert np.array_equal(side_by_side(*noise), np.concatenate(list(noise), axis=1))


def test_a_sheet_shows_each_picture_in_its_row_and_column_under_its_labels() -> None:
    sheet = contact_sheet([[RED, BLUE, RED], [BLUE, BLUE, RED]], ["source", "ink"], ["0", "8", "16"], cell_width=90)
    top, step = MARGIN + LABEL_HEIGHT, 60 + LABEL_HEIGHT
    assert sheet.shape == (top + 2 * step + MARGIN, 2 * MARGIN + 3 * 90 + 2 * GAP, 3)
    for row, pictures in enumerate(((RED, BLUE, RED), (BLUE, BLUE, RED))):
        y = top + row * step
        assert sheet[y : y + LABEL_HEIGHT, MARGIN : MARGIN + 90].min() < 120, "no text above the row"
        for column, picture in enumerate(pictures):
            x = MARGIN + column * (90 + GAP)
            assert (sheet[y + LABEL_HEIGHT : y + step, x : x + 90] == picture[0, 0]).all()
            assert sheet[MARGIN:top, x : x + 90].min() < 120, "no text above the column"


@pytest.mark.parametrize(("rows", "labels"), [([], []), ([[]], ["a"]), ([[RED]], []), ([[RED, RED]], ["a"])])
def test_labels_must_match(rows: list[list[np.ndarray]], labels: list[str]) -> None:
    with pytest.raises(ValueError, match="labels"):
        contact_sheet(rows, labels, ["0"])
