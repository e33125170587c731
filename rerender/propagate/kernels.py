"""The CPU kernels of the patch synthesis, in numba: search, vote and use counts.

All costs are integers, so a result does not depend on the number of threads or on the compiler.
docs/propagation.md states the arithmetic; every backend follows it.

Two things are unusual. `patch` and `lanes` are tuples of which only the length counts: numba compiles
for argument types, a tuple's length is part of its type, and with a constant trip count the inner loop
becomes vector code. And numba's own parallel loops are not used: its default threading layer must not
be entered from two threads at once, which is what a web server does. The kernels release the GIL and
work on strips of rows; `numba_engine` hands the strips to a thread pool.
"""
# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import numpy as np

from rerender.compiled import jit

NO_LIMIT = np.int32(2**31 - 1)


@jit
def patch_error(source, target, at_source, at_target, source_stride, target_stride, limit, patch, lanes):
    """Sum of squared differences of two patches of int16; stops at the end of a row once ≥ limit."""
    total = np.int32(0)
    for _ in range(len(patch)):
        part = np.int32(0)
        for i in range(len(patch) * len(lanes)):
            d = np.int16(source[at_source + np.uint64(i)] - target[at_target + np.uint64(i)])
            part = np.int32(part + np.int32(np.int32(d) * np.int32(d)))
        total = np.int32(total + part)
        if total >= limit:
            break
        at_source += source_stride
        at_target += target_stride
    return total


@jit
def mix(state):
    """One round of an integer hash (Wellons' lowbias32): the next 32 random bits."""
    state = np.uint32(state ^ (state >> np.uint32(16)))
    state = np.uint32(state * np.uint32(0x7FEB352D))
    state = np.uint32(state ^ (state >> np.uint32(15)))
    state = np.uint32(state * np.uint32(0x846CA68B))
    return np.uint32(state ^ (state >> np.uint32(16)))


@jit
def scaled(bits, radius):
    """Map 16 random bits to -radius … radius."""
    return np.int32((bits * np.uint32(2 * radius + 1)) >> np.uint32(16)) - radius


@jit
def search(
    source, target, nnf, before, errors, penalty, active, unit, top, bottom,
    reverse, rescore, propagate, radius, key, patch, lanes,
):  # fmt: skip
    """One PatchMatch pass over rows top … bottom - 1, in scan order or in reverse.

    Reads `before` (the field when the pass began) outside of its rows, writes `nnf` and `errors` inside.
    A pixel tries its neighbours' offsets (propagate), then random ones around its best at halving radii.
    `penalty` (of each source pixel) counts the pixel's own use at its start; that part, `unit` a shared
    patch pixel pair, is taken out of every candidate.
    """
    size, half = len(patch), len(patch) // 2
    height, width = errors.shape
    source_height, source_width = penalty.shape
    a, b = source.reshape(-1), target.reshape(-1)
    source_stride = np.uint64(source_width * len(lanes))
    target_stride = np.uint64((width + 2 * half) * len(lanes))
    step = -1 if reverse else 1
    for row in range(top, bottom):
        y = top + bottom - 1 - row if reverse else row
        for column in range(width):
            x = width - 1 - column if reverse else column
            if active[y, x] == 0:
                continue
            at_target = np.uint64((y * (width + 2 * half) + x) * len(lanes))
            start_x, start_y = before[y, x, 0], before[y, x, 1]
            best_x, best_y = start_x, start_y
            best_error = errors[y, x]
            if rescore:
                at = np.uint64(((best_y - half) * source_width + best_x - half) * len(lanes))
                best_error = patch_error(a, b, at, at_target, source_stride, target_stride, NO_LIMIT, patch, lanes)
            best = np.int32(best_error + penalty[best_y, best_x] - unit * size * size)
            state = np.uint32(np.uint32(y * width + x) * np.uint32(0x9E3779B1) ^ key)
            trial, reach = (0 if propagate else 2), radius
            while trial < 2 or reach >= 1:
                if trial < 2:
                    near_x = x - step if trial == 0 else x
                    near_y = y - step if trial == 1 else y
                    trial += 1
                    if near_x < 0 or near_x >= width or near_y < 0 or near_y >= height:
                        continue
                    if top <= near_y < bottom:
                        cx, cy = nnf[near_y, near_x, 0], nnf[near_y, near_x, 1]
                    else:
                        cx, cy = before[near_y, near_x, 0], before[near_y, near_x, 1]
                    cx, cy = cx + x - near_x, cy + y - near_y
                else:
                    state = mix(state)
                    cx = best_x + scaled(state & np.uint32(0xFFFF), reach)
                    cy = best_y + scaled(state >> np.uint32(16), reach)
                    reach //= 2
                cx = min(max(cx, half), source_width - 1 - half)
                cy = min(max(cy, half), source_height - 1 - half)
                if cx == best_x and cy == best_y:
                    continue
                extra = penalty[cy, cx]
                dx, dy = abs(cx - start_x), abs(cy - start_y)
                if dx < size and dy < size:
                    extra = np.int32(extra - unit * (size - dx) * (size - dy))
                if extra >= best:
                    continue
                limit = np.int32(best - extra)
                at = np.uint64(((cy - half) * source_width + cx - half) * len(lanes))
                error = patch_error(a, b, at, at_target, source_stride, target_stride, limit, patch, lanes)
                if error < limit:
                    best, best_error = np.int32(error + extra), error
                    best_x, best_y = cx, cy
            nnf[y, x, 0], nnf[y, x, 1] = best_x, best_y
            errors[y, x] = best_error


@jit
def vote(source, nnf, errors, target, touched, changed, thresholds, softness, top, bottom, patch):
    """Set the style channels of rows top … bottom - 1 to the mean of the patches that cover each pixel.

    Only where `touched` is not 0: nothing else can have changed. With softness > 0 the patches are weighed by
    1 / (1 + softness · error). `changed` becomes 1 where a channel moved by its threshold or more.
    """
    half = len(patch) // 2
    height, width = nnf.shape[:2]
    total = np.zeros(4, np.float32)
    for y in range(top, bottom):
        for x in range(width):
            if touched[y, x] == 0:
                continue
            total[:] = 0
            weights = np.float32(0)
            for near_y in range(max(y - half, 0), min(y + half + 1, height)):
                for near_x in range(max(x - half, 0), min(x + half + 1, width)):
                    at_x = nnf[near_y, near_x, 0] + x - near_x
                    at_y = nnf[near_y, near_x, 1] + y - near_y
                    weight = np.float32(1)
                    if softness > 0:
                        weight = weight / (weight + softness * np.float32(errors[near_y, near_x]))
                    weights += weight
                    for c in range(len(thresholds)):
                        total[c] += weight * np.float32(source[at_y, at_x, c])
            moved = 0
            for c in range(len(thresholds)):
                value = np.int32(np.rint(total[c] / weights))
                if abs(value - np.int32(target[y + half, x + half, c])) >= thresholds[c]:
                    moved = 1
                target[y + half, x + half, c] = np.int16(value)
            changed[y, x] = moved


@jit
def refine(source, target, nnf, quarters, top, bottom, patch, lanes):
    """Where between the pixels the best match lies: the vertex of a parabola through the errors, in quarters.

    `quarters` (H, W, 2) int8 becomes -2 … 2 on each axis, 0 at the border of the source. Rows top … bottom - 1.
    """
    half = len(patch) // 2
    width = nnf.shape[1]
    source_height, source_width = source.shape[:2]
    a, b = source.reshape(-1), target.reshape(-1)
    source_stride = np.uint64(source_width * len(lanes))
    target_stride = np.uint64((width + 2 * half) * len(lanes))
    errors = np.zeros(3, np.int64)
    for y in range(top, bottom):
        for x in range(width):
            at_target = np.uint64((y * (width + 2 * half) + x) * len(lanes))
            for axis in range(2):
                quarters[y, x, axis] = 0
                place = nnf[y, x, axis]
                size = source_height if axis == 1 else source_width
                if place <= half or place >= size - 1 - half:
                    continue
                for step in range(3):
                    at_x = nnf[y, x, 0] - half + (step - 1 if axis == 0 else 0)
                    at_y = nnf[y, x, 1] - half + (step - 1 if axis == 1 else 0)
                    at = np.uint64((at_y * source_width + at_x) * len(lanes))
                    errors[step] = patch_error(
                        a, b, at, at_target, source_stride, target_stride, NO_LIMIT, patch, lanes
                    )
                curvature = errors[0] + errors[2] - 2 * errors[1]
                if curvature > 0:
                    vertex = np.rint(np.float32(2 * (errors[0] - errors[2])) / np.float32(curvature))
                    quarters[y, x, axis] = np.int8(min(max(vertex, np.float32(-2)), np.float32(2)))


@jit
def fine_vote(fine, nnf, quarters, errors, picture, softness, top, bottom, patch):
    """Vote as `vote` does, but with patches at quarters of a pixel; `fine` is the style, four times as large.

    Writes rows top … bottom - 1 of `picture`, (H, W, S) float32.
    """
    half, (height, width) = len(patch) // 2, nnf.shape[:2]
    last_y, last_x = fine.shape[0] - 1, fine.shape[1] - 1
    for y in range(top, bottom):
        for x in range(width):
            weights = np.float32(0)
            picture[y, x] = 0
            for near_y in range(max(y - half, 0), min(y + half + 1, height)):
                for near_x in range(max(x - half, 0), min(x + half + 1, width)):
                    at_x = 4 * (nnf[near_y, near_x, 0] + x - near_x) + quarters[near_y, near_x, 0]
                    at_y = 4 * (nnf[near_y, near_x, 1] + y - near_y) + quarters[near_y, near_x, 1]
                    at_x, at_y = min(max(at_x, 0), last_x), min(max(at_y, 0), last_y)
                    weight = np.float32(1)
                    if softness > 0:
                        weight = weight / (weight + softness * np.float32(errors[near_y, near_x]))
                    weights += weight
                    for c in range(picture.shape[2]):
                        picture[y, x, c] += weight * np.float32(fine[at_y, at_x, c])
            for c in range(picture.shape[2]):
                picture[y, x, c] /= weights


@jit
def count_uses(nnf, uses):
    """Add one for each target pixel to the source pixel that it points at."""
    for y in range(nnf.shape[0]):
        for x in range(nnf.shape[1]):
            uses[nnf[y, x, 1], nnf[y, x, 0]] += 1
