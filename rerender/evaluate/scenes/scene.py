"""A clip made of layers, with everything about it known exactly: frames, flow, occlusion, labels, captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rerender.evaluate.scenes import shapes, textures
from rerender.evaluate.scenes.poses import Path, Pose

Frame = NDArray[np.uint8]
Flow = NDArray[np.float32]
Mask = NDArray[np.bool_]
Array = NDArray[np.float64]

Light = Callable[[float, Array, Array], Array]
"""(time in frames from the middle, x, y in [0, 1]) to a gain (H, W, 3) that multiplies the frame."""


@dataclass(frozen=True)
class Layer:
    """A textured plane that covers all of the picture, or an object cut out of one."""

    name: str
    texture: NDArray[np.float32]
    path: Path
    outline: str | None = None
    radius: float = 0.0

    def inside(self, u: Array, v: Array) -> Array:
        """Signed distance to the outline in pixels of the layer's plane; negative inside; -inf for a background."""
        if self.outline is None:
            return np.full(np.shape(u), -np.inf)
        return shapes.distance(self.outline, u, v, self.radius)


@dataclass(frozen=True)
class Shot:
    """Layers from back to front under one light. A scene cut is a change of shot."""

    layers: tuple[Layer, ...]
    caption: str
    light: Light | None = None


@dataclass(frozen=True)
class Scene:
    """A clip with exact truth. Pictures are rendered on first use and kept.

    Pixel (row, column) has its centre at (x, y) = (column, row). Occlusion and labels are decided at pixel centres;
    edges are antialiased, so colours within a pixel of an edge are mixtures.
    """

    kind: str
    seed: int
    size: tuple[int, int]
    """(height, width)"""
    shots: tuple[Shot, ...]
    shot_of_frame: tuple[int, ...]
    _cache: dict[tuple[str, int, int], NDArray[np.generic]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.shot_of_frame)

    @property
    def name(self) -> str:
        """Kind and seed, for file names and tables."""
        return f"{self.kind}-{self.seed}"

    @property
    def cuts(self) -> tuple[int, ...]:
        """Indices of the frames that begin a new shot (not frame 0)."""
        pairs = zip(self.shot_of_frame, self.shot_of_frame[1:], strict=False)
        return tuple(i + 1 for i, (a, b) in enumerate(pairs) if a != b)

    @cached_property
    def frames(self) -> list[Frame]:
        """The frames, uint8 RGB (H, W, 3)."""
        return [self.frame(i) for i in range(len(self))]

    def frame(self, i: int) -> Frame:
        """Frame i alone, rendered anew at each call."""
        return self._render(i)

    @cached_property
    def labels(self) -> list[NDArray[np.int64]]:
        """For each frame the index of the nearest layer at every pixel (H, W): depth order, 0 is farthest."""
        return [self._labels_at(i, *self._pixels()) for i in range(len(self))]

    @cached_property
    def captions(self) -> list[str]:
        """One caption a frame, for example "a red circle on grass"."""
        return [self.shots[shot].caption for shot in self.shot_of_frame]

    @cached_property
    def forward_flow(self) -> list[Flow]:
        """Flow from frame i to i + 1, one less than there are frames."""
        return [self.flow_between(i, i + 1) for i in range(len(self) - 1)]

    @cached_property
    def backward_flow(self) -> list[Flow]:
        """Flow from frame i + 1 back to i, defined on the pixels of frame i + 1."""
        return [self.flow_between(i + 1, i) for i in range(len(self) - 1)]

    @cached_property
    def occluded_forward(self) -> list[Mask]:
        """True where a pixel of frame i is not seen in frame i + 1."""
        return [self.occluded_between(i, i + 1) for i in range(len(self) - 1)]

    @cached_property
    def occluded_backward(self) -> list[Mask]:
        """True where a pixel of frame i + 1 is not seen in frame i."""
        return [self.occluded_between(i + 1, i) for i in range(len(self) - 1)]

    def flow_between(self, i: int, j: int) -> Flow:
        """Flow from frame i to frame j on the pixels of frame i, float32 (H, W, 2) in pixels.

        What is at p in frame i is at p + flow[p] in frame j, seen or hidden. Across a cut the flow is 0.
        """
        return self._motion(i, j)[0]

    def occluded_between(self, i: int, j: int) -> Mask:
        """True (H, W) where what is seen in frame i is hidden or out of the picture in frame j; all True at a cut."""
        return self._motion(i, j)[1]

    def _motion(self, i: int, j: int) -> tuple[Flow, Mask]:
        key_flow, key_mask = ("flow", i, j), ("occluded", i, j)
        if key_flow not in self._cache:
            self._cache[key_flow], self._cache[key_mask] = self._compute_motion(i, j)
        return self._cache[key_flow], self._cache[key_mask]  # type: ignore[return-value]

    def _compute_motion(self, i: int, j: int) -> tuple[Flow, Mask]:
        if self.shot_of_frame[i] != self.shot_of_frame[j]:
            return np.zeros((*self.size, 2), np.float32), np.ones(self.size, bool)
        x, y = self._pixels()
        label = self.labels[i]
        to_x, to_y = np.empty(self.size), np.empty(self.size)
        for k, layer in enumerate(self._shot(i).layers):
            here = label == k
            u, v = self._pose(layer, i).to_layer(x[here], y[here])
            to_x[here], to_y[here] = self._pose(layer, j).to_picture(u, v)
        height, width = self.size
        outside = (to_x < 0) | (to_x > width - 1) | (to_y < 0) | (to_y > height - 1)
        hidden = self._labels_at(j, to_x, to_y) > label
        return np.stack([to_x - x, to_y - y], axis=-1).astype(np.float32), outside | hidden

    def _shot(self, i: int) -> Shot:
        return self.shots[self.shot_of_frame[i]]

    def _pose(self, layer: Layer, i: int) -> Pose:
        return layer.path.at(i - (len(self) - 1) / 2)

    def _pixels(self) -> tuple[Array, Array]:
        y, x = np.mgrid[0 : self.size[0], 0 : self.size[1]].astype(np.float64)
        return x, y

    def _labels_at(self, i: int, x: Array, y: Array) -> NDArray[np.int64]:
        """The nearest layer in frame i at real coordinates."""
        label = np.zeros(x.shape, np.int64)
        for k, layer in enumerate(self._shot(i).layers):
            label[layer.inside(*self._pose(layer, i).to_layer(x, y)) < 0] = k
        return label

    def _render(self, i: int) -> Frame:
        x, y = self._pixels()
        picture = np.zeros((*self.size, 3))
        for layer in self._shot(i).layers:
            pose = self._pose(layer, i)
            u, v = pose.to_layer(x, y)
            # Half a pixel to each side of the edge is mixed, measured in picture pixels.
            cover = np.clip(0.5 - layer.inside(u, v) * pose.scale, 0, 1)[..., None]
            picture += cover * (textures.sample(layer.texture, u, v) - picture)
        light = self._shot(i).light
        if light is not None:
            picture = picture * light(i - (len(self) - 1) / 2, x / self.size[1], y / self.size[0])
        return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
