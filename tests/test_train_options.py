"""Each option of `train` changes what it should, in a real run of a small SAM."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

import golden_cases
from conftest import random_sam, write_pages, write_pairs
from option_table import SOURCES, TILED, Changes, HeldBy, looked_at, require_all_options
from sam_adapter import TrainConfig, train
from sam_adapter.batch import Annotation, Query
from sam_adapter.config.registry import TASKS, TaskEntry
from sam_adapter.errors import ConfigError, DataError
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.training.setup import module_and_data

PLAIN = {
    "epochs": 1,
    "batch_size": 2,
    "val_fraction": 0.0,
    "augment": "none",
    "precision": "32",
    "accelerator": "cpu",
    "workers": 0,
    "lr": 1e-3,
}


@dataclass(frozen=True)
class Run:
    """A run that is over.

    Attributes:
        config: As it was asked for.
        workers: Reading processes of each loader that was used.
    """

    config: TrainConfig
    workers: list[int]

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """Of the trained epochs."""
        with (self.config.output / "metrics.csv").open() as file:
            return [row for row in csv.DictReader(file) if row["epoch"] != "0"]

    @cached_property
    def description(self) -> dict[str, Any]:
        return json.loads((self.config.output / "adapter/sam_adapter.json").read_text())

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        return load_file(self.config.output / "adapter/sam_adapter.safetensors")

    @cached_property
    def start(self) -> dict[str, Tensor]:
        """The weights before the first step."""
        lightning.seed_everything(self.config.seed, verbose=False)
        return module_and_data(self.config)[0].segmenter.trained_state()

    @property
    def loss(self) -> float:
        """Of the first epoch, over its steps."""
        return float(self.rows[0]["train_loss"])

    @property
    def steps(self) -> int:
        return int(self.rows[-1]["step"])

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.config.output.rglob("*")}


def another_loss(plain: Run, changed: Run) -> None:
    assert abs(changed.loss - plain.loss) > 1e-6  # equal runs are equal, see below


def same_training(plain: Run, changed: Run) -> None:
    assert changed.loss == pytest.approx(plain.loss, rel=1e-6)
    for name, tensor in plain.weights.items():
        torch.testing.assert_close(changed.weights[name], tensor)


def described(option: str, *, loss: bool = True) -> Callable[[Run, Run], None]:
    """The adapter's settings hold the value, and other prompts give another loss."""

    def check(plain: Run, changed: Run) -> None:
        settings = [run.description["method"]["adapter"][option] for run in (plain, changed)]
        assert settings[1] == getattr(changed.config, option) != settings[0]
        if loss:
            another_loss(plain, changed)

    return check


def preset(plain: Run, changed: Run) -> None:
    settings = changed.description["method"]["adapter"]
    assert (settings["tune_dim"], settings["hidden_dim"]) == (2, 2)  # the small SAM has 64 channels
    assert settings["adapter_init"] == "paper"
    another_loss(plain, changed)


def every_weight_decays(plain: Run, changed: Run) -> None:
    """After one step, by the rate times the decay; biases and norms do not."""
    torch.manual_seed(0)
    decayed = 0
    for name, tensor in plain.weights.items():
        if tensor.ndim == 1:
            torch.testing.assert_close(changed.weights[name], tensor)
        elif "adapter." in name:
            shrunk = tensor - changed.weights[name]  # lr * decay * the weight before the step, which is near `tensor`
            ratio = (shrunk * tensor).sum() / tensor.square().sum()
            assert ratio.item() == pytest.approx(1e-3 * 50, rel=0.1), name
            decayed += 1
    assert decayed >= 4


def barely_moves(plain: Run, changed: Run) -> None:
    """Adam divides by the gradient's size, so only a norm far below its epsilon shows."""
    names = [name for name in plain.weights if name.endswith("bias")]
    moved = [sum((run.weights[name] - run.start[name]).norm().item() for name in names) for run in (plain, changed)]
    assert moved[1] < 0.01 * moved[0]


def rate(plain: Run, changed: Run) -> None:
    values = [float(run.rows[0]["lr"]) for run in (plain, changed)]
    assert values[0] != values[1]
    another_loss(plain, changed)


def parts(plain: Run, changed: Run) -> None:
    assert any("mask_decoder" in name for name in plain.weights)
    assert all(name.startswith("adapter.") for name in changed.weights)


def method(plain: Run, changed: Run) -> None:
    assert any(name.startswith("adapter.") for name in plain.weights)
    assert all("mask_decoder" in name for name in changed.weights)
    assert changed.description["method"]["name"] == "decoder"


def kept_embeddings(plain: Run, changed: Run) -> None:
    cache = changed.config.embedding_cache
    assert cache is not None
    assert len(list(cache.rglob("*.safetensors"))) == 4
    same_training(plain, changed)


def validation(plain: Run, changed: Run) -> None:
    assert not any(name.startswith("val_") and value for row in plain.rows for name, value in row.items())
    assert 0 <= float(changed.rows[0]["val_iou"]) <= 1


def held_out(plain: Run, changed: Run) -> None:
    validation(plain, changed)
    assert changed.steps < plain.steps


def stopped_early(plain: Run, changed: Run) -> None:
    assert len(plain.rows) == 4
    assert 2 <= len(changed.rows) < 4


def smoothed(plain: Run, changed: Run) -> None:
    """A mean over the steps is nearer to the start than the end is."""
    name = "adapter.down.0.bias"
    moved = [(run.weights[name] - run.start[name]).norm().item() for run in (plain, changed)]
    assert 0 < moved[1] < 0.99 * moved[0]


def twice_the_steps(plain: Run, changed: Run) -> None:
    assert changed.steps == 2 * plain.steps


def base(plain: Run, changed: Run) -> None:
    assert changed.description["base"]["sha256"] != plain.description["base"]["sha256"]
    another_loss(plain, changed)


LORA_IS_ITS_PRODUCT = "test_answers_and_gradients_are_those_of_the_written_out_product"
TRAIN: Mapping[str, HeldBy | Changes] = {
    "images": Changes({"images": "other/images"}, another_loss),
    "masks": Changes({"masks": "other/masks"}, another_loss),
    "mask_pattern": Changes({"mask_pattern": "{stem}_m", "masks": "renamed"}, same_training),
    "mask_rule": HeldBy("annotations/test_reading.py", "test_masks_of_every_kind"),
    "ignore_value": Changes({"ignore_value": ("128",)}, another_loss, masks="void", mask_rule="half"),
    "mask_invert": Changes({"mask_invert": True}, another_loss),
    "pages": Changes({"pages": "all"}, twice_the_steps, batch_size=1, images="paged/images", masks="paged/masks"),
    "max_pixels": HeldBy("test_train_options.py", "test_pictures_above_the_limit_are_refused"),
    "faulty": HeldBy("data/test_inspection.py", "test_twelve_planted_faults_are_all_named_in_one_report"),
    "group_pattern": HeldBy("data/test_doctor.py", "test_near_copies_are_found_and_a_cure_that_works_is_offered"),
    "groups": HeldBy("data/test_grouping.py", "test_tables_as_people_have_them"),
    "group_copies": HeldBy("data/test_grouping.py", "test_near_copies_join_groups"),
    "prompt": Changes({"prompt": "none"}, another_loss),
    "box_scale": Changes({"box_scale": 2.0}, another_loss),
    "box_jitter": Changes({"box_jitter": 0.4}, another_loss),
    "prompts_per_image": Changes({"prompts_per_image": 1}, another_loss, prompt="mixed"),
    "positive_points": Changes({"positive_points": 3}, another_loss, prompt="points"),
    "negative_points": Changes({"negative_points": 2}, another_loss, prompt="points"),
    "mask_error": Changes({"mask_error": 0.0}, another_loss, prompt="mask"),
    "metrics": HeldBy("test_added_metrics.py", "test_training_has_added_scores_in_all_that_scores_are_in"),
    "spacing": HeldBy("test_added_metrics.py", "test_validation_scores_are_those_that_evaluate_gives"),
    "preset": Changes({"preset": "paper"}, preset),
    "tune_dim": Changes({"tune_dim": 10}, described("tune_dim")),
    "hidden_dim": Changes({"hidden_dim": 5}, described("hidden_dim")),
    "high_frequency_rate": Changes({"high_frequency_rate": 0.02}, described("high_frequency_rate")),
    "embedding_from": Changes({"embedding_from": "before_position"}, described("embedding_from")),
    "embedding_read": Changes({"embedding_read": "once"}, described("embedding_read")),
    "neck_prompt": Changes({"neck_prompt": False}, described("neck_prompt")),
    "activation": Changes({"activation": "relu"}, described("activation")),
    "use_high_frequency": Changes({"use_high_frequency": False}, described("use_high_frequency")),
    "use_embedding": Changes({"use_embedding": False}, described("use_embedding")),
    "share_up": Changes({"share_up": False}, described("share_up")),
    "adapter_init": Changes({"adapter_init": "zero"}, described("adapter_init")),
    "lora_rank": HeldBy("methods/test_lora.py", "test_the_table_of_parameters_names_it"),
    "lora_alpha": HeldBy("methods/test_lora.py", "test_the_scale_is_alpha_over_the_rank_or_its_root"),
    "lora_dropout": HeldBy("methods/test_lora.py", "test_dropout_is_on_in_training_and_off_otherwise"),
    "lora_targets": HeldBy("methods/test_lora.py", LORA_IS_ITS_PRODUCT),
    "dora": HeldBy("methods/test_lora.py", LORA_IS_ITS_PRODUCT),
    "rslora": HeldBy("methods/test_lora.py", "test_the_scale_is_alpha_over_the_rank_or_its_root"),
    "precision": Changes({"precision": "bf16-mixed"}, another_loss),
    "attention": HeldBy("test_train_options.py", "test_how_blocks_are_computed"),
    "compile": HeldBy("test_model.py", "test_compiled_blocks_change_nothing"),
    "accelerator": HeldBy("test_train_options.py", "test_a_gpu_that_is_not_there_is_refused"),
    "workers": Changes({"workers": 1}, lambda plain, changed: (set(plain.workers), set(changed.workers)) == ({0}, {1})),
    "seed": Changes({"seed": 1}, another_loss),
    "start_from": HeldBy("test_trained.py", "test_a_run_starts_from_an_adapter"),
    "model": Changes({"model": "other_sam"}, base),
    "output": Changes({"output": "elsewhere"}, lambda plain, changed: changed.files >= {"last.ckpt", "config.yaml"}),
    **SOURCES,
    "tile": HeldBy(TILED, "test_a_tile_is_cut_before_it_is_augmented_and_seen_as_a_picture_of_its_size"),
    "overlap": HeldBy(TILED, "test_an_adapter_keeps_its_tiles_and_one_without_says_nothing"),
    "tiles_per_image": HeldBy(
        TILED, "test_an_epoch_shows_as_many_tiles_as_are_asked_for_and_validation_whole_pictures"
    ),
    "empty_tiles": HeldBy(TILED, "test_more_empty_tiles_are_shown_where_that_is_asked_for"),
    "val_annotations": HeldBy("test_source_options.py", "test_the_options_of_the_validation_set"),
    "val_table": HeldBy("test_source_options.py", "test_the_options_of_the_validation_set"),
    "val_known": HeldBy("test_source_options.py", "test_the_options_of_the_validation_set"),
    "val_split": HeldBy("test_source_options.py", "test_the_options_of_the_validation_set"),
    "val_images": Changes({"val_images": "other/images", "val_masks": "other/masks"}, validation),
    "val_masks": Changes({"val_images": "images", "val_masks": "other/masks"}, validation),
    "val_fraction": Changes({"val_fraction": 0.5}, held_out),
    "empty_masks": HeldBy("test_training.py", "test_empty_masks_are_trained_on_or_left_out"),
    "augment": Changes({"augment": "flip"}, another_loss),
    "image_size": Changes(
        {"image_size": 64}, lambda _, changed: changed.description["preprocessing"]["image_size"] == 64
    ),
    "resize": Changes({"resize": "squash"}, another_loss),
    "task": HeldBy("test_train_options.py", "test_a_run_asks_the_task_of_its_name"),
    "classes": HeldBy("semantic/test_classes_in_runs.py", "test_the_doctor_speaks_of_classes"),
    "balance": HeldBy("data/test_balancing.py", "test_rare_classes_are_drawn_more_often"),
    "empty_share": HeldBy("data/test_balancing.py", "test_empty_pictures_have_the_share_that_is_asked_for"),
    "objects_per_image": HeldBy("objects/test_objects_asked_for.py", "test_training_draws_objects_of_all_sizes"),
    "class_tokens": HeldBy(
        "semantic/test_classes_in_runs.py", "test_a_run_trains_learned_prompts_and_keeps_the_best_class_maps"
    ),
    "with_class": HeldBy("tasks/test_semantic.py", "test_training_tells_the_class_of_a_prompt_as_often_as_it_should"),
    "method": Changes({"method": "decoder"}, method),
    "parts": Changes({"parts": ()}, parts),
    "correction_rounds": Changes({"correction_rounds": 1}, another_loss, prompt="mixed"),
    "multimask": HeldBy("objects/test_multimask.py", "test_with_it_they_are_trained_and_saved"),
    "loss": HeldBy("test_train_options.py", "test_the_loss_is_the_weighted_sum"),
    "epochs": Changes({"epochs": 2}, lambda plain, changed: (len(plain.rows), len(changed.rows)) == (1, 2)),
    "batch_size": Changes({"batch_size": 1}, lambda plain, changed: (plain.steps, changed.steps) == (2, 4)),
    "accumulate": Changes({"accumulate": 2}, lambda plain, changed: (plain.steps, changed.steps) == (2, 1)),
    "lr": Changes({"lr": 5e-3}, rate, epochs=2),
    "weight_decay": Changes({"weight_decay": 50.0}, every_weight_decays, warmup=0.0, batch_size=4),
    "warmup": Changes({"warmup": 1.0}, rate, epochs=2),
    "clip": Changes({"clip": 1e-9}, barely_moves),
    "embedding_cache": Changes({"embedding_cache": "kept"}, kept_embeddings, method="decoder"),
    "dry_run": HeldBy("test_memory.py", "test_a_dry_run_takes_the_runs_own_step_and_writes_nothing"),
    "gradient_checkpointing": HeldBy(
        "backbones/test_sam.py", "test_gradient_checkpointing_computes_blocks_again_and_keeps_less"
    ),
    "monitor": HeldBy("test_train_options.py", "test_the_best_adapter_is_the_best_by_the_monitor"),
    "ema": Changes({"ema": 0.9}, smoothed, epochs=3),
    "patience": Changes({"patience": 1}, stopped_early, epochs=4, lr=1e-12, val_fraction=0.5),
    "devices": HeldBy("test_two_processes_as_one.py", "test_two_processes_train_as_one"),
    "nodes": HeldBy("test_train_options.py", "test_where_a_run_computes"),
    "strategy": HeldBy("test_train_options.py", "test_where_a_run_computes"),
    "logger": HeldBy("test_training.py", "test_other_settings_run"),
    "project": HeldBy("test_train_options.py", "test_what_weights_and_biases_is_told"),
    "run_name": HeldBy("test_train_options.py", "test_what_weights_and_biases_is_told"),
    "resume": HeldBy("test_resuming.py", "test_an_interrupted_run_ends_where_an_uninterrupted_one_does"),
    "overwrite": HeldBy("test_resuming.py", "test_an_output_folder_is_not_written_over"),
}
PATHS = {"images", "masks", "output", "val_images", "val_masks", "embedding_cache", "model"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of four pairs; the first one's masks under other names and with void, and as pages; two base models."""
    folder = tmp_path_factory.mktemp("options")
    write_pairs(folder, 4, size=(40, 40))
    write_pairs(folder / "other", 4, seed=1, size=(40, 40))
    for name in ("renamed", "void"):
        (folder / name).mkdir()
    for mask in (folder / "masks").iterdir():
        (folder / "renamed" / f"{mask.stem}_m.png").write_bytes(mask.read_bytes())
        values = np.array(Image.open(mask))
        values[:, :12] = 128
        Image.fromarray(values).save(folder / "void" / mask.name)
    write_pages(folder / "paged", folder)
    (folder / "sam").symlink_to(golden_cases.base())
    random_sam().save_pretrained(folder / "other_sam")
    return folder


def configured(place: Path, output: Path, values: Mapping[str, Any]) -> TrainConfig:
    """Names of files in the values are of files in the place."""
    given: dict[str, Any] = {"images": "images", "masks": "masks", "model": "sam", "output": output, **PLAIN, **values}
    placed: dict[str, Any] = {name: str(place / value) if name in PATHS else value for name, value in given.items()}
    return TrainConfig(**placed)


Runner = Callable[[Mapping[str, Any]], Run]


@pytest.fixture(scope="module")
def run(place: Path) -> Iterator[Runner]:
    """Runs, of which equal ones are made once."""
    done: dict[str, Run] = {}
    used: list[int] = []
    make = DataLoader._get_iterator

    def watched(loader: DataLoader) -> Any:
        used.append(loader.num_workers)
        return make(loader)

    def once(values: Mapping[str, Any]) -> Run:
        key = repr(sorted(values.items()))
        if key not in done:
            config = configured(place, place / f"run{len(done)}", values)
            used.clear()
            train(config)
            done[key] = Run(config, list(used))
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataLoader, "_get_iterator", watched)
        yield once


def test_no_option_is_left_out():
    require_all_options(TrainConfig, TRAIN)


@pytest.mark.parametrize("option", looked_at(TRAIN))
def test_an_option_changes_what_it_should(run: Runner, option: str):
    entry = TRAIN[option]
    assert isinstance(entry, Changes)
    plain, changed = run(entry.plain), run({**entry.plain, **entry.values})
    assert entry.check(plain, changed) in (None, True)


def test_a_run_is_the_same_again(run: Runner, place: Path):
    """Or else every comparison here would find a difference."""
    config = configured(place, place / "again", {})
    train(config)
    again = Run(config, [])
    assert abs(again.loss - run({}).loss) < 1e-7
    same_training(run({}), again)


def test_the_loss_is_the_weighted_sum(run: Runner):
    bce, dice, both = (run({"loss": loss, "lr": 1e-12}).loss for loss in ("bce", "dice", "2*bce + 0.5*dice"))
    assert both == pytest.approx(2 * bce + 0.5 * dice, rel=1e-6)
    assert bce != pytest.approx(dice, rel=1e-3)


class Twice(BinaryTask):
    """A task that asks everything twice."""

    def training_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        return super().training_queries(annotation, rng) * 2


def test_a_run_asks_the_task_of_its_name(place: Path, monkeypatch: pytest.MonkeyPatch):
    """Until there is a second task, another one takes the first one's name; a name that is not known is refused."""
    config = configured(place, place / "unused", {"prompt": "box"})
    monkeypatch.setattr("sam_adapter.tasks.binary.Twice", Twice, raising=False)
    monkeypatch.setitem(cast(dict[str, TaskEntry], TASKS), "binary", TaskEntry("tasks.binary:Twice"))
    module, data = module_and_data(config)
    assert type(module.task) is type(data.train_set.task) is Twice
    assert module.segmenter.task == "binary"
    assert len(data.train_set[0].queries) == 2
    with pytest.raises(ConfigError, match=r"task: expected .*binary.*, got 'no_such'"):
        config.but(task="no_such")


@pytest.mark.parametrize("attention", ["plain", "folded"])
def test_how_blocks_are_computed(place: Path, attention: str):
    config = configured(place, place / "unused", {"attention": attention, "gradient_checkpointing": True})
    module, _ = module_and_data(config)
    assert module.segmenter.backbone.attention == attention
    assert module.segmenter.backbone.gradient_checkpointing
    assert not module.segmenter.backbone.compiled
    assert module_and_data(configured(place, place / "unused", {}))[0].segmenter.backbone.attention == "blocked"


def test_pictures_above_the_limit_are_refused(place: Path):
    with pytest.raises(DataError, match="max-pixels"):
        train(configured(place, place / "unused", {"max_pixels": 1000}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(place: Path):
    with pytest.raises(ConfigError, match="accelerator: PyTorch finds no GPU"):
        train(configured(place, place / "unused", {"accelerator": "gpu"}))


@pytest.mark.parametrize(("monitor", "best"), [("iou", max), ("mae", min), ("loss", min)])
def test_the_best_adapter_is_the_best_by_the_monitor(run: Runner, monitor: str, best: Callable):
    done = run({"monitor": monitor, "epochs": 4, "val_fraction": 0.5, "lr": 0.02, "warmup": 0.0})
    values = [float(row[f"val_{monitor}"]) for row in done.rows]
    assert done.description["scores"][monitor] == pytest.approx(best(values))
    assert done.description["epoch"] == 1 + values.index(best(values))


class AskedFor(Exception):
    """What a trainer or logger was made with."""

    def __init__(self, *_: Any, **settings: Any) -> None:
        self.settings = settings


def test_where_a_run_computes(place: Path, monkeypatch: pytest.MonkeyPatch):
    def trainer(**settings: Any) -> None:
        raise AskedFor(**settings)

    monkeypatch.setattr(lightning, "Trainer", trainer)
    with pytest.raises(AskedFor) as asked:
        train(configured(place, place / "unused", {"devices": 3, "nodes": 2, "strategy": "ddp_spawn"}))
    settings = asked.value.settings
    assert (settings["devices"], settings["num_nodes"], settings["strategy"]) == (3, 2, "ddp_spawn")


def test_what_weights_and_biases_is_told(place: Path, monkeypatch: pytest.MonkeyPatch):
    def logger(**settings: Any) -> None:
        raise AskedFor(**settings)

    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger", logger)
    for values, expected in (
        ({"project": "polyps", "run_name": "first"}, ("polyps", "first")),
        ({}, ("sam-adapter", "unused")),
    ):
        with pytest.raises(AskedFor) as asked:
            train(configured(place, place / "unused", {"logger": "wandb", **values}))
        assert (asked.value.settings["project"], asked.value.settings["name"]) == expected
