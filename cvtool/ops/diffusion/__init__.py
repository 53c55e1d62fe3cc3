"""Diffusion as arithmetic: how much noise when, the way back from it, and what may steer that way. Any denoiser goes with it."""
