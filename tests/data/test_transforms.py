from pathlib import Path
from typing import Any

import albumentations as alb
import cv2
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image

from sam_adapter import preprocessing
from sam_adapter.batch import VOID, Prompt
from sam_adapter.data.augmentation import Augmentation
from sam_adapter.errors import ConfigError
from sam_adapter.preprocessing import Preprocessing


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        ((480, 640), (768, 1024)),
        ((1536, 1000), (1024, 667)),
        ((200, 300), (683, 1024)),
        ((1, 3000), (1, 1024)),
    ],
)
def test_longest_side_as_in_sams_predictor(original: tuple[int, int], expected: tuple[int, int]):
    assert Preprocessing(image_size=1024).input_size(original) == expected
    assert Preprocessing(image_size=1024, resize="squash").input_size(original) == (1024, 1024)


@pytest.mark.parametrize("size", [(20, 64), (64, 30), (30, 20), (64, 64)])
def test_enlarging_to_the_square_rounds_once_as_opencv(size: tuple[int, int]):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    found = Preprocessing(image_size=64, resize="squash").resized(image)
    assert np.array_equal(found, cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR))


@pytest.mark.parametrize("resize", ["pad", "squash"])
@pytest.mark.parametrize("size", [(97, 131), (131, 64), (64, 131), (40, 300), (1, 90), (300, 1)])
def test_grey_and_rgb_of_pillow_are_resized_as_the_array_is(size: tuple[int, int], resize: Any):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    preprocessing = Preprocessing(image_size=64, resize=resize)
    height, width = preprocessing.input_size(size)
    wanted = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    for picture in (image, Image.fromarray(image)):
        assert np.array_equal(preprocessing.resized(picture), np.asarray(wanted))
    grey = preprocessing.resized(Image.fromarray(image[..., 1]))
    assert np.array_equal(grey, preprocessing.resized(np.repeat(image[..., 1:2], 3, axis=2)))


@pytest.mark.parametrize("band", [1, 700, 1 << 20])
@pytest.mark.parametrize("size", [(97, 131), (131, 64), (20, 30), (64, 64), (1, 90)])
def test_unrounded_pixels_are_those_of_pillows_floating_point(
    size: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch
):
    """In whatever bands of rows; whole values are only rounded where SAM's predictor does it."""
    monkeypatch.setattr(preprocessing, "BAND_PIXELS", band)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    own = Preprocessing(image_size=64, resize="squash", interpolation="float32", restore="direct")
    channels = [Image.fromarray(image[..., channel].astype(np.float32)) for channel in range(3)]
    wanted = np.stack([np.asarray(one.resize((64, 64), Image.Resampling.BILINEAR)) for one in channels], -1)
    np.testing.assert_allclose(own.resized(image), wanted, atol=1e-3)
    np.testing.assert_allclose(own.resized(Image.fromarray(image)), wanted, atol=1e-3)
    rounded = Preprocessing(image_size=64, resize="squash").resized(image)
    assert np.abs(rounded - wanted).max() <= 1.01
    if size != (64, 64):
        assert np.abs(rounded - wanted).max() > 0.1


@pytest.mark.parametrize("original", [(97, 131), (20, 30), (16, 200)])
def test_logits_come_directly_to_original_size(original: tuple[int, int]):
    """As one bilinear resize, in strips of rows too; by way of the square they are others."""
    logits = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    own = Preprocessing(image_size=64, resize="squash", interpolation="float32", restore="direct")
    found = own.to_original_size(logits, original)
    wanted = cv2.resize(logits[1].numpy(), original[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(found[1].numpy(), wanted, atol=1e-4)
    rows = slice(3, original[0] - 2)
    torch.testing.assert_close(own.to_original_size(logits, original, rows), found[:, rows], rtol=1e-4, atol=1e-5)
    square = Preprocessing(image_size=64, resize="squash").to_original_size(logits, original)
    assert (square - found).abs().max() > 1e-3


def test_padded_logits_go_by_way_of_the_square():
    own = Preprocessing(image_size=64, resize="squash", interpolation="float32", restore="direct")
    padded = Preprocessing(image_size=64, resize="pad", interpolation="float32", restore="square")
    assert own.resized_by("pad") == padded
    assert own.resized_by(None) is own.resized_by("squash") is own
    with pytest.raises(ValueError, match="use 'square'"):
        Preprocessing(image_size=64, restore="direct")


def test_padding_is_zero_after_normalising_and_lies_right_and_bottom():
    values = Preprocessing(image_size=64).pixel_values(np.full((20, 40, 3), 255, np.uint8))
    assert values.shape == (3, 64, 64)
    assert (values[:, :32] != 0).all()
    assert not values[:, 32:].any()
    assert values[0, 0, 0].item() == pytest.approx((255 - 123.675) / 58.395, abs=1e-6)


@pytest.mark.parametrize("resize", ["pad", "squash"])
@pytest.mark.parametrize("size", [(48, 80), (100, 37), (64, 64), (1, 9)])
def test_a_mask_survives_the_way_there_and_back(resize, size: tuple[int, int]):
    preprocessing = Preprocessing(image_size=256, resize=resize)
    _, columns = np.mgrid[: size[0], : size[1]]
    half = (columns >= size[1] / 2).astype(np.uint8)
    pixels = preprocessing.pixel_values(np.repeat(half[..., None] * 255, 3, axis=2))
    back = preprocessing.to_original_size(pixels[:1], size)[0]
    # 0 and 255 lie on both sides of the middle after normalisation
    assert ((back > 0.2).numpy() == half.astype(bool)).mean() > 0.98
    assert back.shape == size


def test_prompts_follow_the_picture():
    prompt = Prompt(
        box=torch.tensor([10.0, 20, 30, 40]),
        points=torch.tensor([[5.0, 6.0]]),
        point_labels=torch.tensor([1]),
    )
    scaled = Preprocessing(image_size=100).prompt_to_input(prompt, (50, 25))
    assert scaled.box is not None
    assert scaled.points is not None
    assert scaled.box.tolist() == [20, 40, 60, 80]
    assert scaled.points.tolist() == [[10, 12]]
    assert prompt.box is not None
    assert prompt.box.tolist() == [10, 20, 30, 40]


def picture_and_mask() -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 10:30] = 1
    return np.repeat(mask[..., None] * np.uint8(200), 3, axis=2), mask


def test_augmentation_moves_image_and_mask_together_and_follows_the_seed():
    image, mask = picture_and_mask()
    augmentation = Augmentation("default")
    results = [augmentation(image, mask, seed=seed) for seed in range(60)]
    changed = 0
    for new_image, new_mask in results:
        assert new_image.shape[:2] == new_mask.shape
        assert ((new_image[..., 0] > 100) == new_mask).mean() > 0.97
        changed += new_mask.shape != mask.shape or not np.array_equal(new_mask, mask)
    assert 15 < changed < 45  # p 0.5
    again = augmentation(image, mask, seed=3)
    assert np.array_equal(again[0], results[3][0])


def test_no_augmentation_and_a_pipeline_from_a_file(tmp_path: Path):
    image, mask = picture_and_mask()
    assert Augmentation("none")(image, mask, seed=0)[0] is image
    alb.save(alb.Compose([alb.VerticalFlip(p=1)]), tmp_path / "flip.yaml", data_format="yaml")
    flipped = Augmentation(str(tmp_path / "flip.yaml"))(image, mask, seed=0)
    assert np.array_equal(flipped[1], mask[::-1])


@pytest.mark.parametrize("name", ["defualt", "missing.yaml"])
def test_unknown_augmentation(name: str):
    with pytest.raises(ConfigError, match="augment: expected one of default, flip, none"):
        Augmentation(name)


def test_a_file_that_is_no_pipeline(tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match="not a pipeline"):
        Augmentation(str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize(
    "transform",
    [
        "Normalize",
        "ToFloat",
        "ToTensorV2",
        "RandomCrop",
    ],
)
def test_pipelines_that_give_no_pictures_are_refused_before_training(tmp_path: Path, transform: str):
    steps: list[Any] = [alb.HorizontalFlip()]
    sizes = {"height": 300, "width": 300} if transform == "RandomCrop" else {}
    steps.append(ToTensorV2() if transform == "ToTensorV2" else getattr(alb, transform)(**sizes))
    alb.save(alb.Compose(steps), tmp_path / "p.yaml", data_format="yaml")
    with pytest.raises(ConfigError, match=r"augment: .*p.yaml"):
        Augmentation(str(tmp_path / "p.yaml"))


def test_a_grey_pipeline_gives_colour_and_void_moves_with_the_mask(tmp_path: Path):
    pipeline = alb.Compose([alb.ToGray(num_output_channels=1, p=1), alb.VerticalFlip(p=1)])
    alb.save(pipeline, tmp_path / "p.yaml", data_format="yaml")
    image, mask = picture_and_mask()
    mask[:5] = VOID
    changed, moved = Augmentation(str(tmp_path / "p.yaml"))(image, mask, seed=0)
    assert changed.shape == image.shape
    assert np.array_equal(moved, mask[::-1])
