import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from medssl.ingest.privacy.burned_in import has_text
from medssl.ingest.privacy.flags import of_scan
from medssl.ingest.records import Scan
from tests.ingest.dicoms import AXIAL, image, save, series


def picture(text: str, size: int = 12, side: int = 256, seed: int = 0) -> np.ndarray:
    """Smooth gray shapes with this text on them."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), side / 32)
    pixels = Image.fromarray(np.interp(smooth, (smooth.min(), smooth.max()), (0, 170)).astype(np.uint8))
    font = ImageFont.load_default(size)
    ImageDraw.Draw(pixels).text((side // 3, side // 2), text, fill=255, font=font)
    return np.asarray(pixels)


@pytest.mark.parametrize(("size", "side"), [(10, 256), (14, 256), (24, 512), (40, 1024), (60, 2048)])
def test_text_is_found_in_light_and_dark_small_and_large(size, side):
    pixels = picture("DOE JANE 1970", size, side)
    assert has_text(pixels) and has_text(255 - pixels)
    assert has_text(pixels.astype(np.uint16) * 16) and has_text(np.stack([pixels, pixels // 2, pixels // 3]))
    assert not has_text(picture("", size, side))


def test_noise_lines_and_single_letters_are_no_text():
    rng = np.random.default_rng(0)
    assert not has_text(rng.integers(0, 255, (256, 256), dtype=np.uint8))
    lines = np.zeros((256, 256), np.uint8)
    lines[::16] = lines[:, ::16] = 255
    assert not has_text(lines) and not has_text(picture("R", 24)) and not has_text(np.zeros((256, 256)))


def codes(take, source):
    cohort, _ = take(source)
    return set(cohort.findings()["code"])


def test_burned_in_text_is_flagged_by_the_tag_and_by_pixels_where_it_is_usual(take, tmp_path):
    plain, text = picture(""), picture("DOE JANE 1970")
    save([image(plain, Modality="US", BurnedInAnnotation="YES")], tmp_path / "tag")
    save([image(text, Modality="US")], tmp_path / "pixels")
    save([image(plain, Modality="US", BurnedInAnnotation="NO")], tmp_path / "neither")
    (tmp_path / "png").mkdir()
    Image.fromarray(text).save(tmp_path / "png" / "a.png")
    found = {name: codes(lambda s, n=name: take(s, n + "_cohort"), tmp_path / name) for name in
             ("tag", "pixels", "neither", "png")}  # fmt: skip
    both = {"burned_in_tag", "burned_in_pixels"}
    assert found["tag"] & both == {"burned_in_tag"} and found["neither"] & both == set()
    assert found["pixels"] & both == found["png"] & both == {"burned_in_pixels"}


def test_heads_are_flagged_by_body_part_and_size(take, tmp_path):
    whole = np.zeros((20, 200, 200), "int16") + np.arange(200, dtype="int16")
    save(series(whole, AXIAL, BodyPartExamined="HEAD"), tmp_path / "source")
    assert "face_bearing" in codes(take, tmp_path / "source")

    def flagged(part, modality="MR", shape=(30, 200, 200), **attributes):
        kept = Scan(np.zeros(shape, np.int16), "volume", (3.0, 1.0, 1.0), modality=modality, body_part=part)
        kept.attributes.update(attributes)
        return of_scan(kept)

    assert flagged("brain") == flagged("head", "CT") == ["face_bearing"]
    assert flagged("unknown") == ["face_possible"]
    assert flagged("chest") == flagged("brain", "US") == flagged("brain", recognizable_features="no") == []
    assert flagged("brain", shape=(10, 35, 50)) == []


def test_few_real_images_are_flagged_and_those_have_text(shared_data):
    """busi: of 120 images, a reader found text in 20; 14 are found. kermany: all of 14 in 2,050 carry a time of day."""

    def found(*names):
        return [has_text(np.asarray(Image.open(shared_data / name).convert("L"))) for name in names]

    folder = "busi/images"
    assert sum(found(*(f"{folder}/{p}" for p in TEXT))) == len(TEXT)
    assert not any(found(*(f"{folder}/{p}" for p in NO_TEXT)))


# seen by a reader; those without text have calipers, boxes and body marks
TEXT = """
    benign_60.jpg benign_227.jpg benign_228.jpg malignant_140.jpg benign_4.jpg benign_319.jpg benign_367.jpg
    normal_121.jpg benign_134.jpg benign_298.jpg
    """.split()
NO_TEXT = """
    normal_96.jpg benign_93.jpg benign_79.jpg malignant_145.jpg benign_234.jpg benign_323.jpg benign_213.jpg
    benign_287.jpg benign_181.jpg benign_303.jpg
    """.split()
