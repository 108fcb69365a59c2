"""Backbones behind one interface, ImageNet weights, checkpoint files and embeddings.

encoder = create_encoder("small")                       # or any timm name, with weights="imagenet"
features = embed_all(encoder, samples.images)           # (N, D) float32
save_checkpoint(path, encoder, heads, metadata)         # one safetensors file
encoder, metadata, report, heads = load_checkpoint(path)
"""

from medssl.encoders.base import Encoder
from medssl.encoders.checkpoint import (
    LoadedEncoder,
    LoadReport,
    encoder_hash,
    learned_from,
    load_checkpoint,
    load_weights,
    marks,
    read_metadata,
    save_checkpoint,
)
from medssl.encoders.embed import embed_all
from medssl.encoders.factory import create_encoder

__all__ = [
    "Encoder",
    "LoadReport",
    "LoadedEncoder",
    "create_encoder",
    "embed_all",
    "encoder_hash",
    "learned_from",
    "load_checkpoint",
    "load_weights",
    "marks",
    "read_metadata",
    "save_checkpoint",
]
