"""MICLe: two images of one exam belong together, those of other patients apart (Azizi 2021, "Big self-supervised models
advance medical image classification", section 3.2, multi-instance contrastive learning; the multi-view form of
time-contrastive networks, Sermanet 2018, is the same thought with cameras). Loss and head are SimCLR's.

The paper falls back to two views of the same image where an exam has but one; here such exams are left out, since
`simclr` is that task.

Shortcuts and how they are closed: images of one exam share the scanner, its settings and burned-in text. Brightness,
contrast, gamma and noise change in each image by itself, and each is cropped by itself. Which patient it is cannot be
closed: to know that two images are of one body is the task. Images of one patient are no negatives of each other
(`negatives: all` makes them so), so that two exams of one patient, or two draws of one exam, need not be told apart.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask
from medssl.pretext.negatives import NegativeSettings, apart, refuse_one_patient
from medssl.pretext.pictures import Picture, pictures, taken_for_each_other
from medssl.pretext.processes import gather, process_count
from medssl.pretext.questions import Question, same_image
from medssl.pretext.simclr import nt_xent, projection_head


class Settings(NegativeSettings):
    """
    Attributes:
        temperature: of the softmax over similarities.
        projection: width of the projection head's output.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.2
    projection: Annotated[int, Field(ge=2)] = 128


class MICLe(PretextTask):
    name = "micle"
    paper = "Azizi et al. 2021, arXiv:2101.05224; multi-view: Sermanet et al. 2018, arXiv:1704.06888"
    line = "find another image of the same exam among all images of the batch"
    question = "Which of these images comes from the same exam?"
    Settings = Settings
    sampling = "exam"
    dims = (2, 3)
    compares = True

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        self.projection = projection_head(encoder.embed_dim, 0, settings.projection)
        self.plan = self.views()

    def meet(self, index: Tensor, patient: Tensor) -> None:
        refuse_one_patient(self.name, self.settings, patient)

    def inputs(self, batch: Batch, generator: RowGenerator) -> Tensor:
        return torch.cat([self.new_view(batch.images[:, k], self.plan, generator) for k in range(2)])

    def loss_of(self, embeddings: Tensor, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        first, second = self.projection(embeddings).float().chunk(2)
        with torch.autocast(first.device.type, enabled=False):
            return nt_xent(first, second, self.settings.temperature, self.apart(batch))

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: all similarities equal. Accuracy: how often the untrained encoder already finds the other image."""
        training = self.training
        self.eval()
        with torch.no_grad():
            first, second = self.embed(self.inputs(batch, generator)).float().chunk(2)
            metrics = nt_xent(first, second, self.settings.temperature, self.apart(batch))[1]
        self.train(training)
        others = 2 * len(batch.rows) * process_count() - 1
        return {"loss": math.log(others), "accuracy": float(metrics["accuracy"])}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """Two images of an exam, and the one that the network takes for the second among those of the batch."""
        x = self.inputs(batch, generator)
        return pictures(*taken_for_each_other(x, self.embed(x)))

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        x = self.inputs(batch, generator)
        return same_image(x, self.embed(x), generator)

    def apart(self, batch: Batch) -> Tensor | None:
        """Of this process's exams against those of all, as `nt_xent` takes it."""
        return apart(self.settings, batch.patient, gather(batch.patient)[0])
