"""Dense optical flow behind one signature, so that a neural estimator can stand beside OpenCV's DIS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.errors import UserError

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.float32]

_MIN_SIDE = 32
"""DIS refuses pictures below 12 px and is poor on few patches: smaller sides are padded to this."""


class FlowEstimator(Protocol):
    """Anything that measures the motion between two pictures of the same size.

    One that may be called from several threads at once says so by an attribute `thread_safe = True`.
    """

    def __call__(self, reference: UInt8Array, target: UInt8Array) -> FloatArray:
        """Flow F (H, W, 2) in pixels with reference(p) ≈ target(p + F(p)); inputs are uint8 RGB (H, W, 3)."""
        ...


class FlowPair(NamedTuple):
    """Flow between pictures a and b in both directions, each (H, W, 2) in pixels."""

    forward: FloatArray  # a → b, defined on the pixels of a
    backward: FloatArray  # b → a, defined on the pixels of b


@runtime_checkable
class FusingEstimator(FlowEstimator, Protocol):
    """An estimator that also judges flows which others found, and finds both directions at once."""

    @property
    def proposer(self) -> FlowEstimator:
        """A quicker estimator, good enough for flows that `fuse` will judge."""
        ...

    def pair(self, a: UInt8Array, b: UInt8Array) -> FlowPair:
        """Flow between ``a`` and ``b``: the same bits as a call for each direction."""
        ...

    def fuse(self, a: UInt8Array, b: UInt8Array, proposals: Sequence[FlowPair]) -> FlowPair:
        """Like ``pair``, with further flows to choose from."""
        ...


@dataclass(frozen=True)
class DisFlow:
    """Dense Inverse Search (Kroeger et al., ECCV 2016) from OpenCV, with variational refinement.

    Small patches (4 px, stride 2) are more accurate and take half as long again (docs/motion.md). The result does
    not depend on the number of threads: equal pictures give equal bits. Safe to call from several threads.
    """

    thread_safe: ClassVar[bool] = True
    finest_scale: int = 0
    patch_size: int = 8
    patch_stride: int = 3
    gradient_descent_iterations: int = 40
    refinement_iterations: int = 10

    def __call__(self, reference: UInt8Array, target: UInt8Array) -> FloatArray:
        """Flow reference → target, (H, W, 2) float32; both pictures uint8 RGB (H, W, 3) of equal size."""
        check_pair(reference, target)
        height, width = reference.shape[:2]
        a, b = _padded_luma(reference), _padded_luma(target)
        flow = self._solver().calc(a, b, None)  # type: ignore[call-overload]  # the stubs know no None
        return np.ascontiguousarray(flow[:height, :width], dtype=np.float32)

    def _solver(self) -> cv2.DISOpticalFlow:
        # A solver keeps its buffers between calls, so a shared one would not be safe across threads.
        solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        solver.setFinestScale(self.finest_scale)
        solver.setPatchSize(self.patch_size)
        solver.setPatchStride(self.patch_stride)
        solver.setGradientDescentIterations(self.gradient_descent_iterations)
        solver.setVariationalRefinementIterations(self.refinement_iterations)
        return solver


def bidirectional(estimator: FlowEstimator, a: UInt8Array, b: UInt8Array) -> FlowPair:
    """Flow between ``a`` and ``b`` in both directions."""
    if isinstance(estimator, FusingEstimator):
        return estimator.pair(a, b)
    return FlowPair(forward=estimator(a, b), backward=estimator(b, a))


_FACTORIES: dict[str, Callable[[], FlowEstimator]] = {}
_BUILT: dict[str, FlowEstimator] = {}


def register_flow_estimator(name: str, factory: Callable[[], FlowEstimator]) -> None:
    """Make an estimator known by name; ``factory`` runs when it is first asked for (it may load weights)."""
    _FACTORIES[name] = factory
    _BUILT.pop(name, None)


def flow_estimator(name: str = "dis") -> FlowEstimator:
    """Return the estimator of that name, built at its first use and then kept.

    Raises UserError where no such estimator is known.
    """
    if name not in _FACTORIES:
        raise UserError(f"No flow estimator named {name!r}.", hint=f"Known: {', '.join(flow_estimator_names())}.")
    if name not in _BUILT:
        _BUILT[name] = _FACTORIES[name]()
    return _BUILT[name]


def flow_estimator_names() -> tuple[str, ...]:
    """Names that ``flow_estimator`` knows, in alphabetical order."""
    return tuple(sorted(_FACTORIES))


def _guided() -> FlowEstimator:
    from rerender.motion.guided import GuidedFlow  # it builds on this module

    return GuidedFlow()


register_flow_estimator("dis", DisFlow)
register_flow_estimator("dis_guided", _guided)
register_flow_estimator(
    "dis_fast",
    lambda: DisFlow(finest_scale=1, gradient_descent_iterations=25, refinement_iterations=5),
)


def _padded_luma(picture: UInt8Array) -> UInt8Array:
    """BT.601 luma of an RGB picture, its sides padded with the edge pixels to at least _MIN_SIDE."""
    luma = np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    height, width = luma.shape
    pad = ((0, max(0, _MIN_SIDE - height)), (0, max(0, _MIN_SIDE - width)))
    return np.pad(luma, pad, mode="edge") if any(after for _, after in pad) else luma


def check_pair(reference: UInt8Array, target: UInt8Array) -> None:
    """Raise ValueError unless both are uint8 RGB (H, W, 3) of one size."""
    for picture in (reference, target):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"flow wants uint8 RGB (H, W, 3), got {picture.dtype} {picture.shape}")
    if reference.shape != target.shape:
        raise ValueError(f"flow wants pictures of one size, got {reference.shape} and {target.shape}")
