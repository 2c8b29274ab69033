"""Each family beside SAM through the commands, with what saves memory and time, for every task."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from conftest import write_pairs
from evaluation_runs import scored
from object_scenes import discs, picture_of
from sam_adapter import TrainConfig, load, predict, train
from sam_adapter.backbones import load_backbone
from sam_adapter.backbones.families import FAMILIES
from sam_adapter.batch import Annotation, Batch, Prompt, Query, Sample
from sam_adapter.config.commands import PredictConfig
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import FUSED, Machine
from sam_adapter.training.dry_run import dry_run
from training_runs import StopAt, config, relative, rows, weights

every_family = pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"sam"}))
"""SAM itself is in all other tests of runs."""
SIZES = ((48, 60), (64, 40))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("few") / "pairs", 4)


def quick(few: Path, model: str, output: Path, **changes: Any) -> TrainConfig:
    own = {"batch_size": 2, "precision": "32", "val_fraction": 0.25, "augment": "none"}
    return config(few, model, output, **{**own, **changes})


@every_family
def test_a_run_is_gone_on_with_scored_and_predicts(
    few: Path,
    family_folders: dict[str, str],
    family: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level("INFO")
    run = quick(few, family_folders[family], tmp_path / "run")
    train(run)
    attention = f"attention {'blocked' if family == 'sam_hq' else FUSED}"
    assert f"Training on device cpu, precision 32, {attention}" in caplog.messages
    assert len({row["val_iou"] for row in rows(run.output)}) > 1  # something was learnt
    monkeypatch.setattr(StopAt, "moment", ("batch", 3))
    monkeypatch.setattr("sam_adapter.training.run.GracefulStop", StopAt)
    cut = run.but(output=tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    monkeypatch.setattr(StopAt, "moment", ("batch", -1))
    train(cut.but(resume=True))
    wanted = weights(run.output)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights(cut.output).items())

    adapter = run.output / "adapter"
    assert load(adapter).backbone.family == family
    result = scored(few, adapter, tmp_path / "scores", with_frozen=True)
    assert result["iou"] != result["frozen"]["iou"]
    masks = tmp_path / "masks"
    predict(PredictConfig(adapter=adapter, input=str(few / "images"), output=masks, accelerator="cpu", workers=0))
    told = [line for line in caplog.messages if line.startswith("Computing on")]
    assert [line.endswith(attention) for line in told] == [True, True]  # of evaluate and of predict
    found = [np.asarray(Image.open(path)) for path in sorted((masks / "masks").glob("*.png"))]
    pictures = [Image.open(path).size for path in sorted((few / "images").iterdir())]
    assert [one.shape[::-1] for one in found] == pictures


@every_family
def test_kept_embeddings_change_nothing(
    few: Path, family_folders: dict[str, str], family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Where what is kept has gone through weights of the decoder, these stay as they are."""
    run = quick(few, family_folders[family], tmp_path / "without", method="decoder", epochs=1)
    kind = type(load_backbone(run.model))
    with monkeypatch.context() as left:
        left.setattr(kind, "untrained", (*kind.untrained, *kind.preparing))
        train(run)
    cached = run.but(output=tmp_path / "cached", embedding_cache=tmp_path / "cache")
    dry = dry_run(cached)
    assert dry.once_seconds > 0
    assert (FUSED in str(dry)) == (family != "sam_hq")
    seen, encode = [], SamSegmenter.encode
    monkeypatch.setattr(
        SamSegmenter, "encode", lambda own, pixels, **o: seen.append(len(pixels)) or encode(own, pixels, **o)
    )
    train(cached)
    assert sum(seen) == 4  # each picture once, whatever is asked about it
    wanted, found = weights(run.output), weights(cached.output)
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-4, atol=1e-6)


def batch_of(segmenter: SamSegmenter, pictures: list[np.ndarray]) -> Batch:
    """Pictures of any sizes, asked by a box and without a prompt."""
    samples = []
    for index, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        labels = torch.zeros(height, width, dtype=torch.uint8)
        labels[8:30, 10:35] = 1
        samples.append(
            Sample(
                index=index,
                name=str(index),
                pixel_values=segmenter.preprocessing.pixel_values(picture),
                annotation=Annotation.of(labels),
                queries=[Query(prompt=Prompt(box=torch.tensor([10.0, 8, 35, 30]))), Query()],
                original_size=(height, width),
            )
        )
    return Batch.collate(samples)


def unequal_pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3)).astype(np.uint8) for size in SIZES]


@pytest.mark.parametrize("family", sorted(FAMILIES))
@torch.no_grad()
def test_each_picture_gets_its_own_features(family_folders: dict[str, str], family: str):
    segmenter = SamSegmenter.from_config(quick(Path("few"), family_folders[family], Path("run")))
    pictures = unequal_pictures()
    together = segmenter(batch_of(segmenter, pictures))
    swapped = segmenter(batch_of(segmenter, pictures[::-1]))
    for index, picture in enumerate(pictures):
        alone = segmenter(batch_of(segmenter, [picture]))
        for found in (together.mask_logits[2 * index :][:2], swapped.mask_logits[2 - 2 * index :][:2]):
            torch.testing.assert_close(found, alone.mask_logits, rtol=1e-4, atol=1e-5)
    assert relative(together.mask_logits[:2], together.mask_logits[2:]) > 1e-3


def gradients(segmenter: SamSegmenter, precision: str) -> tuple[Tensor, dict[str, Tensor]]:
    machine = Machine.choose(accelerator="cpu", precision=precision)
    segmenter.suited_to(machine).train()
    segmenter.zero_grad()
    with machine.autocast():
        logits = segmenter(batch_of(segmenter, unequal_pictures())).mask_logits.float()
    logits.square().mean().backward()
    return logits.detach(), {name: p.grad for name, p in segmenter.named_parameters() if p.grad is not None}


@every_family
def test_recomputed_blocks_and_half_precision_give_the_same_gradients(family_folders: dict[str, str], family: str):
    segmenter = SamSegmenter.from_config(quick(Path("few"), family_folders[family], Path("run")))
    logits, wanted = gradients(segmenter, "32")
    segmenter.backbone.gradient_checkpointing = True
    again, found = gradients(segmenter, "32")
    assert torch.equal(again, logits)
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=1e-4, atol=1e-7)
    half, found = gradients(segmenter, "bf16-mixed")
    assert 0 < relative(half, logits) < 0.05
    assert found.keys() == wanted.keys()


@pytest.mark.parametrize("task", ["semantic", "instance"])
@every_family
def test_every_task(family_folders: dict[str, str], family: str, task: str, tmp_path: Path):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for index in range(4):
        labels = discs(rng)
        Image.fromarray(picture_of(labels, rng)).save(tmp_path / f"images/{index}.png")
        values = (labels > 0).astype(np.uint8) * 3 if task == "semantic" else labels.astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"masks/{index}.png")
    (tmp_path / "classes.yaml").write_text("disc: 3\n")
    own = {"classes": tmp_path / "classes.yaml"} if task == "semantic" else {"objects_per_image": 2}
    run = quick(tmp_path, family_folders[family], tmp_path / "run", task=task, epochs=1, **own)
    train(run)
    assert any(name.startswith("learned_prompts.") for name in weights(run.output))
    scored(tmp_path, run.output / "adapter", tmp_path / "scores", prompt="mixed")
    report = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert f'"{"miou" if task == "semantic" else "pq"}"' in json.dumps(report)
