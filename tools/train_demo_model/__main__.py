"""python -m tools.train_demo_model: data, autoencoder, unet, export, report, or all of them in that order."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch

from tools.train_demo_model import autoencoder, data, export, latents, report, unet
from tools.train_demo_model.model import CLIP_FOLDER

STAGES = ("data", "autoencoder", "unet", "export", "report", "all")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_demo_model",
        description="Train the demo model. Every stage goes on where it was stopped or killed.",
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--run", type=Path, default=Path("out/demo-model"), help="folder of data and checkpoints")
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the finished checkpoint")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of model-card.md and its pictures")
    parser.add_argument("--scenes", type=int, default=400, help="rendered scenes, two frames each")
    parser.add_argument("--crops", type=int, default=400, help="crops of stills")
    parser.add_argument("--autoencoder-steps", type=int, default=6000)
    parser.add_argument("--unet-steps", type=int, default=5000)
    parser.add_argument("--threads", type=int, help="CPU threads of this process")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def _run(stage: str, args: argparse.Namespace) -> None:
    if stage == "data":
        data.prepare(args.run / "data", args.scenes, args.crops)
    elif stage == "autoencoder":
        pictures = data.load(args.run / "data")
        autoencoder.train(pictures, args.run / "autoencoder.pt", args.autoencoder_steps, device=args.device)
    elif stage == "unet":
        pictures = data.load(args.run / "data")
        path = args.run / "latents.npy"
        if not path.is_file():
            latents.write_latents(autoencoder.components_of(args.run / "autoencoder.pt"), pictures, path)
        values = np.load(path)
        tokenizer = args.models / CLIP_FOLDER
        unet.train(values, pictures.captions, args.run / "unet.pt", tokenizer, args.unet_steps, device=args.device)
    elif stage == "export":
        export.export(args.run, args.models)
    else:
        report.write(args.models / f"{export.NAME}.safetensors", args.docs)


def main() -> None:
    """Run one stage, or all."""
    args = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    for stage in STAGES[:-1] if args.stage == "all" else (args.stage,):
        _run(stage, args)


if __name__ == "__main__":
    main()
