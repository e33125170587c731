"""Motion of the input frames: optical flow, warps, visibility, key frames, scene cuts.

Conventions, shared by every module here: images are uint8 RGB (H, W, 3); a flow F is float32 (H, W, 2) in
pixels with x first, and ``reference(p) ≈ target(p + F(p))``. So ``warp(target, F)`` looks like ``reference``:
what carries a reference frame onto the current one is the *backward* flow, current → reference.
"""
