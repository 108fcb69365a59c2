"""The ingested data set: catalog, arrays, labels, samples."""

from medssl.cohort.cohort import Cohort
from medssl.cohort.samples import Samples
from medssl.config import View

__all__ = ["Cohort", "Samples", "View"]
