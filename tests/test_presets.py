"""Presets: built-in ones are valid, own ones come back, names cannot leave the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerender.errors import UserError
from rerender.presets import BUILT_IN, COVERED, PresetShelf
from rerender.settings import make_settings


@pytest.mark.parametrize("preset", BUILT_IN, ids=lambda preset: preset.name)
def test_built_in_presets_are_valid_and_complete(preset: object) -> None:
    values = preset.complete()  # type: ignore[attr-defined]
    assert set(values) == set(COVERED)
    assert set(preset.values) <= set(COVERED)  # type: ignore[attr-defined]
    settings = make_settings(values)
    assert {name: getattr(settings, name) for name in COVERED} == values


def test_built_in_presets_name_samplers_that_both_hosts_have() -> None:
    from rerender.hosts.standalone.samplers import SAMPLERS

    named = {preset.complete()["sampler"] for preset in BUILT_IN}
    assert named <= {sampler.name for sampler in SAMPLERS}


def test_presets_leave_the_clip_and_the_prompt_alone() -> None:
    assert not {"prompt", "seed", "start_frame", "crop_left", "key_frames", "device"} & set(COVERED)
    assert {"steps", "attention", "key_interval", "propagation_preset", "short_side"} <= set(COVERED)


def test_own_preset_comes_back(tmp_path: Path) -> None:
    shelf = PresetShelf(tmp_path / "presets")
    shelf.save("My  look", {"steps": 12, "prompt": "a cat", "seed": 5})
    assert PresetShelf(tmp_path / "presets").names()[-1] == "My look"
    assert shelf.get("My look").values == {"steps": 12}
    shelf.save("My look", {"steps": 13})
    assert shelf.get("My look").complete()["steps"] == 13
    shelf.delete("My look")
    assert shelf.names() == [preset.name for preset in BUILT_IN]


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "C:\\x", "n\0ul", "\n"])
def test_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    shelf = PresetShelf(tmp_path / "deep" / "presets")
    try:
        shelf.save(name, {"steps": 12})
    except UserError as error:
        assert "no name" in error.message  # noqa: PT017
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.parent == shelf.folder and path.suffix == ".json" for path in files)


def test_built_in_presets_cannot_be_replaced_or_deleted(tmp_path: Path) -> None:
    shelf = PresetShelf(tmp_path)
    with pytest.raises(UserError, match="built-in"):
        shelf.save("balanced", {"steps": 12})
    with pytest.raises(UserError, match="built-in"):
        shelf.delete("Balanced")
    with pytest.raises(UserError, match="no preset"):
        shelf.delete("other")


@pytest.mark.parametrize("content", ["", "[]", '{"settings": 3}', '{"settings": {"steps": "many"}}'])
def test_damaged_preset_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "odd.json").write_text(content)
    with pytest.raises(UserError):
        PresetShelf(tmp_path).get("odd")


def test_bad_value_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="steps"):
        PresetShelf(tmp_path).save("x", {"steps": 0})
    assert list(tmp_path.iterdir()) == []
