"""The host inside AUTOMATIC1111's webui 1.10: renders through the webui's own `process_images`.

Everything the user set up works as in img2img: checkpoint, VAE, sampler, LoRA, embeddings, ControlNet and other
always-on scripts. Modules of this package import the webui's `modules.*`, so only code that runs inside the webui may
import them; this file imports nothing.
"""
