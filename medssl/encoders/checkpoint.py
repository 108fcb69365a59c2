"""Checkpoints: one safetensors file with encoder, heads, and as JSON all that a downstream user needs.

Tensors are named `encoder.*` and `heads.NAME.*`; the file's metadata has one entry, `medssl`, a JSON object
with `architecture` and `versions` beside what the caller gives (View, task, cohort hash, steps, ...). No
pickle anywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from medssl.encoders.base import Encoder
from medssl.encoders.build import build
from medssl.errors import UserError
from medssl.workspace import atomic

COUNTERS = "num_batches_tracked"  # ends names of tensors that files may lack
PREFIXES = (
    "",
    "encoder.",
    "network.",
    "module.",
    "backbone.",
    "model.",
    "module.encoder.",
    "module.backbone.",
)


@dataclass(frozen=True)
class LoadReport:
    """Names in the encoder that were loaded or not found, and names in the file that were left over."""

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        return f"{len(self.loaded)} loaded, {len(self.missing)} missing, {len(self.unexpected)} unexpected"


class LoadedEncoder(NamedTuple):
    encoder: Encoder
    metadata: dict[str, Any]
    report: LoadReport
    heads: dict[str, dict[str, Tensor]]  # state dicts, for a task that goes on from its own head


def save_checkpoint(
    path: str | Path,
    encoder: Encoder,
    heads: dict[str, nn.Module] | None = None,
    metadata: dict | None = None,
) -> Path:
    """Write encoder and heads to one safetensors file, atomically.

    Args:
        path: the file.
        heads: by name; their tensors stand under `heads.NAME.`.
        metadata: JSON-able; `architecture` and `versions` are added.
    """
    tensors = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    for name, head in (heads or {}).items():
        tensors |= {f"heads.{name}.{k}": v for k, v in head.state_dict().items()}
    about = dict(metadata or {}) | {"architecture": encoder.architecture(), "versions": _versions()}
    with atomic(Path(path)) as fresh:
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in tensors.items()},
            fresh,
            metadata={"medssl": json.dumps(about, sort_keys=True)},  # one entry: several come in any order
        )
    return Path(path)


def load_checkpoint(path: str | Path) -> LoadedEncoder:
    """Build the encoder that a medssl checkpoint describes and load its weights.

    Raises:
        UserError: no such file, not safetensors, not written by medssl, or without some of the encoder's weights.
    """
    metadata = read_metadata(path)
    if "architecture" not in metadata:
        raise UserError(
            "this file says nothing of its architecture, so medssl did not write it",
            str(path),
            "Load it with create_encoder(NAME, weights=FILE), naming the network that it belongs to.",
        )
    encoder = build(metadata["architecture"])
    tensors = _read(path)
    report = _load(encoder, tensors, path)
    heads: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("heads."):
            _, name, rest = key.split(".", 2)
            heads.setdefault(name, {})[rest] = value
    return LoadedEncoder(encoder.eval(), metadata, report, heads)


def load_weights(path: str | Path, name: str, spatial_dims: int = 2, in_channels: int = 1) -> Encoder:
    """The encoder `name` with weights from a medssl checkpoint of it, or from a plain state dict.

    Raises:
        UserError: no such file, another architecture, or weights that are not there or do not fit.
    """
    metadata = read_metadata(path)
    asked = {"name": name, "spatial_dims": spatial_dims, "in_channels": in_channels}
    if "architecture" in metadata:
        held = {key: metadata["architecture"].get(key) for key in asked}
        if held != asked:
            raise UserError(
                f"the checkpoint holds {_words(held)}, not {_words(asked)}",
                str(path),
                f"Ask for '{held['name']}' with in_channels {held['in_channels']}, or for other weights.",
            )
        return load_checkpoint(path).encoder
    encoder = build(asked)
    _load(encoder, _read(path), path)
    return encoder.eval()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What a checkpoint says of itself; empty where medssl did not write it."""
    try:
        with safe_open(_existing(path), framework="pt") as file:
            return json.loads((file.metadata() or {}).get("medssl", "{}"))
    except (SafetensorError, json.JSONDecodeError):
        raise UserError(
            "not a safetensors file, or a damaged one", str(path), "Convert or copy the file again."
        ) from None


def learned_from(path: str | Path) -> frozenset[str] | None:
    """`marks` of the patients whom a checkpoint learned from; None where it does not say.

    A run of an earlier medssl wrote them into the file `patients.json` beside it alone.
    """
    if (known := read_metadata(path).get("learned_from")) is not None:
        return frozenset(known)
    beside = Path(path).parent / "patients.json"
    return frozenset(marks(json.loads(beside.read_text()))) if beside.is_file() else None


def marks(patients: Iterable[str]) -> list[str]:
    """What stands for these patient keys in a checkpoint: enough to know one again, and no key of a catalog."""
    return sorted(hashlib.sha256(patient.encode()).hexdigest()[:16] for patient in patients)


def encoder_hash(encoder: Encoder) -> str:
    """16 hex digits of the architecture and every weight; names what was computed with this encoder."""
    total = hashlib.sha256(json.dumps(encoder.architecture(), sort_keys=True).encode())
    for key, value in encoder.state_dict().items():
        total.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def _load(encoder: Encoder, tensors: dict[str, Tensor], path: str | Path) -> LoadReport:
    """Load by name and shape, under the prefix (`module.`, `backbone.`, ...) that fits best: all weights, since one
    layer that is left random spoils those after it."""
    own = encoder.state_dict()

    def named(prefix: str, inner: str) -> dict[str, str]:
        pairs = {key: prefix + key[len(inner) :] for key in own if key.startswith(inner)}
        return {key: theirs for key, theirs in pairs.items() if theirs in tensors}

    there = max((named(p, i) for p in PREFIXES for i in ("", "network.")), key=len)
    best = {key: name for key, name in there.items() if tensors[name].shape == own[key].shape}
    # Files of other libraries carry no mean and std; those are ours to keep.
    missing = [k for k in own if k not in best and not (k in ("mean", "std") and not _is_ours(tensors))]
    left = set(tensors) - set(best.values())
    report = LoadReport(list(best), missing, sorted(k for k in left if not k.startswith("heads.")))
    if lacking := [k for k in missing if not k.endswith(COUNTERS)]:
        first = lacking[0]
        here = tuple(own[first].shape)
        other = f"of shape {tuple(tensors[there[first]].shape)}, not {here}" if first in there else "missing"
        raise UserError(
            f"the file does not hold the encoder '{encoder.name}' ({report}; {first} is {other})",
            str(path),
            "Name the network that these weights belong to, and a View with as many channels as it takes.",
        )
    encoder.load_state_dict({key: tensors[name] for key, name in best.items()}, strict=False)
    return report


def _is_ours(tensors: dict[str, Tensor]) -> bool:
    return "encoder.mean" in tensors


def _read(path: str | Path) -> dict[str, Tensor]:
    with safe_open(_existing(path), framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _existing(path: str | Path) -> str:
    if not Path(path).is_file():
        raise UserError("no such file of weights", str(path), "Give the path of a .safetensors file.")
    return str(path)


def _words(architecture: dict[str, Any]) -> str:
    return "'{name}' in {spatial_dims}-D with {in_channels} channel(s)".format(**architecture)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"torch": str(torch.__version__)}
    for package in ("medssl", "timm", "monai"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
