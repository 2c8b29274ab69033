"""What is advised when memory runs out, and the dry run."""

import re
from pathlib import Path

import pytest
import torch

from sam_adapter import TrainConfig, cli
from sam_adapter.errors import ConfigError
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from sam_adapter.training.dry_run import dry_run, memory_advised, next_saving
from sam_adapter.training.lightning_module import TrainingModule

CPU = Machine.choose(device="cpu", precision="32")


def run(pairs: Path, model: str, output: Path) -> TrainConfig:
    return TrainConfig(
        images=pairs / "images",
        masks=pairs / "masks",
        model=model,
        output=output,
        batch_size=4,
        accumulate=2,
        prompts_per_image=3,
        val_fraction=0.2,
        workers=0,
        accelerator="cpu",
        precision="32",
    )


def test_every_saving_is_named_once_and_can_be_taken(pairs: Path, sam_folder: str, tmp_path: Path):
    config, machine, named = run(pairs, sam_folder, tmp_path), CPU, []
    for _ in range(10):
        saving = next_saving(config, machine)
        named.append(saving)
        options = dict(re.findall(r"--([a-z-]+)(?: ([\w-]+))?", saving.split(" (")[0]))
        if "image-size" in options:
            break
        # What the advice says is a change that the configuration takes as it is written.
        values = {name.replace("-", "_"): int(value) if value.isdigit() else value for name, value in options.items()}
        config = config.but(**{name: True if value == "" else value for name, value in values.items()})
        machine = Machine.choose(device="cpu", precision=config.precision)
    assert len(set(named)) == len(named) == 6
    assert (config.batch_size, config.accumulate, config.prompts_per_image) == (1, 8, 1)
    assert config.gradient_checkpointing
    assert config.precision == "bf16-mixed"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nMore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
)
def test_running_out_of_memory_is_answered_with_the_next_saving(error: RuntimeError, pairs: Path, tmp_path: Path):
    config = run(pairs, "tiny", tmp_path).but(batch_size=1)
    advice = r"memory of the cpu .* Try next: --gradient-checkpointing"
    with pytest.raises(ConfigError, match=advice), memory_advised(config, CPU):
        raise error


def test_other_errors_pass(pairs: Path, tmp_path: Path):
    with pytest.raises(RuntimeError, match="shapes"), memory_advised(run(pairs, "tiny", tmp_path), CPU):
        raise RuntimeError("shapes differ")


def test_a_dry_run_takes_the_runs_own_step_and_writes_nothing(
    pairs: Path, sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    seen = []
    losses = TrainingModule.losses

    def noted(self: TrainingModule, batch):
        seen.append((len(batch), len(batch.queries)))
        return losses(self, batch)

    monkeypatch.setattr(TrainingModule, "losses", noted)
    config = run(pairs, sam_folder, tmp_path / "run").but(dry_run=True)
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    cli.main(["train", "--config", str(tmp_path / "c.yaml")])
    shown = capsys.readouterr().out
    assert set(seen) == {(4, 12)}
    assert "One step of 4 images took" in shown
    assert "An epoch of 2 steps" in shown
    assert "--batch-size 2 --accumulate 4" in shown
    assert not (tmp_path / "run").exists()


def test_the_epoch_of_a_dry_run_is_its_steps_and_the_validation(pairs: Path, sam_folder: str, tmp_path: Path):
    found = dry_run(run(pairs, sam_folder, tmp_path / "run"))
    assert found.batches == 2
    assert found.peak_bytes > 0
    steps = found.batches * (found.step_seconds + found.load_seconds)
    assert found.epoch_seconds == pytest.approx(steps + found.val_seconds)


def test_a_dry_run_with_kept_embeddings_encodes_once(
    pairs: Path, sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    encoded = []
    encode = SamSegmenter.encode
    monkeypatch.setattr(
        SamSegmenter,
        "encode",
        lambda self, pixels, **options: encoded.append(len(pixels)) or encode(self, pixels, **options),
    )
    config = run(pairs, sam_folder, tmp_path / "run").but(method="decoder", embedding_cache=tmp_path / "cache")
    found = dry_run(config)
    assert encoded == [4, 4, 1]  # warming up, measured, the validation image; steps and validation encode nothing
    assert found.once_seconds > 0
    assert "Encoding the images once" in str(found)
    assert not (tmp_path / "cache").exists()
    assert "Encoding" not in str(dry_run(config.but(embedding_cache=None)))
