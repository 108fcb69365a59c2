"""SimSiam: predict the other view's projection, without negatives and without a momentum copy (Chen and He 2021,
"Exploring simple siamese representation learning").

What keeps it from giving every image the same vector is that no gradient flows into the projection that is predicted.
`stop_gradient: false` opens that door, and is there to show the monitor what a collapse looks like.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.heads import chance, cosine, mlp, retrieval
from medssl.pretext.questions import SAME_IMAGE


class Settings(TaskSettings):
    """
    Attributes:
        projection: width of the projection and of its hidden layers; 0 takes twice the encoder's.
        bottleneck: hidden width of the predictor, as a share of the projection.
        stop_gradient: off, it collapses.
    """

    projection: Annotated[int, Field(ge=0)] = 0
    bottleneck: Annotated[float, Field(gt=0, le=1)] = 0.25
    stop_gradient: bool = True


class SimSiam(PretextTask):
    name = "simsiam"
    paper = "Chen, He 2021, arXiv:2011.10566"
    line = "predict the projection of another view of the same image; no negatives"
    question = SAME_IMAGE
    Settings = Settings
    compares = False
    dims = (2, 3)

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        width = settings.projection or 2 * encoder.embed_dim
        self.projection = mlp(encoder.embed_dim, width, width, 3, last_norm=True)
        self.predictor = mlp(width, max(1, round(settings.bottleneck * width)), width, 2, last_norm=False)
        self.plan = self.views()

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative cosine, both ways (equation 2): -1 at best, and also when collapsed."""
        views = self.new_views(batch.images, self.plan, generator)
        z = self.projection(self.embed(views))
        first, second = z.chunk(2)
        predicted_second, predicted_first = self.predictor(z).chunk(2)
        target_1, target_2 = (first.detach(), second.detach()) if self.settings.stop_gradient else (first, second)
        loss = -0.5 * (cosine(predicted_second, target_2) + cosine(predicted_first, target_1))
        return loss, {"accuracy": retrieval(first, second)}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        """Loss: of predictions that have nothing to do with their targets. Accuracy: one in N."""
        return {"loss": 0.0, "accuracy": chance(batch)}
