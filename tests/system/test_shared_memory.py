"""Reading processes and the shared memory through which they hand batches over."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam_adapter.batch import EncodedImage, Prompt, Query
from sam_adapter.system import shared_memory
from sam_adapter.system.shared_memory import bytes_of, workers_that_fit


def disk(free: int):
    return type("Usage", (), {"free": free})()


def test_as_many_processes_as_have_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(shared_memory, "SHARED", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk(64_000_000))
    assert workers_that_fit(4, 1_000_000) == 4
    assert not caplog.text
    assert workers_that_fit(4, 10_000_000) == 1  # 15 MB with the margin: two in use, two prefetched
    assert "64 MB free, but --workers 4 would need 150 MB; 1 are used" in caplog.text
    assert workers_that_fit(4, 10_000_000, processes=2) == 0
    assert workers_that_fit(4, 10**12) == 0
    monkeypatch.setattr(shared_memory, "SHARED", tmp_path / "nowhere")  # no Linux
    assert workers_that_fit(4, 10**12) == 4


def test_bytes_of_all_tensors_of_a_batch():
    query = Query(prompt=Prompt(box=torch.zeros(4)))
    encoded = EncodedImage({"a": torch.zeros(5), "b": torch.zeros(2, dtype=torch.uint8)})
    assert bytes_of(([query, torch.zeros(3, 2)], "name", None, 7, encoded)) == 16 + 24 + 20 + 2


def test_prediction_does_not_wait_for_ever_with_dockers_shared_memory(sam_folder: str, tmp_path: Path):
    """A tmpfs of 8 MB over /dev/shm, in a mount space of its own, for batches of 3 MB."""
    if sys.platform != "linux" or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs a mount space of its own")
    (tmp_path / "in").mkdir()
    for index in range(16):
        Image.fromarray(np.full((64, 64, 3), index, np.uint8)).save(tmp_path / f"in/{index}.png")
    command = f"{sys.executable} -m sam_adapter predict --model {sam_folder} --image-size 512 --accelerator cpu"
    command += f" --workers 4 --input {tmp_path}/in --output {tmp_path}/out --save masks"
    script = f"mount -t tmpfs -o size=8m tmpfs /dev/shm && exec {command}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "but --workers 4 would need" in done.stderr
    assert len(list((tmp_path / "out/masks").iterdir())) == 16
