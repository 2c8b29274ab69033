"""Every recipe of a paper runs end to end, by the command lines in its own comment, on small copies of its sets."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import known_copies
from conftest import RANDOM_MODELS
from sam_adapter import EvaluateConfig, TrainConfig, evaluate, train
from sam_adapter.backbones.families import ALIASES
from sam_adapter.check.doctor import examine
from sam_adapter.config.arguments import parse
from sam_adapter.config.commands import CheckConfig
from sam_adapter.config.known_sets import KNOWN_SETS, PAPERS
from sam_adapter.evaluation.published import published_scores
from sam_adapter.evaluation.text import scores_text
from training_runs import rows

ROOT = Path(__file__).parents[1]
TABLES = {"camouflage": known_copies.camouflage, "shadow": known_copies.shadows, "polyps": known_copies.polyps}
METHODS: dict[str, str] = dict(zip(("sam", "sam2", "sam3"), PAPERS, strict=True))
"""Family of a recipe to the method that is published with it."""
RECIPES = [f"{table}_{family}" for table in TABLES for family in METHODS]
MEMORY = ["memory_8gb", "memory_16gb", "memory_24gb"]
FAST = {"epochs": 1, "workers": 0, "accelerator": "cpu", "precision": "32"}


def comment(recipe: str) -> str:
    lines = (ROOT / f"recipes/{recipe}.yaml").read_text(encoding="utf-8").splitlines()
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines if line.startswith("#"))


def commands(recipe: str) -> dict[str, list[str]]:
    """Command to the arguments that the comment gives it."""
    joined = comment(recipe).replace("\\\n", " ")
    lines = [shlex.split(line) for line in joined.splitlines() if line.startswith("    sam-adapter ")]
    return {line[1]: line[2:] for line in lines}


def test_sets(recipe: str) -> list[str]:
    """The sets that the comment scores."""
    arguments = commands(recipe)["evaluate"]
    more = re.search(r"and the last one for (.+) too\.", comment(recipe))
    return [arguments[arguments.index("--known") + 1], *(more[1].split(" and ") if more else [])]


test_sets.__test__ = False  # type: ignore[attr-defined]


def test_every_recipe_is_known_here():
    files = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
    assert files == {*RECIPES, *MEMORY, "second"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("DATA")
    for write in TABLES.values():
        write(root)
    return root


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_from_check_to_the_published_scores(
    recipe: str, data: Path, family_folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    family = recipe.partition("_")[2]
    if family not in RANDOM_MODELS:
        pytest.skip(f"the family {family} is not known yet")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sam_adapter.training.run.draw_curves", lambda *_, **__: None)  # a third of the time
    asked = {name: parse(name, arguments) for name, arguments in commands(recipe).items()}
    check, run, score = asked["check"], asked["train"], asked["evaluate"]
    assert isinstance(check, CheckConfig)
    assert isinstance(run, TrainConfig)
    assert isinstance(score, EvaluateConfig)
    assert run.model in ALIASES
    found = examine(check.but(root=data))
    assert [one.kind for one in found.faults] == []
    assert len(found.records) == len(found.looks) >= 3

    run = run.but(root=data, model=family_folders[family], output=tmp_path / run.output, **FAST)
    result = train(run)
    first, last = rows(run.output)
    monitored = f"val_{run.monitored}"
    assert first[monitored] != last[monitored] != ""
    for name in test_sets(recipe):
        report = recipe.endswith("_sam")
        config = score.but(known=name, root=data, adapter=result.adapter, output=tmp_path / name, report=report)
        scores = evaluate(config.but(workers=0, accelerator="cpu", precision="32"))
        require_published(scores, name, METHODS[family])
        assert json.loads((tmp_path / name / "metrics.json").read_text())["published"] == scores["published"]
        if report:
            page = (tmp_path / name / "report.html").read_text(encoding="utf-8")
            assert "<h2>Published scores</h2>" in page
            assert page.count(", published</th>") == len(PAPERS)
            assert f" from {name}, prompt: " in page
    assert scores["iou"] >= 0


def require_published(scores: dict, name: str, method: str) -> None:
    """The published row stands in what is written and printed, for scores that the run has too."""
    expected = KNOWN_SETS[name].published
    assert scores["published"]["scores"] == expected
    assert scores["published"]["recomputed"] is False
    assert scores.keys() >= expected[method].keys()
    text = scores_text(scores, "adapter")
    assert f"published on the {KNOWN_SETS[name].count} pictures of {name}, not recomputed" in text
    line = next(line for line in text.splitlines() if line.startswith(f"{method}, published"))
    assert [float(cell) for cell in line.partition("published")[2].split()] == [*expected[method].values()]
    own = next(line for line in text.splitlines() if line.startswith("adapter, no prompt"))
    shown = [float(cell) for cell in own.partition("prompt")[2].split()]
    assert shown == pytest.approx([scores[score] for score in expected[method]], abs=6e-4)
    assert "'--metrics " not in text


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_comment_says_what_is_published(recipe: str):
    family = recipe.partition("_")[2]
    text = comment(recipe)
    for name in test_sets(recipe):
        numbers = re.search(rf"^    {name} +(.+)$", text, re.MULTILINE)
        assert numbers is not None
        assert [float(one) for one in numbers[1].split(" / ")] == [
            *KNOWN_SETS[name].published[METHODS[family]].values()
        ]
    known = yaml.safe_load((ROOT / f"recipes/{recipe}.yaml").read_text())["known"]
    assert known in commands(recipe)["check"]
    lines = (ROOT / "docs/recipes.md").read_text(encoding="utf-8").splitlines()
    row = next(line.split(" | ") for line in lines if line.startswith(f"| `{recipe}` | "))
    shown = [[float(one) for one in scores.split(" / ")] for scores in row[3].split("; ")]
    assert shown == [[*KNOWN_SETS[name].published[METHODS[family]].values()] for name in test_sets(recipe)]
    assert known in row[2] or row[2] == "the same"


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_papers_protocol(recipe: str):
    """The settings that all nine have, and those of each table."""
    run = TrainConfig.from_yaml(ROOT / f"recipes/{recipe}.yaml", root="r", output="o")
    assert (run.preset, run.resize, run.prompt, run.augment) == ("paper", "squash", "none", "flip")
    assert (run.lr, run.batch_size, run.warmup, run.ema) == (2e-4, 2, 0, 0)
    settings = {
        "camouflage": ("bce+iou", "s_measure"),
        "shadow": ("balanced_bce", "mean_ber"),
        "polyps": ("bce+iou", "dice"),
    }
    assert (run.loss, run.monitored) == settings[recipe.partition("_")[0]]
    asked = dict(pairwise(commands(recipe)["evaluate"]))
    assert asked["--prompt"] == "none"
    assert asked.get("--metrics", "") == run.metrics


@pytest.mark.parametrize("memory", MEMORY)
def test_files_for_less_memory_go_behind_a_recipe(memory: str, monkeypatch: pytest.MonkeyPatch):
    """Each changes how a step is taken and not what it learns from; all else is the recipe's."""
    monkeypatch.chdir(ROOT)
    run = parse("train", commands(memory)["train"])
    plain = parse("train", commands("camouflage_sam")["train"])
    assert isinstance(run, TrainConfig)
    assert isinstance(plain, TrainConfig)
    assert run.batch_size * run.accumulate == plain.batch_size
    values = yaml.safe_load((ROOT / f"recipes/{memory}.yaml").read_text())
    assert run == plain.but(**values, output=run.output)
    assert set(values) <= {"batch_size", "accumulate", "precision", "gradient_checkpointing"}


def test_scores_of_other_data_have_no_published_ones(data: Path, sam_folder: str, tmp_path: Path):
    chameleon = data / "CHAMELEON"
    plain = {"images": chameleon / "Imgs", "masks": chameleon / "GT"}
    options = {"model": sam_folder, "workers": 0, "accelerator": "cpu", "precision": "32", "prompt": "box"}
    ours = evaluate(EvaluateConfig(**plain, **options, output=tmp_path / "a"))
    known = evaluate(EvaluateConfig(known="chameleon", root=data, **options, output=tmp_path / "b"))
    assert "published" not in ours
    assert {**known, "published": None} == {**ours, "published": None}
    assert "published" not in scores_text(ours, "frozen")
    text = scores_text(known, "frozen")
    assert "'--prompt none' asks so, not box." in text
    assert "'--metrics s_measure,e_measure,weighted_f,stretched_mae' adds them." in text
    assert "SAM-Adapter" not in text  # no score of theirs is one of the run's


def test_answers_without_a_prompt_stand_beside_the_published_ones(data: Path, sam_folder: str, tmp_path: Path):
    options = {"model": sam_folder, "workers": 0, "accelerator": "cpu", "precision": "32", "metrics": "mean_ber"}
    scores = evaluate(EvaluateConfig(known="istd_test", root=data, prompt="mixed", **options, output=tmp_path))
    lines = scores_text(scores, "frozen").splitlines()
    row = next(line for line in lines if line.startswith("frozen, no prompt"))
    assert float(row.split()[-1]) == pytest.approx(scores["mean_ber_none"], abs=6e-4)
    assert scores["mean_ber_none"] != pytest.approx(scores["mean_ber"], abs=6e-4)
    assert lines[-1].startswith("The papers' BER is a mean over pictures")


def test_published_scores_are_of_one_mask_a_picture_and_of_sets_to_test_on():
    assert published_scores("camo_test", "binary")["pictures"] == 250
    assert published_scores("istd_test", "binary")["note"].startswith("The papers' BER is a mean over pictures")
    assert published_scores("camo_test", "semantic") == {}
    assert published_scores("camouflage_train", "binary") == {}
    assert published_scores(None, "binary") == {}
