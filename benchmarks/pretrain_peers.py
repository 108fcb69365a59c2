"""The peers of `pretrain_speed.py`, as their documentation has them used: lightly's SimCLR and MONAI's transforms."""

from __future__ import annotations

import logging
import time
import warnings

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from medssl.training.rules import learning_rate_at

WORKERS = 2
WARM = 2  # batches before the clock starts
READY = 4 * WORKERS  # steps after which no batch is left that was made before the clock started


class Pictures(Dataset):
    """Gray pictures in memory, so that a peer's time is its own and not a JPEG decoder's."""

    def __init__(self, images: np.ndarray, transform) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.images[index, 0]))


class Lightly:
    """lightly's SimCLR: SimCLRTransform, DataLoader with two workers, Lightning's Trainer; our optimizer and schedule.

    Args:
        images: (N, 1, S, S) uint8.
        encoder: a name of timm.
        precision: Lightning's, `32-true` (its default) or `bf16-mixed`.
    """

    def __init__(self, images: np.ndarray, encoder: str, precision: str, batch: int, seed: int = 0) -> None:
        import timm
        from lightly.transforms import SimCLRTransform

        torch.manual_seed(seed)
        plain = {"mean": [0.5], "std": [0.25]}
        transform = SimCLRTransform(input_size=images.shape[-1], normalize=plain)
        self.loader = DataLoader(
            Pictures(images, transform),
            batch,
            shuffle=True,
            drop_last=True,
            num_workers=WORKERS,
        )
        self.network = timm.create_model(encoder, in_chans=1, num_classes=0)
        self.precision, self.batch = precision, batch

    def train(self, steps: int, before: int = 0) -> float:
        """Train for so many steps and return their seconds, with `before` more ahead of them that are not counted.

        The clock starts with the first step. The workers have batches ready by then, for which a long run has to
        wait: a speed is measured after these have been used up.
        """
        import pytorch_lightning as pl
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead

        network, total = self.network, steps + before
        times: list[float] = []

        class Model(pl.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.backbone = network
                self.head = SimCLRProjectionHead(network.num_features, network.num_features, 128)
                self.criterion = NTXentLoss(temperature=0.2)

            def training_step(self, batch, index):
                times.append(time.perf_counter())
                first, second = (self.head(self.backbone(view)) for view in batch)
                return self.criterion(first, second)

            def on_train_end(self) -> None:
                times.append(time.perf_counter())

            def configure_optimizers(self):
                optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.05)
                schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: learning_rate_at(s, total, 1.0))
                return [optimizer], [{"scheduler": schedule, "interval": "step"}]

        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = pl.Trainer(
                max_steps=total,
                accelerator="cpu" if not torch.cuda.is_available() else "gpu",
                devices=1,
                precision=self.precision,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(Model(), self.loader)
        return times[-1] - times[before]


def monai_views(images: np.ndarray, dims: int, batch: int):
    """A function that makes two views of n batches with MONAI's per-sample transforms and two workers, and times it.

    Args:
        images: (N, 1, *spatial) uint8.
    """
    from monai.transforms import (
        Compose,
        RandAdjustContrast,
        RandGaussianNoise,
        RandGaussianSmooth,
        RandRotate,
        RandScaleIntensity,
        RandShiftIntensity,
        RandSpatialCrop,
        Resize,
        ScaleIntensityRange,
    )

    size = images.shape[-1]
    smallest = int(size * 0.3 ** (1 / dims))
    steps = [
        ScaleIntensityRange(0, 255, 0, 1),
        RandSpatialCrop([smallest] * dims, max_roi_size=[size] * dims, random_size=True),
        Resize([size] * dims, mode="bilinear" if dims == 2 else "trilinear"),
        RandRotate(range_x=np.pi / 18, prob=1, keep_size=True),
        RandAdjustContrast(prob=1, gamma=(0.67, 1.5)),
        RandScaleIntensity(0.5, prob=1),
        RandShiftIntensity(0.15, prob=1),
        RandGaussianNoise(prob=1, std=0.03),
    ]
    if dims == 2:
        steps.insert(-1, RandGaussianSmooth(prob=0.5))
    transform = Compose(steps)

    class Pairs(Dataset):
        def __init__(self, count: int) -> None:
            self.count = count

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, index: int):
            image = images[index % len(images)]
            return transform(image), transform(image)

    def views(count: int) -> float:
        """Seconds of so many batches; workers start before the clock does and end with it."""
        loader = iter(DataLoader(Pairs((count + WARM) * batch), batch, num_workers=WORKERS, prefetch_factor=1))
        for _ in range(WARM):
            next(loader)
        begun = time.perf_counter()
        for _ in loader:
            pass
        return time.perf_counter() - begun

    return views
