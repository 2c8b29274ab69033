import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import write_pairs
from sam_adapter import EvaluateConfig, PredictConfig, Predictor, TrainConfig, evaluate, load, predict, train
from sam_adapter.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> tuple[Path, Path]:
    """Pairs, and an adapter trained on them until its masks mean something."""
    folder = tmp_path_factory.mktemp("trained")
    pairs = write_pairs(folder / "pairs", 8)
    result = train(
        TrainConfig(
            images=pairs / "images",
            masks=pairs / "masks",
            model=sam_folder,
            output=folder / "run",
            epochs=25,
            lr=3e-3,
            prompt="mixed",
            workers=0,
            accelerator="cpu",
        )
    )
    return pairs, result.adapter


def evaluation(pairs: Path, adapter: Path, output: Path, **changes) -> EvaluateConfig:
    values = {
        "images": pairs / "images",
        "masks": pairs / "masks",
        "adapter": adapter,
        "output": output,
        **changes,
    }
    return EvaluateConfig(workers=0, accelerator="cpu", **values)


@pytest.mark.parametrize("prompt", ["box", "points", "none"])
def test_metrics_are_those_of_the_masks_that_predict_writes(trained, tmp_path: Path, prompt: str):
    pairs, adapter = trained
    result = evaluate(evaluation(pairs, adapter, tmp_path / "scores", prompt=prompt, negative_points=1))
    predict(
        PredictConfig(
            adapter=adapter,
            input=str(pairs / "images"),
            prompts=tmp_path / "scores/prompts.json" if prompt != "none" else None,
            output=tmp_path / "out",
            save="masks,overlays,probabilities",
            accelerator="cpu",
            workers=0,
        )
    )
    ious, dices, errors = [], [], []
    for path in sorted((pairs / "masks").iterdir()):
        truth = np.asarray(Image.open(path)) > 0
        mask = np.asarray(Image.open(tmp_path / "out/masks" / path.name))
        assert set(np.unique(mask)) <= {0, 255}
        assert mask.shape == truth.shape
        inter, total = (truth & (mask > 0)).sum(), truth.sum() + (mask > 0).sum()
        ious.append((inter + 1e-3) / (total - inter + 1e-3))
        dices.append((2 * inter + 1e-3) / (total + 1e-3))
        probabilities = np.asarray(Image.open(tmp_path / "out/probabilities" / path.name)).astype(np.float64) / 65535
        assert np.array_equal(probabilities > 0.5, mask > 0)
        errors.append(np.abs(probabilities - truth).mean())
        assert Image.open(tmp_path / "out/overlays" / path.name).size == truth.shape[::-1]
    assert 0 < result["iou"] < 1
    assert result["iou"] == pytest.approx(np.mean(ious), abs=1e-9)
    assert result["dice"] == pytest.approx(np.mean(dices), abs=1e-9)
    assert result["mae"] == pytest.approx(np.mean(errors), abs=1e-5)


def test_frozen_row_is_the_base_on_its_own(trained, sam_folder: str, tmp_path: Path):
    pairs, adapter = trained
    both = evaluate(evaluation(pairs, adapter, tmp_path / "a", with_frozen=True))
    alone = evaluate(evaluation(pairs, None, tmp_path / "b", model=sam_folder))  # type: ignore[arg-type]
    assert both["frozen"]["iou"] == pytest.approx(alone["iou"])
    assert alone["method"] == "none"


def test_predictor_answers_like_the_command(trained, tmp_path: Path):
    pairs, adapter = trained
    picture = pairs / "images/img_01.png"
    predictor = Predictor(load(adapter), device="cpu", precision="32")
    with pytest.raises(DataError, match="call set_image first"):
        predictor.predict()
    predictor.set_image(picture)
    (tmp_path / "p.json").write_text(json.dumps({"img_01.png": {"box": [10, 10, 40, 40]}}))
    predict(
        PredictConfig(
            adapter=adapter,
            input=str(picture),
            prompts=tmp_path / "p.json",
            output=tmp_path,
            accelerator="cpu",
            precision="32",
            workers=0,
        )
    )
    answer = predictor.predict(box=[10, 10, 40, 40])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "masks/img_01.png")) > 0, answer.masks[0].numpy())
    several = predictor.predict(box=np.array([[10, 10, 40, 40], [5, 5, 20, 20]]))
    assert several.masks.shape[0] == several.iou_scores.shape[0] == 2
    torch.testing.assert_close(several.probabilities[0], answer.probabilities[0], rtol=1e-4, atol=1e-5)
    assert predictor.predict(points=[[20, 20]], multimask=True).masks.shape[0] == 3
    assert isinstance(answer.mask_logits, torch.Tensor)
    refined = predictor.predict(points=[[20, 20], [3, 3]], labels=[1, 0], mask_input=answer.mask_logits)
    assert refined.masks.shape == answer.masks.shape
    assert predictor.predict(threshold=0.0).masks.all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"box": [1, 2, 3]}, "box: expected rows of 4"),
        ({"box": [30, 10, 10, 40]}, "x1 <= x2"),
        ({"box": [0, 0, 900, 40]}, "not inside the picture"),
        ({"points": [[1, 2]], "labels": [2]}, "labels: expected 1 values"),
        ({"labels": [1]}, "labels: given without points"),
        ({"points": [[1, 2]], "labels": 7}, "labels: expected 1 values"),
        ({"points": [[1, 2], [3, 4]], "labels": [[1], [1, 0]]}, "labels: expected 2 values"),
        ({"mask_input": torch.zeros(3, 16, 16)}, "mask_input: expected"),
        ({"points": "here"}, "points: expected numbers"),
    ],
)
def test_wrong_prompts_are_explained(trained, arguments: dict, message: str):
    predictor = Predictor(load(trained[1]), device="cpu")
    predictor.set_image(np.zeros((48, 60, 3), np.uint8))
    with pytest.raises(DataError, match=message):
        predictor.predict(**arguments)


def test_all_problems_of_a_prompt_file_are_reported_before_work(trained, tmp_path: Path):
    pairs, adapter = trained
    entries = {
        "nobody.png": {"box": [0, 0, 1, 1]},
        "img_00.png": {"bocks": 1},
        "img_01.png": {"box": [0, 0, 999, 1]},
    }
    (tmp_path / "p.json").write_text(json.dumps(entries))
    options = {"input": str(pairs / "images"), "output": tmp_path / "out", "accelerator": "cpu"}
    with pytest.raises(ConfigError) as error:
        predict(PredictConfig(adapter=adapter, prompts=tmp_path / "p.json", **options))
    for name in entries:
        assert name in str(error.value)
    assert not (tmp_path / "out").exists()


def test_inputs_of_predict(trained, tmp_path: Path):
    pairs, adapter = trained
    deep = tmp_path / "in/a/b"
    deep.mkdir(parents=True)
    Image.open(pairs / "images/img_00.png").save(deep / "x.png")
    Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27).save(tmp_path / "in/deep16.tif")
    options = {"adapter": adapter, "accelerator": "cpu", "workers": 0, "save": "masks"}
    written = predict(PredictConfig(input=str(tmp_path / "in"), output=tmp_path / "out", **options))
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == [
        "masks/a/b/x.png",
        "masks/deep16.png",
    ]
    written = predict(PredictConfig(input=str(pairs / "images/*_0[01].png"), output=tmp_path / "glob", **options))
    assert [path.name for path in written] == ["img_00.png", "img_01.png"]
    Image.open(deep / "x.png").convert("RGB").save(deep / "x.jpg")
    with pytest.raises(ConfigError, match="would both be written as"):
        predict(PredictConfig(input=str(tmp_path / "in"), output=tmp_path / "out", **options))
    with pytest.raises(ConfigError, match="there is no picture"):
        predict(PredictConfig(input=str(tmp_path / "nowhere"), output=tmp_path / "out", **options))


def test_a_picture_that_cannot_be_read_stops_no_other(trained, tmp_path: Path):
    pairs, adapter = trained
    for index in range(5):
        Image.open(pairs / f"images/img_{index:02}.png").save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    options = {"adapter": adapter, "input": str(tmp_path), "accelerator": "cpu", "output": tmp_path / "out"}
    with pytest.raises(DataError, match=r"4 pictures predicted, 1 not:\n.*2\.png"):
        predict(PredictConfig(workers=1, batch_size=2, **options))
    assert len(list((tmp_path / "out/masks").iterdir())) == 4


def test_what_reading_processes_get_can_be_sent_to_them(trained):
    pairs, adapter = trained
    import pickle

    from sam_adapter.data.dataset import PictureDataset, collate_pictures

    segmenter = load(adapter)
    dataset = PictureDataset(sorted((pairs / "images").iterdir()), segmenter.preprocessing)
    again, collate = pickle.loads(pickle.dumps((dataset, collate_pictures)))
    batch, errors = collate([again[0], again[1]])
    assert len(batch) == 2
    assert not errors


def test_prompts_of_evaluate_are_accepted_by_predict_even_without_area(trained, tmp_path: Path):
    pairs, adapter = trained
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    Image.open(pairs / "images/img_00.png").save(tmp_path / "images/a.b.png")
    edge = np.zeros_like(np.asarray(Image.open(pairs / "masks/img_00.png")))
    edge[:, -1] = 255
    Image.fromarray(edge).save(tmp_path / "masks/a.b.png")
    evaluate(evaluation(tmp_path, adapter, tmp_path / "e"))
    prompts = tmp_path / "e/prompts.json"
    options = {"adapter": adapter, "input": str(tmp_path / "images"), "accelerator": "cpu", "workers": 0}
    written = predict(PredictConfig(prompts=prompts, output=tmp_path / "out", **options))
    assert [path.name for path in written] == ["a.b.png"]
    evaluate(evaluation(tmp_path, adapter, tmp_path / "mixed").but(prompt="mixed"))
    with pytest.raises(ConfigError, match='"box" or "points" alone'):
        predict(PredictConfig(prompts=tmp_path / "mixed/prompts.json", output=tmp_path / "out", **options))


def test_a_pillow_image_is_read_like_its_file(trained, tmp_path: Path):
    deep = Image.fromarray((np.arange(2400, dtype=np.uint16).reshape(40, 60)) * 27)
    deep.save(tmp_path / "deep.png")
    predictor = Predictor(load(trained[1]), device="cpu")
    predictor.set_image(tmp_path / "deep.png")
    first = predictor.predict().probabilities
    predictor.set_image(Image.open(tmp_path / "deep.png"))
    assert torch.equal(first, predictor.predict().probabilities)


def writing(adapter: Path, source: Path, output: Path) -> PredictConfig:
    """More pictures than wait for the writing threads, one a step."""
    return PredictConfig(adapter=adapter, input=str(source), output=output, accelerator="cpu", workers=0)


def test_results_are_reported_in_order_however_long_they_take_to_write(trained, tmp_path: Path):
    pairs, adapter = trained
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "img_.png")  # the first, and the slowest
    for path in (pairs / "images").iterdir():
        Image.open(path).save(tmp_path / path.name)
    expected = [tmp_path / "out/masks" / name for name in ("img_.png", *(f"img_{i:02}.png" for i in range(8)))]
    seen = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        assert all(path.exists() for path in expected[:done])

    assert predict(writing(adapter, tmp_path, tmp_path / "out").but(precision="32"), progress) == expected
    assert seen == [(done, 9) for done in range(1, 10)]
    predictor = Predictor(load(adapter), device="cpu", precision="32")
    for path in expected:
        predictor.set_image(tmp_path / path.name)
        assert np.array_equal(np.asarray(Image.open(path)) > 0, predictor.predict().masks[0].numpy())


@pytest.mark.parametrize("faulty", ["img_00", "img_07"])
def test_an_error_in_writing_stops_the_run(trained, tmp_path: Path, faulty: str):
    pairs, adapter = trained
    (tmp_path / "masks" / f"{faulty}.png").mkdir(parents=True)  # no file can take its place
    with pytest.raises(OSError, match=faulty):
        predict(writing(adapter, pairs / "images", tmp_path))
    assert not (tmp_path / "masks/img_07.png").is_file()
    assert not list(tmp_path.rglob("*.partial"))


def test_an_interrupted_run_leaves_complete_files_only(trained, tmp_path: Path):
    pairs, adapter = trained

    def progress(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(writing(adapter, pairs / "images", tmp_path), progress)
    assert not list(tmp_path.rglob("*.partial"))
    masks = list((tmp_path / "masks").iterdir())
    assert 1 <= len(masks) < 8
    for path in masks:
        Image.open(path).load()
