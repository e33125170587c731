"""What runs Stable Diffusion, behind the protocol of `rerender.host`."""
