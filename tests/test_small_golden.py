"""The numbers of a small SAM with adapters are those that tools/make_golden.py wrote.

They were written where all tests against the two existing implementations and the families' own predictors passed.
Processors and versions of PyTorch differ by the order of sums, in float32 by about 1e-6 of a tensor's size, so a
difference of 2e-5 is a fault. A change that means to change numbers remakes the files and says so.
"""

import pytest
import torch
from safetensors.torch import load_file

from golden_cases import CASES, FOLDER, Case, outcome

LIMIT = 2e-5


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("case", "attention"),
    [*((case, "plain") for case in CASES), (CASES[0], "blocked"), (CASES[3], "folded")],
    ids=lambda value: getattr(value, "name", value),
)
def test_numbers_are_those_written(case: Case, attention: str):
    found, wanted = outcome(case, attention), load_file(FOLDER / f"{case.name}.safetensors")
    assert found.keys() == wanted.keys()
    far = {}
    for name, right in wanted.items():
        assert found[name].shape == right.shape, name
        assert torch.isfinite(found[name]).all(), name
        difference = ((found[name] - right).norm() / right.norm()).item()
        if difference > LIMIT:
            far[name] = difference
    assert not far


def test_the_files_are_small_and_their_numbers_mean_something():
    files = list(FOLDER.glob("*.safetensors"))
    assert {file.stem for file in files} == {case.name for case in CASES}
    assert sum(file.stat().st_size for file in files) < 1_000_000
    for file in files:
        tensors = load_file(file)
        logits = tensors["low_res_logits"]
        assert logits.abs().max() < 100
        assert (logits > 0).float().mean() > 0.02
        assert (logits < 0).float().mean() > 0.02
        for one in range(8):  # every prompt has an answer of its own
            for other in range(one):
                assert (logits[one] - logits[other]).abs().max() > 0.01
        assert (tensors["losses"][0] - tensors["losses"][-1]).abs().min() > 1e-4
