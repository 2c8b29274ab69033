"""Reports say what was scored, in one file that needs nothing else."""

import base64
import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import write_pairs
from sam_adapter import EvaluateConfig, TrainConfig, cli, evaluate, train
from sam_adapter.config.registry import METRICS
from sam_adapter.errors import ConfigError
from sam_adapter.evaluation.evaluate import run_names
from sam_adapter.evaluation.scoring import telling_images
from sam_adapter.report.charts import Axis, Series, line_chart
from sam_adapter.report.figures import Picture
from sam_adapter.report.page import Section, page, table
from sam_adapter.tasks.metrics import COLUMNS, OverlapMetrics, ThresholdCurve, score
from sam_adapter.training.curves import draw_curves


class Seen(HTMLParser):
    """What a page refers to, its pictures without words, and elements left open."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.silent: list[str] = []
        self.open: list[str] = []
        self.tables: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag == "img" and not values.get("alt"):
            self.silent.append(tag)
        if tag == "table":
            self.tables.append(values.get("class") or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_self_contained(text: str) -> Seen:
    """Nothing comes from outside the file, every picture has words, every element is closed."""
    seen = Seen(text)
    assert seen.references
    assert all(reference.startswith("data:") for reference in seen.references)
    assert not re.search(r"https?://|@import|url\(", text)
    assert not seen.silent
    assert not seen.open
    return seen


def test_threshold_curve_equals_counting_at_each_threshold():
    rng = np.random.default_rng(0)
    curve, pairs = ThresholdCurve(), []
    for index in range(5):
        probabilities = rng.random((9, 7 + index)).astype(np.float32)
        probabilities[0, :5] = (0, 1, 0.5, 1 / 256, 255 / 256)  # on thresholds, where "above" must be strict
        target = rng.random(probabilities.shape) < (0.0 if index == 3 else 0.4)
        pairs.append((probabilities, target))
        curve.update(torch.from_numpy(probabilities), torch.from_numpy(target))
    for at, threshold in enumerate(curve.thresholds.tolist()):
        masks = [probabilities > threshold for probabilities, _ in pairs]
        tp = sum((mask & target).sum() for mask, (_, target) in zip(masks, pairs, strict=True))
        marked, truth = sum(mask.sum() for mask in masks), sum(target.sum() for _, target in pairs)
        ious = [
            score(torch.from_numpy(probabilities), torch.from_numpy(target), threshold)[COLUMNS.index("iou")].item()
            for probabilities, target in pairs
            if target.any()
        ]
        assert curve.precision[at] == pytest.approx(tp / marked)
        assert curve.recall[at] == pytest.approx(tp / truth)
        assert curve.dice[at] == pytest.approx(2 * tp / (marked + truth))
        assert curve.iou[at] == pytest.approx(np.mean(ious))
    assert curve.dice[curve.best] == curve.dice.max()
    assert curve.iou[curve.best_iou] == curve.iou.max()


def test_threshold_curve_leaves_void_out():
    rng = np.random.default_rng(1)
    probabilities, target = torch.from_numpy(rng.random((6, 8))), torch.from_numpy(rng.random((6, 8)) < 0.4)
    valid = torch.ones(6, 8, dtype=torch.bool)
    valid[:, 5:] = False
    curve, cut = ThresholdCurve(), ThresholdCurve()
    curve.update(probabilities, target, valid)
    cut.update(probabilities[:, :5], target[:, :5])
    for name in ("precision", "recall", "dice", "iou"):
        assert torch.equal(getattr(curve, name), getattr(cut, name))
    with pytest.raises(ValueError, match=r"got \(6, 8\) and \(8,\)"):
        curve.update(probabilities, target[0])


def test_the_threshold_of_best_dice_may_not_be_that_of_best_iou():
    curve = ThresholdCurve()
    large, small = torch.full((20, 20), 0.9), torch.zeros(20, 20)
    small[0, :4] = 0.6
    small[0, 4:6] = 0.3
    curve.update(large, torch.ones(20, 20))  # found at any threshold
    large = large.clone()
    large[10:] = 0.3
    curve.update(large, torch.ones(20, 20))  # its pixels are found at a low threshold
    curve.update(small, small > 0.5)  # few pixels, and a high threshold is better
    curve.update(small, small > 0.5)
    curve.update(small, small > 0.5)
    assert curve.thresholds[curve.best] < 0.3 <= curve.thresholds[curve.best_iou]
    assert curve.iou[curve.best] < curve.iou[curve.best_iou]


def test_threshold_curve_without_any_foreground():
    curve = ThresholdCurve()
    curve.update(torch.zeros(4, 4), torch.zeros(4, 4))
    for values in (curve.precision, curve.recall, curve.dice, curve.iou):
        assert values.tolist() == [1.0] * 256


def test_pictures_are_embedded_small_and_whole():
    mask = np.zeros((500, 1000), np.uint8)
    mask[:, :400] = 255
    kind, data = Picture(mask, "", "mask", exact=True).data_uri().split(",")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))
    assert kind == "data:image/png;base64"
    assert shown.shape == (160, 320)
    assert (shown[:, :127] == 255).all()
    assert (shown[:, 129:] == 0).all()
    assert Picture(np.zeros((4, 4, 3), np.uint8), "", "photo").data_uri().startswith("data:image/jpeg;base64,")


def test_telling_images_are_worst_median_and_best():
    metrics = OverlapMetrics()
    order = [4, 0, 3, 7, 1, 6, 2, 5, 8]
    for index, size in enumerate(order):
        probabilities = torch.zeros(1, 10)
        probabilities[0, : size + 1] = 1
        metrics.update(index, score(probabilities, torch.ones(1, 10)), kind="box")
    found = telling_images(metrics, count=2)
    assert [order[index] for index, kind in found.items() if kind == "worst"] == [0, 1]
    assert [order[index] for index, kind in found.items() if kind == "median"] == [3, 4]
    assert [order[index] for index, kind in found.items() if kind == "best"] == [7, 8]
    for index, alarms in ((9, 3), (10, 0), (11, 5)):  # nothing to find
        probabilities = torch.zeros(1, 10)
        probabilities[0, :alarms] = 1
        metrics.update(index, score(probabilities, torch.zeros(1, 10)), kind="none")
    assert telling_images(metrics, count=2) == found | {11: "false alarm", 9: "false alarm"}
    single = OverlapMetrics()
    single.update(0, score(torch.ones(1, 1), torch.ones(1, 1)), kind="box")
    assert telling_images(single) == {0: "worst"}


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 1.77), (1, 20), (0, 0.03), (1, 2), (0, 100)])
def test_axis_ticks_are_few_and_inside(low: float, high: float):
    for whole in (False, True) if high >= 1 else (False,):
        ticks = Axis("x", low, high, whole=whole).ticks()
        assert 2 <= len(ticks) <= 9
        assert min(ticks) >= low - 1e-9
        assert max(ticks) <= high + 1e-9
        assert not whole or all(tick == round(tick) for tick in ticks)


def test_a_page_escapes_what_it_is_given():
    body = table(["a<b", "IoU"], [["<script>", 0.5], ["&", None]], caption='"quoted"', sortable=True)
    chart = line_chart([Series("<x>", [(0, 0), (1, 1)])], title="<t>", x=Axis("<"), y=Axis("&"))
    text = page("<title>", "a & b", [Section("<s>", "<p>", body + chart)])
    seen = check_self_contained(text)
    assert seen.tables == ["sortable"]
    assert text.count("<script>") == 1
    assert "prefers-color-scheme: dark" in text


def test_cells_name_their_column_where_a_narrow_screen_shows_a_list_for_each_row():
    text = table(["model", "IoU <1>", "note"], [["a", 0.5, "x"], ["b", None, "y"]], caption="c")
    assert 'class="stacking"' in text
    assert text.count('data-label="IoU &lt;1&gt;"') == text.count('data-label="note"') == 2
    assert "data-label" not in table(["model", "IoU"], [["a", 0.5]], caption="c", sortable=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> tuple[Path, list[Path]]:
    """Pairs, and two adapters trained on them."""
    folder = tmp_path_factory.mktemp("runs")
    pairs = write_pairs(folder / "pairs", 10)
    adapters = []
    for method in ("sam_adapter", "decoder"):
        settings = TrainConfig(
            images=pairs / "images",
            masks=pairs / "masks",
            model=sam_folder,
            method=method,
            output=folder / method,
            epochs=2,
            lr=3e-3,
            workers=0,
            accelerator="cpu",
        )
        adapters.append(train(settings).adapter)
    return pairs, adapters


@pytest.mark.parametrize("prompt", ["box", "none"])
def test_report_of_several_models(runs, tmp_path: Path, prompt: str, caplog):
    pairs, (adapter, decoder) = runs
    config = EvaluateConfig(
        images=pairs / "images",
        masks=pairs / "masks",
        adapter=adapter,
        compare=(decoder,),
        with_frozen=True,
        report=True,
        prompt=prompt,  # type: ignore[arg-type]
        output=tmp_path,
        workers=0,
        accelerator="cpu",
    )
    result = evaluate(config)
    assert "of an earlier evaluation" not in caplog.text
    (tmp_path / "b").mkdir()
    (tmp_path / "b/report.html").write_text("older")
    alone = evaluate(config.but(adapter=decoder, compare=(), with_frozen=False, report=False, output=tmp_path / "b"))
    assert result["compared"]["decoder"]["iou"] == pytest.approx(alone["iou"])
    assert (tmp_path / "b/report.html").read_text() == "older"
    assert "is of an earlier evaluation" in caplog.text
    text = (tmp_path / "report.html").read_text()
    seen = check_self_contained(text)
    for scores in (result, result["frozen"], result["compared"]["decoder"]):
        assert f' data-value="{scores["iou"]}">' in text
    assert text.count("<img") == 9 * (3 + 3)
    assert [text.count(f"{kind}: img_") for kind in ("worst", "median", "best")] == [3, 3, 3]
    assert "sortable" in seen.tables
    every = text.split('class="sortable"')[1]
    rows = [row for row in csv.DictReader((tmp_path / "per_image.csv").open()) if row["model"] == "sam_adapter"]
    for row in rows:
        cells = "".join(f'<td data-value="{row[name]}">{float(row[name]):.3f}</td>' for name in METRICS)
        assert f'<th scope="row">{row["name"]}</th>{cells}' in every
    assert len(text) < 5e6


def test_adapter_may_be_given_again(tmp_path: Path):
    given = ["--images", "i", "--masks", "m", "--output", "o", "--adapter", "a", "--adapter=b", "--report"]
    config = cli.parse("evaluate", [*given, "--adapter", "c"])
    assert isinstance(config, EvaluateConfig)
    assert (config.adapter, config.compare, config.report) == (Path("a"), (Path("b"), Path("c")), True)
    (tmp_path / "e.yaml").write_text(config.to_yaml())
    assert EvaluateConfig.from_yaml(tmp_path / "e.yaml") == config
    assert cli.parse("evaluate", ["--config", str(tmp_path / "e.yaml")]) == config
    with pytest.raises(ConfigError, match="compare: needs an adapter"):
        config.but(adapter=None, model="m")


def test_names_of_runs_tell_them_apart():
    assert run_names([Path("x/one/adapter"), Path("x/two/adapter"), Path("three")]) == ["one", "two", "three"]
    assert run_names([Path("x/one/adapter"), Path("y/one/adapter")]) == ["x/one/adapter", "y/one/adapter"]
    assert run_names([Path("one"), Path("x/one/adapter")]) == ["one", "x/one/adapter"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["frozen", "b"], ["frozen (2)", "b"]),  # the base's row is called so
        (["otsu", "b"], ["otsu (2)", "b"]),
        (["fill the box", "b"], ["fill the box (2)", "b"]),  # in the report
        (["a", "a", "a"], ["a", "a (2)", "a (3)"]),
        (["frozen", "frozen (2)"], ["frozen (3)", "frozen (2)"]),
        ([".", "b"], [".", "b"]),
    ],
)
def test_no_two_rows_have_one_name(given: list[str], names: list[str]):
    assert run_names([Path(path) for path in given]) == names


def test_an_adapter_that_is_given_twice_is_refused(tmp_path: Path):
    values: dict[str, Any] = {"images": Path("i"), "masks": Path("m"), "output": Path("o")}
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    one, link = tmp_path / "a", tmp_path / "link"
    with pytest.raises(ConfigError, match=r"adapter: expected every folder once, got '.*/a' again\. Leave one"):
        EvaluateConfig(**values, adapter=one, compare=(one,))
    with pytest.raises(ConfigError, match=r"got '.*/link' again, the first time as '.*/a'"):
        EvaluateConfig(**values, adapter=tmp_path / "b", compare=(one, link))
    EvaluateConfig(**values, adapter=one, compare=(tmp_path / "b",))


def test_curves_of_a_run(runs, tmp_path: Path):
    _, (adapter, _) = runs
    picture = Image.open(adapter.parent / "curves.png")
    assert picture.size[0] > picture.size[1] > 300
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())
