"""The collapse monitor speaks where the door to a collapse was opened, and is quiet where it is shut."""

import pytest
import torch
from test_pretrain import run, samples, weights
from test_watch import faces, samples_of

from medssl.encoders.vit import SmallViT
from medssl.errors import UserError
from medssl.pretext import task_class
from medssl.pretext.mae import MAE
from medssl.training import fit

PLANTED = {"simsiam": {"stop_gradient": False}, "dino": {"centring": False}, "vicreg": {"variance": 0.0}}
# mae paints the mean of each place before it tells images apart, and pirl's loss rises while its bank of memories
# fills: neither is a fault.
HEALTHY = [*PLANTED, "barlow_twins", "byol", "mae", "moco", "pirl", "simmim", "voco"]


def history(out, name, settings, steps):
    encoder, parts = "small_vit" if name == "mae" else "small", list(settings.get("parts", {}))
    samples = samples_of(faces(96, max(24, *(task_class(kind).smallest for kind in [name, *parts]))))
    return fit(samples, name, out=out, steps=steps, batch=32, encoder=encoder, settings=settings).history


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_collapse_is_said(tmp_path, name):
    found = history(tmp_path, name, PLANTED[name], 240 if name == "vicreg" else 120)
    assert "warning" in found and found["warning"].dropna().str.contains("collapse").any()


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_left_alone(tmp_path, name):
    assert "warning" not in history(tmp_path, name, {}, 240 if name == "mae" else 60)


def test_a_mae_that_knows_places_alone_is_said_to_tell_no_images_apart(tmp_path, monkeypatch):
    """All images get the same tokens; the decoder paints better than with the mean of each patch nevertheless."""
    tokens, trained = SmallViT.tokens, []

    def blind(self, x, mask=None):
        return tokens(self, torch.full_like(x, 0.5) if trained else x, mask)

    monkeypatch.setattr(SmallViT, "tokens", blind)
    monkeypatch.setattr(MAE, "after_step", lambda self, step, steps: trained.append(step))
    found = history(tmp_path, "mae", {}, 120)
    assert found["loss"].iloc[-1] < 0.8, "of 1"
    warned = found.dropna(subset="warning")
    assert len(warned) == 1 and "collapse" in warned["warning"].iloc[0] and warned["step"].iloc[0] >= 60


def test_a_part_that_collapses_is_seen_though_another_holds_the_encoder(tmp_path):
    """On its way to the monitor's line at .05, while the encoder and the other part keep three quarters."""
    kept = {}
    for planted, settings in ((True, PLANTED["simsiam"]), (False, {})):
        parts = {"simclr": {}, "simsiam": {"weight": 5, "settings": settings}}
        found = history(tmp_path / str(planted), "combine", {"parts": parts}, 60)
        kept[planted] = found["spread_kept"].dropna().iloc[-1]
        assert found["simclr_projection_std"].iloc[-1] > 0.9
    assert kept[True] < 0.25 and kept[False] > 0.5, kept


def test_what_a_pool_is_too_small_for_is_refused_before_the_first_step(tmp_path):
    for settings, batch, says in (({"queue": 48}, 16, "48 images"), ({}, 1, "batch of at least 2")):
        with pytest.raises(UserError, match=says):
            fit(samples(size=32), "moco", out=tmp_path / "a", steps=2, batch=batch, settings=settings)
    assert not (tmp_path / "a" / "run.json").exists()
    result = run(tmp_path / "b", "moco", 2, samples(size=32), settings={"queue": 47})
    assert not [key for key in weights(result) if "queue" in key], "vectors of single patients leave with no checkpoint"


def test_the_plan_says_how_long_the_queue_is(tmp_path, capsys):
    run(tmp_path, "moco", 1, samples(size=32))
    assert "a queue of 24 keys, of 48 images" in capsys.readouterr().err
