"""What a data set hands out is what its files hold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import write_pairs
from sam_adapter.annotations.folders import list_pairs
from sam_adapter.data.dataset import PairDataset
from sam_adapter.errors import DataError
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.prompts import PromptMaker


def test_a_pair_is_what_the_files_hold_and_is_refused_if_its_sizes_differ(tmp_path: Path):
    pairs = write_pairs(tmp_path, 2)
    records = list_pairs(pairs / "images", pairs / "masks", "{stem}").records
    dataset = PairDataset(records, Preprocessing(image_size=64), PromptMaker(kind="none"))
    image, mask, valid = dataset.pair(1)
    assert (image == np.asarray(Image.open(records[1].image))).all()
    assert (mask == (np.asarray(Image.open(records[1].mask)) > 0)).all()
    assert valid is None
    Image.open(records[0].mask).save(records[1].mask)
    with pytest.raises(DataError, match="masks must match"):
        dataset.pair(1)
