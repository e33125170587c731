"""The order of a synthesis' work (docs/propagation.md, "A level"): on an engine that notes what it is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rerender.propagate.guides import pixel_grid
from rerender.propagate.problem import Effort, Guide, Level, Problem
from rerender.propagate.synthesis import synthesize

HEIGHT, WIDTH = 48, 44
EFFORT = Effort(2, 3, radius=5)
SHAPES = [(12, 11), (24, 22), (48, 44)]


@dataclass
class Notes:
    """An engine; its levels stop moving after so many votes of each level."""

    votes: int = 99
    levels: list[NotingLevel] = field(default_factory=list)

    def __call__(self, problem: Problem, level: Level, nnf: np.ndarray) -> NotingLevel:
        self.levels.append(NotingLevel(problem, level, nnf, self.votes))
        return self.levels[-1]


class NotingLevel:
    """The interface of `NumbaLevel`."""

    def __init__(self, problem: Problem, level: Level, nnf: np.ndarray, votes: int) -> None:
        self.problem, self.shape, self.nnf, self.left = problem, level.target_shape, nnf, votes
        self.errors = np.full(self.shape, 7, np.int32)
        self.calls: list[str] = []
        self.searches: list[dict[str, Any]] = []

    def search(self, **chosen: Any) -> None:
        self.calls.append("search")
        self.searches.append(chosen)

    def vote(self, softness: float = 0.0) -> bool:
        self.calls.append(f"vote {softness:.2e}" if softness else "vote")
        self.left -= 1
        return self.left > 0

    def activate_all(self) -> None:
        self.calls.append("all")

    def settle(self) -> None:
        self.calls.append("settle")

    def refine(self, softness: float = 0.0) -> None:
        self.calls.append(f"refine {softness:.2e}" if softness else "refine")

    def picture(self) -> np.ndarray:
        return np.full((*self.shape, 3), 254.6, np.float32)


def run(engine: Notes, effort: Effort = EFFORT, patch: int = 5, **options: Any) -> Notes:
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    made = synthesize(picture, [Guide(picture, picture, 3.0)], effort=effort, patch=patch, engine=engine, **options)
    assert (made.picture == 255).all()
    assert np.allclose(made.error, 7 / engine.levels[-1].problem.scale ** 2)
    return engine


def test_a_round_is_its_passes_and_a_vote() -> None:
    levels = run(Notes()).levels
    assert [level.shape for level in levels] == SHAPES
    rounds = ["vote", "all", *["search"] * 3, "vote", *["search"] * 3, "vote"]
    assert [level.calls[: len(rounds)] for level in levels] == [rounds] * 3
    assert [level.calls[len(rounds) :] for level in levels] == [[], [], ["settle", "refine", "settle"]]
    for level in levels:
        assert [search["reverse"] for search in level.searches] == [False, True] * 3
        assert [search["shift"] for search in level.searches] == [0, 16] * 3
        assert [search["rescore"] for search in level.searches] == [True, False, False] * 2
        assert all(search["propagate"] for search in level.searches)
    assert [{search["radius"] for search in level.searches} for level in levels] == [{12}, {5}, {5}]
    assert len({search["key"] for level in levels for search in level.searches}) == 18


@pytest.mark.parametrize(("votes", "rounds"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_a_level_ends_when_nothing_moves(votes: int, rounds: int) -> None:
    for level in run(Notes(votes), Effort(5, 2)).levels:
        assert len(level.searches) == 2 * rounds


def test_without_a_tolerance_everything_is_searched_in_every_round() -> None:
    for level in run(Notes(1), Effort(3, 1, radius=0, tolerance=0.0)).levels:
        assert level.calls[:11] == ["vote", "all", *["search", "vote", "all"] * 3]
        assert {search["radius"] for search in level.searches} == {max(level.shape)}


def test_a_given_field_starts_the_finest_levels_without_a_search_of_the_whole_source() -> None:
    start = pixel_grid(HEIGHT, WIDTH).astype(np.int32)
    levels = run(Notes(), start=start, start_levels=2).levels
    assert [level.shape for level in levels] == SHAPES[1:]
    assert all(search["radius"] == 5 for level in levels for search in level.searches)
    inner = np.s_[4:-4, 4:-4]
    for level in levels:
        assert np.array_equal(level.nnf[inner], pixel_grid(*level.shape).astype(np.int32)[inner])


def test_a_random_start_covers_the_coarsest_source_in_both_axes() -> None:
    nnf = run(Notes()).levels[0].nnf
    assert (nnf[..., 0].min(), nnf[..., 0].max()) == (2, 8)
    assert (nnf[..., 1].min(), nnf[..., 1].max()) == (2, 9)
    assert abs(np.corrcoef(nnf[..., 0].ravel(), nnf[..., 1].ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("patch", [3, 5])
def test_the_last_vote_is_weighed_by_errors_of_the_guides_scale(patch: int) -> None:
    for subpixel, last in ((True, "refine"), (False, "vote")):
        level = run(Notes(), patch=patch, weighted=True, subpixel=subpixel).levels[-1]
        softness = 1 / (10 * patch**2 * level.problem.scale**2)
        assert level.calls[-3:] == ["settle", f"{last} {softness:.2e}", "settle"]
    assert run(Notes(), subpixel=False).levels[-1].calls[-2:] == ["vote", "settle"]
