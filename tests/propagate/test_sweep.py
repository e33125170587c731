"""What each frame of a sweep is synthesised from, and what becomes of it: on a backend that notes what it is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rerender.propagate import PropagationSettings
from rerender.propagate import sweep as sweep_module
from rerender.propagate.backend import HostBackend
from rerender.propagate.detail import detail_energy
from rerender.propagate.guides import pixel_grid
from rerender.propagate.holes import plan_filling
from rerender.propagate.problem import Guide
from rerender.propagate.steps import Step
from rerender.propagate.sweep import Swept, sweep
from rerender.propagate.synthesis import Synthesis

HEIGHT, WIDTH, MOVED = 40, 56, np.array([3, -2])
SETTINGS = PropagationSettings(preset="fast", threads=1, outline_weight=0.0, follow=False)
INNER = np.s_[10:-10, 10:-10]  # where nothing comes from beyond the edges, in two steps


class Noting(HostBackend):
    """Notes what is to be synthesised, and gives noise for it: no two pixels alike in picture, matches and error."""

    def __init__(self) -> None:
        super().__init__(SETTINGS)
        self.guides, self.starts, self.wanted = list[list[Guide]](), list[Any](), list[Any]()
        self.made = list[Synthesis]()

    def synthesize(self, style: Any, guides: Any, start: Any, wanted: Any) -> Synthesis:
        self.guides.append(guides)
        self.starts.append(start)
        self.wanted.append(wanted)
        rng = np.random.default_rng(len(self.made))
        field = np.stack([rng.permuted(axis) for axis in pixel_grid(HEIGHT, WIDTH).transpose(2, 0, 1)], -1)
        picture = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        self.made.append(Synthesis(picture, field.astype(np.int32), rng.uniform(1, 9, (HEIGHT, WIDTH)).astype("f4")))
        return self.made[-1]


def texture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def step(holes: np.ndarray | None = None) -> Step:
    """What leads to a frame from one in which all lies `MOVED` further on."""
    holes = np.zeros((HEIGHT, WIDTH), bool) if holes is None else holes
    flow = np.broadcast_to(MOVED.astype(np.float32), (HEIGHT, WIDTH, 2)).copy()
    return Step(flow, holes, plan_filling(holes, np.zeros((HEIGHT, WIDTH, 1), np.float32)))


def made(*steps: Step | None, **chosen: Any) -> tuple[Noting, list[Swept]]:
    backend = Noting()
    path = [(texture(number), way) for number, way in enumerate(steps, 1)]
    states = sweep(texture(0), texture(100), path, replace(SETTINGS, **chosen), backend)
    return backend, [state.result for state in states]


def ahead(array: np.ndarray, steps: int = 1) -> np.ndarray:
    """What an array has where the flow leads."""
    return np.roll(array, tuple(-steps * MOVED[::-1]), (0, 1))


def guide_of(guides: list[Guide], weight: float) -> Guide:
    return next(guide for guide in guides if guide.weight == weight)


def test_the_search_starts_from_the_matches_of_the_frame_before_along_the_flow() -> None:
    backend, _ = made(step(), step())
    first, second = backend.starts
    assert np.array_equal(first[INNER], (pixel_grid(HEIGHT, WIDTH) + MOVED)[INNER])
    assert np.array_equal(second[INNER], ahead(backend.made[0].nnf)[INNER])


def test_where_the_frame_before_shows_something_else_the_search_starts_where_the_flow_leads() -> None:
    holes = np.zeros((HEIGHT, WIDTH), bool)
    holes[15:22, 20:30] = True
    backend, results = made(step(), step(holes), step())
    start = backend.starts[1]
    assert np.array_equal(start[holes], (pixel_grid(HEIGHT, WIDTH) + 2 * MOVED)[holes])
    assert np.array_equal(start[INNER][~holes[INNER]], ahead(backend.made[0].nnf)[INNER][~holes[INNER]])
    assert np.array_equal(results[1].seen[INNER], ~holes[INNER])
    assert np.array_equal(results[2].seen[INNER], ahead(~holes)[INNER])  # it stays unseen for good
    earlier = guide_of(backend.guides[1], SETTINGS.temporal_weight).target
    assert earlier[holes].std() < 0.8 * earlier[~holes].std()  # filled by means of what is around


def test_each_guide_has_its_own_pictures_and_weight() -> None:
    weights = {"color_weight": 2.0, "edge_weight": 3.0, "outline_weight": 5.0, "position_weight": 7.0}
    backend, results = made(step(), step(), **weights, temporal_weight=11.0)
    guides = backend.guides[1]
    assert sorted(guide.weight for guide in guides) == [2, 3, 5, 7, 11]
    assert [guide.weight for guide in guides if not guide.refines] == [11]
    colour, edge, outline, position, temporal = (guide_of(guides, weight) for weight in (2, 3, 5, 7, 11))
    assert np.array_equal(colour.source, texture(0))
    assert np.array_equal(colour.target, texture(2))
    assert edge.source.shape == (HEIGHT, WIDTH, 3)
    assert abs(float(np.median(edge.target)) - 128) < 20
    assert outline.source.shape == outline.target.shape == (HEIGHT, WIDTH)
    places = pixel_grid(HEIGHT, WIDTH) * 255 / (WIDTH - 1)
    assert np.allclose(position.source, places, atol=1e-3)
    assert np.allclose(position.target[INNER], places[INNER] + 2 * MOVED * 255 / (WIDTH - 1), atol=1e-3)
    assert np.array_equal(temporal.source, texture(100))
    assert np.array_equal(temporal.target[INNER], ahead(results[0].picture)[INNER])


def test_a_guide_of_no_weight_is_left_out() -> None:
    backend, _ = made(step(), edge_weight=0.0, position_weight=0.0)
    assert [guide.weight for guide in backend.guides[0]] == [SETTINGS.color_weight, SETTINGS.temporal_weight]


@pytest.mark.parametrize(("way", "chosen"), [(None, {}), (step(), {"temporal": False})])
def test_what_no_flow_connects_with_the_key_starts_anew(way: Step | None, chosen: dict[str, Any]) -> None:
    backend, (result,) = made(way, **chosen)
    assert backend.starts == backend.wanted == [None]
    assert sorted(guide.weight for guide in backend.guides[0]) == [SETTINGS.edge_weight, SETTINGS.color_weight]
    assert np.array_equal(result.picture, backend.made[0].picture)
    assert np.array_equal(result.error, backend.made[0].error)
    assert result.trust.max() == result.seen.max() == 0


def test_behind_a_cut_the_flow_to_the_key_is_where_the_matches_lie() -> None:
    backend, results = made(None, step())
    position = guide_of(backend.guides[1], SETTINGS.position_weight)
    places = ahead(backend.made[0].nnf) * 255 / (WIDTH - 1)
    assert np.allclose(position.target[INNER], places[INNER], atol=1e-2)
    assert np.array_equal(backend.starts[1][INNER], ahead(backend.made[0].nnf)[INNER])
    assert results[1].seen.max() == 0


@pytest.fixture
def half_trusted(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Trust: full on the left, 0.25 on a strip in the middle, none on the right; nowhere in the third frame."""
    trust = np.ones((HEIGHT, WIDTH), np.float32)
    trust[:, 28:32], trust[:, 32:] = 0.25, 0
    each = iter([trust, trust, 0 * trust])
    monkeypatch.setattr(sweep_module, "trust_in_flow", lambda *_, **__: next(each))
    return trust


def test_a_frame_is_its_key_as_far_as_that_is_trusted_and_the_rest_is_synthesised(half_trusted: np.ndarray) -> None:
    backend, (result,) = made(step(), follow=True)
    key, own = ahead(texture(100)).astype(float), backend.made[0].picture.astype(float)
    trust = half_trusted[..., None]
    assert np.abs(result.picture - (own + trust * (key - own)))[INNER].max() <= 1
    assert np.array_equal(result.trust, half_trusted)
    assert np.array_equal(result.error, backend.made[0].error)
    around = np.flatnonzero(backend.wanted[0][HEIGHT // 2])
    assert (around[0], around[-1]) == (28 - 3, WIDTH - 1)  # so that patches at the rim see the same surroundings


def test_matches_are_where_the_flow_leads_unless_they_were_searched(half_trusted: np.ndarray) -> None:
    backend, results = made(step(), step(), step(), follow=True)
    wanted, searched = backend.wanted[0], backend.made[0].nnf
    followed = pixel_grid(HEIGHT, WIDTH) + MOVED
    carried = ahead(np.where(wanted[..., None], searched, followed))
    expected = np.where((half_trusted < 1)[..., None], carried, followed + MOVED)
    assert np.array_equal(backend.starts[1][INNER], expected[INNER])
    last = ahead(np.where(wanted[..., None], backend.made[1].nnf, expected))
    assert np.array_equal(backend.starts[2][12:-12, 12:-12], last[12:-12, 12:-12])
    energy = detail_energy(texture(100))
    there = energy[searched[..., 1], searched[..., 0]]
    mixed = there + half_trusted * (ahead(energy) - there)
    assert np.allclose(results[0].detail[INNER], np.where(wanted, mixed, ahead(energy))[INNER], rtol=1e-4)


def test_a_frame_that_is_trusted_all_over_is_not_synthesised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "trust_in_flow", lambda *_, **__: np.ones((HEIGHT, WIDTH), np.float32))
    backend, (result,) = made(step(), follow=True)
    assert not backend.made
    assert np.array_equal(result.picture[INNER], ahead(texture(100))[INNER])
    assert result.error.max() == 0


OWN, OBJECT = (
    np.s_[10 : HEIGHT - 10, 24:28],
    np.s_[10 : HEIGHT - 10, 34:38],
)  # what is drawn on the first belongs to the second
OTHER = np.array([-1, 4])


def beside_an_object(key: Any, here: Any, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`shared_motion` that lets the first take the motion of the second."""
    chosen, moved = motion.copy(), np.zeros(motion.shape[:2], bool)
    chosen[OWN], moved[OWN] = motion[OBJECT], True
    return chosen, moved


def step_with_object(holes: np.ndarray | None = None) -> Step:
    usual = step(holes)
    usual.flow[:, 30:42] = OTHER
    return usual


def attached(monkeypatch: pytest.MonkeyPatch, second: Step) -> tuple[Noting, list[Swept]]:
    """Three frames; in the second one something is drawn beside its object."""
    ways = iter([None, beside_an_object, None])

    def chosen(key: Any, here: Any, motion: np.ndarray) -> Any:
        way = next(ways)
        return way(key, here, motion) if way is not None else (motion, np.zeros(motion.shape[:2], bool))

    monkeypatch.setattr(sweep_module, "shared_motion", chosen)
    return made(step(), second, step(), outline_weight=2.5)


def test_what_is_drawn_beside_an_object_moves_with_it_and_its_place_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, results = attached(monkeypatch, step_with_object())
    y, x = np.mgrid[OWN]
    there = y + OTHER[1], x + OTHER[0]
    assert np.array_equal(backend.starts[1][OWN], backend.made[0].nnf[there])
    temporal, position = (
        guide_of(backend.guides[1], getattr(SETTINGS, f"{n}_weight")) for n in ("temporal", "position")
    )
    assert np.array_equal(temporal.target[OWN], results[0].picture[there])
    to_key = (position.target - position.source) * (WIDTH - 1) / 255
    assert np.allclose(to_key[OWN], MOVED + OTHER, atol=1e-3)
    further = guide_of(backend.guides[2], SETTINGS.position_weight)  # goes on from what lies there
    to_key = (further.target - further.source) * (WIDTH - 1) / 255
    assert np.allclose(to_key[14:20, 21:24], 3 * MOVED, atol=1e-3)


def test_what_a_hole_hides_is_not_taken_from_the_object_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    holes = np.zeros((HEIGHT, WIDTH), bool)
    holes[OBJECT] = True
    backend, results = attached(monkeypatch, step_with_object(holes))
    temporal = guide_of(backend.guides[1], SETTINGS.temporal_weight)
    assert np.array_equal(temporal.target[OWN], ahead(results[0].picture)[OWN])
    assert np.array_equal(backend.starts[1][OWN], ahead(backend.made[0].nnf)[OWN])
    assert results[1].seen[OWN].max() == 0  # it is as visible as the object
