"""MedMNIST `.npz`: images of three official splits with their labels; the split's name becomes the label `split`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from medssl.ingest.identity import Keys
from medssl.ingest.opening import open_file
from medssl.ingest.readers.image import one_file_job
from medssl.ingest.records import File, Job, Plan, Probe, Reject, Scan

SPLITS = ("train", "val", "test")


def sniff(head: bytes, name: str) -> bool:
    """A zip whose first member is one of MedMNIST's arrays."""
    return (
        head.startswith(b"PK\x03\x04")
        and head[30:60].startswith((b"train_", b"val_", b"test_"))
        and b".npy" in head[:60]
    )


def probe(file: File) -> dict[str, np.ndarray]:
    """The labels of each split that has images, (images, labels of each).

    Raises:
        Reject: the file is damaged, or its labels are no whole numbers.
    """
    labels = {split: np.asarray(_array(file, f"{split}_labels")) for split in SPLITS}
    for values in labels.values():
        if values.dtype.kind not in "biuf" or values.ndim == 0 or not np.array_equal(values, np.rint(values)):
            raise Reject("unreadable")
    return {split: values.reshape(len(values), -1) for split, values in labels.items() if len(values)}


def plan(probes: list[Probe], keys: Keys) -> Plan:
    out = Plan()
    for probe in probes:
        labels: dict[str, np.ndarray] = probe.header
        stem = probe.file.name.rpartition("/")[2].removesuffix(".npz")
        for split, values in labels.items():
            for i, value in enumerate(values):
                part = f"{split}/{i}"
                job = one_file_job("medmnist", Probe(probe.file, "medmnist", (split, i)), keys, part)
                job.names = [("path", keys.name("path", text)) for text in (part, f"{stem}/{part}")]
                names = ["label"] if len(value) == 1 else [f"label_{c}" for c in range(len(value))]
                job.labels = {"split": split} | {n: str(int(v)) for n, v in zip(names, value, strict=True)}
                out.jobs.append(job)
    return out


def read(job: Job) -> Scan:
    """Gray (y, x), colour (3, y, x) or a volume (z, y, x) without geometry."""
    split, index = job.payload
    images = _array(job.files[0], f"{split}_images")
    image = images[index]
    if image.ndim == 2:
        return Scan(image, "image")
    if image.ndim == 3 and image.shape[-1] == 3:
        return Scan(np.ascontiguousarray(np.moveaxis(image, -1, 0)), "colour")
    if image.ndim == 3:
        return Scan(image, "volume")
    raise Reject("unsupported_pixels")


@lru_cache(maxsize=4)
def _array(file: File, name: str) -> Any:
    try:
        with open_file(file) as stream, np.load(stream, allow_pickle=False) as archive:
            return archive[name]
    except Exception:  # zipfile and numpy raise whatever the bytes make them raise
        raise Reject("unreadable") from None
