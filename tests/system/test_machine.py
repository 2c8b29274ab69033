"""What the program asks of the machine, and how it does without it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sam_adapter
from conftest import random_sam
from sam_adapter import load
from sam_adapter.system.machine import Machine

UNIX_ONLY = ("fcntl", "resource", "grp", "pwd", "termios")

WITHOUT = f"""
import sys
import psutil  # which `transformers` takes; its own modules follow the system that it is on
for name in {UNIX_ONLY}:
    sys.modules[name] = None  # importing it fails
from sam_adapter import cli
cli.main(sys.argv[1:])
"""


def test_the_command_line_does_without_unix_modules(pairs: Path, sam_folder: str, tmp_path: Path):
    def run(*arguments: str) -> None:
        done = subprocess.run([sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    folders = ["--images", str(pairs / "images"), "--masks", str(pairs / "masks")]
    machine = ["--accelerator", "cpu", "--workers", "0"]
    run("train", *folders, *machine, "--model", sam_folder, "--output", str(tmp_path / "run"), "--epochs", "1")
    assert (tmp_path / "run/last.ckpt").is_file()


def test_denormal_numbers_are_flushed_on_cpus():
    small = torch.tensor([1e-30])
    try:
        Machine.choose(device="cpu").prepare_process()
        assert (small * 1e-10).item() == 0
    finally:
        torch.set_flush_denormal(False)
    assert (small * 1e-10).item() > 0


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_every_command_prepares_the_process(
    command: str, pairs: Path, sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class PreparedError(Exception):
        pass

    def prepare(_: Machine) -> None:
        raise PreparedError

    monkeypatch.setattr(Machine, "prepare_process", prepare)
    files = {"images": pairs / "images", "masks": pairs / "masks"} if command != "predict" else {"input": str(pairs)}
    kind = getattr(sam_adapter, f"{command.capitalize()}Config")
    config = kind(**files, model=sam_folder, output=tmp_path / "o", accelerator="cpu", workers=0)
    with pytest.raises(PreparedError):
        getattr(sam_adapter, command)(config)


def test_apples_gpus_are_taken_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    for accelerator, device in (("auto", "mps"), ("gpu", "mps"), ("cpu", "cpu")):
        machine = Machine.choose(accelerator=accelerator)
        assert machine.device.type == device
        assert machine.precision == "32" or device == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    assert Machine.choose(accelerator="auto").device.type == "cuda"


@pytest.mark.parametrize("name", sam_adapter.__all__)
def test_public_names_whatever_was_imported_before(name: str):
    home = sam_adapter._HOMES[name]
    script = (
        f"import importlib; importlib.import_module('sam_adapter.{home}'); from sam_adapter import {name} as one\n"
        f"import types; assert not isinstance(one, types.ModuleType), one\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if home in sam_adapter.__all__:  # the others cannot be mistaken
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert not hasattr(getattr(sam_adapter, name), "__path__")


def test_a_loaded_model_takes_the_attention_of_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    random_sam().save_pretrained(tmp_path)
    segmenter = load(model=str(tmp_path))
    seen = []
    monkeypatch.setattr(
        "sam_adapter.backbones.sam.block_runner",
        lambda attention, **_: seen.append(attention) or (lambda layer, hidden_states: hidden_states),
    )
    segmenter.encode(torch.zeros(1, 3, 64, 64))
    segmenter.suited_to(Machine.choose(device="cpu", attention="plain")).encode(torch.zeros(1, 3, 64, 64))
    assert seen == ["blocked", "plain"]
