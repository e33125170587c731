from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerender.errors import UserError
from rerender.motion.flow import flow_estimator_names
from rerender.settings import (
    SECTIONS,
    Settings,
    flow_of_propagation,
    json_schema,
    make_settings,
    schema,
    settings_table,
    values_up_to,
)


def test_every_setting_has_a_stage_a_help_text_and_a_default_that_is_allowed() -> None:
    assert len(schema()) == len(Settings.__fields__)
    for info in schema().values():
        assert info.help.endswith("."), info.name
        assert getattr(make_settings({info.name: info.default}), info.name) == info.default


def test_sections_hold_each_setting_once() -> None:
    names = [name for model in SECTIONS.values() for name in model.__fields__]
    assert sorted(names) == sorted(set(names)) == sorted(Settings.__fields__)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stesp": 3}, ["'stesp'", "Did you mean steps?"]),
        ({"steps": 151}, ["steps", "151", "1 to 150"]),
        ({"steps": "many"}, ["steps", "'many'", "1 to 150"]),
        ({"steps": 1.5}, ["steps", "1.5"]),
        ({"steps": True}, ["steps", "True"]),
        ({"audio": "maybe"}, ["audio", "'maybe'", "true or false"]),
        ({"key_mode": "often"}, ["key_mode", "'often'", "uniform, adaptive, listed"]),
        ({"cfg_scale": "nan"}, ["cfg_scale", "'nan'", "1 to 30"]),
        ({"cfg_scale": "inf"}, ["cfg_scale", "'inf'"]),
        ({"prompt": 7}, ["prompt", "7"]),
        ({"seed": 2**32}, ["seed", str(2**32)]),
        ({"pixel_start": 0.9, "pixel_end": 0.5}, ["pixel_start (0.9)", "pixel_end (0.5)"]),
        ({"start_frame": 10, "end_frame": 10}, ["end_frame (10)", "start_frame"]),
        ({"key_min_gap": 30}, ["key_min_gap (30)", "key_max_gap (20)"]),
    ],
)
def test_refusals_name_the_setting_the_value_and_what_is_allowed(values: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        make_settings(values)
    for word in words:
        assert word in str(caught.value)


def test_text_from_a_command_line_becomes_typed() -> None:
    settings = make_settings({"steps": "30", "audio": "off", "cfg_scale": "2.5", "key_mode": "Adaptive", "seed": "1e3"})
    assert (settings.steps, settings.audio, settings.cfg_scale) == (30, False, 2.5)
    assert (settings.key_mode, settings.seed) == ("adaptive", 1000)


def test_values_lie_over_a_base() -> None:
    base = make_settings({"prompt": "ink", "steps": 7})
    assert make_settings({"steps": 8}, base=base).dict() == {**base.dict(), "steps": 8}


@given(st.integers(min_value=-(10**6), max_value=10**6))
def test_whole_numbers_are_accepted_exactly_within_their_bounds(value: int) -> None:
    if 1 <= value <= 150:
        assert make_settings({"steps": value}).steps == value
    else:
        with pytest.raises(UserError):
            make_settings({"steps": value})


def test_json_schema_describes_every_setting() -> None:
    document = json.loads(json.dumps(json_schema()))
    assert set(document["properties"]) == set(schema())
    steps = document["properties"]["steps"]
    assert (steps["type"], steps["minimum"], steps["maximum"], steps["section"]) == ("integer", 1, 150, "Generation")
    assert document["properties"]["key_mode"]["enum"] == ["uniform", "adaptive", "listed"]
    assert document["additionalProperties"] is False


def test_table_has_a_row_for_each_setting() -> None:
    rows = settings_table().splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == list(schema())


def test_results_do_not_depend_on_where_they_are_made_or_on_how_frames_were_chosen() -> None:
    everything = values_up_to(Settings(), "output")
    assert not {"device", "workers", "limit_frames", "key_interval", "start_frame"} & set(everything)
    assert "pixel_fusion" not in values_up_to(Settings(), "first")
    assert {"short_side", "steps"} <= set(values_up_to(Settings(), "first"))


def test_propagation_may_follow_every_estimator_or_that_of_the_key_frames() -> None:
    assert set(schema()["propagation_flow"].choices) == {"same", *flow_estimator_names()}
    assert flow_of_propagation(make_settings({"flow": "dis_fast", "propagation_flow": "same"})) == "dis_fast"
    assert flow_of_propagation(make_settings({"flow": "dis_fast", "propagation_flow": "dis"})) == "dis"
