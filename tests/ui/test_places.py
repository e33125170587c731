"""Confinement of paths that come from outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerender.ui.places import Forbidden, Missing, confined, safe_name


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "videos" / "deep er").mkdir(parents=True)
    (tmp_path / "uploads" / "a.mp4").touch()
    (tmp_path / "videos" / "deep er" / "ü.mp4").touch()
    (tmp_path / "secret.mp4").touch()
    (tmp_path / "uploads" / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    return [tmp_path / "uploads", tmp_path / "videos"]


def test_allowed_paths_are_found(folders: list[Path]) -> None:
    assert confined("a.mp4", folders) == (folders[0] / "a.mp4").resolve()
    assert confined("deep er/ü.mp4", folders).name == "ü.mp4"
    assert confined(str(folders[1] / "deep er" / "ü.mp4"), folders).name == "ü.mp4"


@pytest.mark.parametrize("name", ["../secret.mp4", "link.mp4", "/etc/passwd", "deep er/../../secret.mp4", "", "a\0b"])
def test_everything_else_is_forbidden(folders: list[Path], name: str) -> None:
    with pytest.raises(Forbidden):
        confined(name, folders)


def test_absolute_path_to_a_sibling_is_forbidden(folders: list[Path]) -> None:
    with pytest.raises(Forbidden):
        confined(str(folders[0].parent / "secret.mp4"), folders)


def test_missing_file_is_told_from_a_forbidden_one(folders: list[Path]) -> None:
    with pytest.raises(Missing):
        confined("b.mp4", folders)


@given(st.text())
def test_safe_names_stay_in_their_folder(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert "/" not in safe
    assert "\\" not in safe
    assert safe not in (".", "..")
    assert (Path("/x") / safe).parent == Path("/x")
