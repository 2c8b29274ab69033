"""Runs on tiles: training, resuming, evaluation, prediction, and what an adapter says of its tiles."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import write_pairs
from evaluation_runs import overlap, rows_of, scored, truth_of
from sam_adapter import EvaluateConfig, Predictor, TrainConfig, evaluate, load, train
from sam_adapter.check.doctor import examine
from sam_adapter.checkpoints.adapter import read_adapter_config, save_adapter
from sam_adapter.config.commands import CheckConfig, PredictConfig
from sam_adapter.data.dataset import PairDataset
from sam_adapter.errors import CheckpointError, ConfigError, DataError
from sam_adapter.prediction.folder import predict
from sam_adapter.tasks.prediction import Prediction
from sam_adapter.tiling.grid import Tiling
from sam_adapter.training.dry_run import dry_run
from sam_adapter.training.setup import module_and_data
from semantic_scenes import options
from training_runs import StopAt, config, rows, weights

pytest_plugins = ("semantic_scenes",)

TILES = {"tile": 40, "overlap": 10}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("tiled"), 6, size=(80, 100))


def tiled(place: Path, sam_folder: str, output: Path, **changes) -> TrainConfig:
    plain = {"val_fraction": 0.34, "epochs": 2, "batch_size": 2, "precision": "32", "tiles_per_image": 3, **TILES}
    return config(place, sam_folder, output, **{**plain, **changes})


@pytest.fixture(scope="module")
def run(place: Path, sam_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "run"
    train(tiled(place, sam_folder, output))
    return output


def test_an_epoch_shows_as_many_tiles_as_are_asked_for_and_validation_whole_pictures(run: Path):
    table = rows(run)
    assert [int(row["step"]) for row in table] == [0, 6, 12]  # four pictures, three tiles each, two a batch
    assert all(0 <= float(row["val_iou"]) <= 1 for row in table)
    assert all(np.isfinite(float(row["val_loss"])) for row in table)


def test_the_scores_of_validation_are_those_of_evaluate(run: Path, place: Path, sam_folder: str, tmp_path: Path):
    _, data = module_and_data(tiled(place, sam_folder, tmp_path / "unused"))
    held_out = tmp_path / "held_out"
    for record in data.val_records:
        for kind, file in (("images", record.image), ("masks", record.mask)):
            (held_out / kind).mkdir(parents=True, exist_ok=True)
            assert file is not None
            shutil.copy(file, held_out / kind)
    described = read_adapter_config(run / "adapter")
    found = scored(held_out, run / "adapter", tmp_path / "scores", prompt="mixed", with_frozen=True)
    assert (found["tile"], found["overlap"]) == (40, 10)
    for name in ("iou_box", "iou_none", "mae"):
        assert found[name] == pytest.approx(described.scores[name], abs=1e-5), name
        assert found["frozen"][name] == pytest.approx(described.frozen_scores[name], abs=1e-5), name


def test_models_of_one_encoder_share_no_embeddings_of_tiles(place: Path, sam_folder: str, tmp_path: Path):
    output = tmp_path / "run"
    train(tiled(place, sam_folder, output, method="decoder", epochs=1, val_fraction=0))
    found = scored(place, output / "adapter", tmp_path / "both", prompt="box", with_frozen=True)
    assert found["iou"] == scored(place, output / "adapter", tmp_path / "alone", prompt="box")["iou"]
    assert found["frozen"]["iou"] != found["iou"]
    whole = scored(place, output / "adapter", tmp_path / "whole", prompt="box", with_frozen=True, tile=0)
    assert whole["iou"] != found["iou"]
    with pytest.raises(ConfigError, match="embedding_cache: embeddings are kept of whole pictures"):
        scored(place, output / "adapter", tmp_path / "kept", prompt="box", embedding_cache=tmp_path / "cache")


def test_scores_are_those_of_the_masks_that_are_written(run: Path, place: Path, tmp_path: Path):
    scored(place, run / "adapter", tmp_path / "scores", prompt="none")
    written = predict(
        PredictConfig(
            input=str(place / "images"),
            adapter=run / "adapter",
            output=tmp_path / "masks",
            precision="32",
            accelerator="cpu",
            workers=0,
            batch_size=3,
        )
    )
    lines = rows_of(tmp_path / "scores")
    assert len(written) == len(lines) == 6
    for index, (file, line) in enumerate(zip(written, lines, strict=True)):
        iou, dice = overlap(np.asarray(Image.open(file)) > 0, truth_of(place, index))
        assert float(line["iou"]) == pytest.approx(iou, abs=1e-4)
        assert float(line["dice"]) == pytest.approx(dice, abs=1e-4)


def test_class_maps_of_tiles_are_scored_as_they_are_written(scenes: Path, sam_folder: str, tmp_path: Path):
    output = tmp_path / "run"
    train(options(scenes, sam_folder, output, tile=32, epochs=1, balance=True, precision="32"))
    assert load(output / "adapter").tiling == Tiling(tile=32, overlap=8)
    found = evaluate(
        EvaluateConfig(
            images=scenes / "images",
            masks=scenes / "masks",
            adapter=output / "adapter",
            output=tmp_path / "scores",
            prompt="none",
            precision="32",
            accelerator="cpu",
            workers=0,
        )
    )
    asked = PredictConfig(
        input=str(scenes / "images"),
        adapter=output / "adapter",
        output=tmp_path / "maps",
        save="masks,probabilities,overlays",
        precision="32",
        accelerator="cpu",
        workers=0,
    )
    confusion = np.zeros((3, 3), int)
    for file in predict(asked):
        truth, answer = (np.asarray(Image.open(folder / file.name)) for folder in (scenes / "masks", file.parent))
        for label, value in enumerate((0, 3, 9)):
            for other, own in enumerate((0, 3, 9)):
                confusion[label, other] += ((truth == value) & (answer == own)).sum()
    assert np.array_equal(found["confusion"]["none"], confusion)
    assert len(list((tmp_path / "maps/probabilities").rglob("*.png"))) == 24


def test_everything_random_follows_from_seed_epoch_and_index(place: Path, sam_folder: str, tmp_path: Path):
    _, data = module_and_data(tiled(place, sam_folder, tmp_path / "unused", augment="default"))
    first = [data.train_set[(epoch, index, 1.0)] for epoch in (0, 1) for index in range(3)]
    again = [data.train_set[(epoch, index, 1.0)] for epoch in (0, 1) for index in range(3)]
    for one, other in zip(first, again, strict=True):
        assert one.window == other.window
        assert one.pixel_values is not None
        assert other.pixel_values is not None
        assert torch.equal(one.pixel_values, other.pixel_values)
    assert len({sample.window for sample in first}) == 6
    assert {sample.name for sample in first} == {first[0].name}
    assert {sample.original_size for sample in first} == {(40, 40)}


def test_a_tile_is_cut_before_it_is_augmented_and_seen_as_a_picture_of_its_size(
    place: Path, sam_folder: str, tmp_path: Path
):
    _, data = module_and_data(tiled(place, sam_folder, tmp_path / "unused", augment="none"))
    dataset: PairDataset = data.train_set
    sample = dataset[0]
    image, annotation = dataset.pair(0)
    assert sample.window is not None
    top, left, height, width = sample.window
    part = (slice(top, top + height), slice(left, left + width))
    assert sample.annotation is not None
    assert torch.equal(sample.annotation.labels, annotation.labels[part])
    assert sample.pixel_values is not None
    assert torch.equal(sample.pixel_values, dataset.preprocessing.pixel_values(image[part]))


@pytest.mark.parametrize("moment", [("batch", 8), ("validation", 1)])
def test_an_interrupted_run_on_tiles_ends_where_an_uninterrupted_one_does(
    run: Path, place: Path, sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: tuple[str, int]
):
    cut = tiled(place, sam_folder, tmp_path / "cut")
    monkeypatch.setattr(StopAt, "moment", moment)
    monkeypatch.setattr("sam_adapter.training.run.GracefulStop", StopAt)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(cut)
    monkeypatch.setattr(StopAt, "moment", ("batch", -1))
    train(cut.but(resume=True))
    whole = weights(run)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(cut.output).items())
    assert [row["val_iou"] for row in rows(cut.output)] == [row["val_iou"] for row in rows(run)]
    with pytest.raises(ConfigError, match="tile: was 40, is 50"):
        train(cut.but(resume=True, tile=50))


def test_an_adapter_keeps_its_tiles_and_one_without_says_nothing(run: Path, tmp_path: Path):
    segmenter = load(run / "adapter")
    assert segmenter.tiling == Tiling(tile=40, overlap=10)
    save_adapter(tmp_path / "again", segmenter)
    assert load(tmp_path / "again").tiling == segmenter.tiling
    segmenter.tiling = None
    save_adapter(tmp_path / "whole", segmenter)
    assert "tiles" not in json.loads((tmp_path / "whole/sam_adapter.json").read_text())
    assert load(tmp_path / "whole").tiling is None
    path = tmp_path / "again/sam_adapter.json"
    described = json.loads(path.read_text())
    for wrong, sentence in (
        ({"tile": 20, "overlap": 4}, "greater than or equal to 32"),
        ({"tile": 40, "overlap": 40}, "should be less than 'tile'"),
        ({"tile": "large", "overlap": 4}, "valid integer"),
    ):
        path.write_text(json.dumps({**described, "tiles": wrong}))
        with pytest.raises(CheckpointError, match=sentence):
            load(tmp_path / "again")


def test_an_adapter_without_tiles_may_be_asked_for_them_and_one_with_tiles_for_none(
    run: Path, place: Path, tmp_path: Path
):
    own = scored(place, run / "adapter", tmp_path / "own", prompt="none")
    whole = scored(place, run / "adapter", tmp_path / "whole", prompt="none", tile=0)
    other = scored(place, run / "adapter", tmp_path / "other", prompt="none", tile=64)
    wide = scored(place, run / "adapter", tmp_path / "wide", prompt="none", overlap=20)
    assert "tile" not in whole
    assert (other["tile"], other["overlap"]) == (64, 16)
    assert (wide["tile"], wide["overlap"]) == (40, 20)
    assert len({one["mae"] for one in (own, whole, other, wide)}) == 4
    batched = scored(place, run / "adapter", tmp_path / "batched", prompt="none", batch_size=5)
    assert batched["mae"] == pytest.approx(own["mae"], abs=1e-5)


def test_added_scores_and_a_report_are_of_whole_pictures(run: Path, place: Path, tmp_path: Path):
    found = scored(place, run / "adapter", tmp_path / "scores", prompt="mixed", metrics="s_measure", report=True)
    assert 0 < found["s_measure"] < 1
    assert (tmp_path / "scores/report.html").is_file()


def test_tiles_as_large_as_the_picture_change_no_score(run: Path, place: Path, tmp_path: Path):
    whole = scored(place, run / "adapter", tmp_path / "whole", prompt="mixed", tile=0)
    one = scored(place, run / "adapter", tmp_path / "one", prompt="mixed", tile=500)
    for name in ("iou_box", "iou_points", "iou_none", "mae"):
        assert one[name] == pytest.approx(whole[name], abs=1e-4), name


def test_a_picture_is_asked_tile_by_tile_from_python(run: Path, place: Path):
    path = sorted((place / "images").iterdir())[0]
    predictor = Predictor(load(run / "adapter"), device="cpu", precision="32")
    with pytest.raises(DataError, match="call set_image first"):
        predictor.predict()
    predictor.set_image(path)
    found = predictor.predict(box=[20, 20, 60, 60])
    every = predictor.predict_all()
    assert isinstance(every, Prediction)
    assert found.masks.shape == every.masks.shape == (1, 80, 100)
    torch.testing.assert_close(every.probabilities, predictor.predict().probabilities)
    with pytest.raises(DataError, match="neither mask_input nor multimask"):
        predictor.predict(box=[20, 20, 60, 60], multimask=True)
    whole = Predictor(predictor.segmenter, device="cpu", precision="32", tile=0)
    whole.set_image(path)
    assert not torch.allclose(whole.predict().probabilities, predictor.predict().probabilities, atol=1e-3)


def test_tiles_are_chosen_from_the_objects_and_check_says_so(place: Path, sam_folder: str, tmp_path: Path):
    seen = CheckConfig(images=place / "images", masks=place / "masks", tile="auto", image_size=64)
    (remark,) = (one for one in examine(seen).remarks if one.kind == "tiles")
    _, data = module_and_data(tiled(place, sam_folder, tmp_path / "unused", tile="auto", overlap=None, val_fraction=0))
    assert data.tiling is not None
    assert data.tiling.overlap == data.tiling.tile // 4
    for said in (
        f"tiles of {data.tiling.tile} pixels",
        "the median of 6 objects is",
        "a picture",
        "input of 64 pixels",
    ):
        assert said in remark.text
    assert not [one for one in examine(seen.but(tile=None)).remarks if one.kind == "tiles"]


def test_a_dry_run_measures_tiles(place: Path, sam_folder: str, tmp_path: Path):
    found = dry_run(tiled(place, sam_folder, tmp_path / "unused"))
    assert found.batches == 6
    assert found.val_seconds > 0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"tile": 31}, "tile: expected 0 or 32 pixels and more, got 31"),
        ({"tile": 64, "overlap": 64}, "overlap: expected less than the tile of 64 pixels, got 64"),
        ({"tile": 64, "overlap": -1}, "overlap: expected a value from 0 to 65535, got -1"),
        ({"tile": "large"}, "tile: expected a number of pixels, 0 for whole pictures, or .* auto, got 'large'"),
        ({"tile": 64.5}, "tile: expected a number of pixels"),
        ({"overlap": 8}, "overlap: needs a tile"),
        ({"tile": 64, "empty_tiles": 1.5}, "empty_tiles: expected a value from 0 to 1"),
        ({"tile": 64, "tiles_per_image": 0}, "tiles_per_image: expected a value from 1"),
        ({"tile": 64, "method": "decoder", "embedding_cache": "kept"}, "embedding_cache: embeddings are kept of whole"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(values: dict, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        TrainConfig(**{"images": Path("i"), "masks": Path("m"), "model": "tiny", "output": Path("o"), **values})


def test_evaluate_and_predict_refuse_what_only_training_can_know(run: Path, place: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="tile: 'auto' is chosen in training"):
        PredictConfig(input="x", adapter=run / "adapter", output=tmp_path, tile="auto")
    with pytest.raises(ConfigError, match="overlap: there are no tiles"):
        scored(place, None, tmp_path, model="tiny", overlap=8)
    with pytest.raises(ConfigError, match="less than the tile of 40 pixels"):
        scored(place, run / "adapter", tmp_path, overlap=40)
    with pytest.raises(ConfigError, match="embedding_cache: embeddings are kept of whole pictures, not of tiles"):
        scored(place, run / "adapter", tmp_path, embedding_cache=tmp_path / "cache")


def test_more_empty_tiles_are_shown_where_that_is_asked_for(place: Path, sam_folder: str, tmp_path: Path):
    shares = []
    for share in (0.0, 1.0):
        changes = {"empty_tiles": share, "tile": 32, "overlap": 8, "tiles_per_image": 10, "augment": "none"}
        _, data = module_and_data(tiled(place, sam_folder, tmp_path / "unused", **changes))
        found = [data.train_set[index].annotation for index in range(len(data.train_set))]
        shares.append(np.mean([not one.target(1).any() for one in found if one is not None]))
    assert shares[0] == 0
    assert shares[1] > 0.5


def test_each_picture_has_tiles_that_cover_it_unless_told_otherwise(place: Path, sam_folder: str, tmp_path: Path):
    _, data = module_and_data(tiled(place, sam_folder, tmp_path / "unused", tiles_per_image=None, val_fraction=0.0))
    covering = [-(-look.size[0] // 40) * -(-look.size[1] // 40) for look in data.looks.values()]
    assert max(covering) > 8
    assert len(data.train_set) == sum(min(count, 8) for count in covering)
