"""The semantic task: which classes are asked for and how, and the scores of class maps against hand-made ones."""

import numpy as np
import pytest
import torch

from sam_adapter.annotations.reading.classes import Classes
from sam_adapter.batch import VOID, Annotation, Batch, Sample
from sam_adapter.config.choices import PromptKind
from sam_adapter.config.options import PromptOptions
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks import class_map as class_maps
from sam_adapter.tasks.class_map import class_map, whole_class_map
from sam_adapter.tasks.metrics import score
from sam_adapter.tasks.metrics.classes import ClassMetrics
from sam_adapter.tasks.pixels import bands
from sam_adapter.tasks.semantic import MOST_ASKED, SemanticTask

NAMES = ("cat", "dog", "cow")


def task(kind: PromptKind = "mixed", names: tuple[str, ...] = NAMES, **options) -> SemanticTask:
    return SemanticTask.from_options(PromptOptions(prompt=kind, **options), Classes(names=names))


def annotation() -> Annotation:
    """A cat, a cow and void; no dog."""
    labels = torch.zeros(20, 30, dtype=torch.uint8)
    labels[2:8, 3:9] = 1
    labels[10:16, 12:28] = 3
    labels[:, :2] = VOID
    return Annotation.of(labels)


def test_every_class_is_scored_without_a_prompt_and_those_that_are_there_with_one():
    queries = task().evaluation_queries(annotation(), np.random.default_rng(0))
    asked = [(query.label, query.prompt.kind, query.learned) for query in queries]
    assert asked == [
        (1, "box", None),
        (1, "points", None),
        (1, "none", 0),
        (2, "none", 1),
        (3, "box", None),
        (3, "points", None),
        (3, "none", 2),
    ]
    box = queries[4].prompt.box
    assert box is not None
    assert box.tolist() == [12, 10, 28, 16]
    told = task(with_class="always").evaluation_queries(annotation(), np.random.default_rng(0))
    assert [query.learned for query in told] == [0, 0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize(("with_class", "shares"), [("auto", (0.3, 0.7)), ("always", (1, 1)), ("never", (0, 0))])
def test_training_tells_the_class_of_a_prompt_as_often_as_it_should(with_class: str, shares: tuple[float, float]):
    rng, asking = np.random.default_rng(1), task(with_class=with_class)
    queries = [query for _ in range(40) for query in asking.training_queries(annotation(), rng)]
    prompted = [query for query in queries if query.prompt.kind != "none"]
    assert {query.label for query in prompted} == {1, 3}
    share = sum(query.learned is not None for query in prompted) / len(prompted)
    assert shares[0] <= share <= shares[1]
    assert all(query.learned == query.label - 1 for query in queries if query.learned is not None)
    alone = [query for query in queries if query.prompt.kind == "none"]
    assert all(query.learned is not None for query in alone)
    assert {query.label for query in alone} == {1, 2, 3}  # the absent dog too, as an empty mask


def test_no_learned_prompt_is_trained_where_none_is_asked():
    for _ in range(5):
        queries = task("box").training_queries(annotation(), np.random.default_rng(2))
        assert {query.prompt.kind for query in queries} == {"box"}


def test_a_step_asks_for_no_more_classes_than_memory_allows():
    names = tuple(f"class {at}" for at in range(60))
    labels = torch.arange(1, 31, dtype=torch.uint8).repeat_interleave(20).reshape(20, 30)
    queries = task("none", names).training_queries(Annotation.of(labels), np.random.default_rng(0))
    assert len(queries) == 2 * MOST_ASKED
    assert sum(query.label <= 30 for query in queries) == MOST_ASKED


def logits_of(target: torch.Tensor, sure: float = 20.0) -> torch.Tensor:
    return (target.float() * 2 - 1) * sure


def batch_of(given: Annotation, asking: SemanticTask, index: int = 0) -> Batch:
    size = (given.labels.shape[0], given.labels.shape[1])
    return Batch.collate(
        [Sample(index, "x", None, given, asking.evaluation_queries(given, np.random.default_rng(0)), size)]
    )


def metrics_of(answers: torch.Tensor, given: Annotation, *, background: bool = True) -> dict[str, float]:
    """Scores of answers ``(3, 32, 32)`` to the three learned prompts."""
    batch = batch_of(given, task("none"))
    metrics = ClassMetrics(names=NAMES, has_background=background)
    assert len(batch.queries) == 3
    metrics.collect_whole(batch, answers, Preprocessing(image_size=32))
    for query in batch.queries:  # single answers are tested elsewhere
        metrics.update(0, torch.ones(7, dtype=torch.float64), kind="none", label=query.label)
    return metrics.compute()


def test_scores_over_all_pixels_are_those_counted_by_hand():
    labels = torch.zeros(32, 32, dtype=torch.uint8)
    labels[:8, :16] = 1  # 128 pixels of cat
    labels[16:, :] = 2  # 512 of dog
    labels[:8, 16:20] = VOID
    cat, dog, cow = torch.zeros(3, 32, 32)
    cat[:8, :18] = 1  # 16 of void, which count nowhere
    dog[24:, :] = 1  # half of the dog; the rest is left to the background
    cow[16:18, :] = 1  # 64 pixels of dog taken for a cow
    found = metrics_of(torch.stack([logits_of(one) for one in (cat, dog, cow)]), Annotation.of(labels))
    counted = 32 * 32 - 32
    assert found["iou_none[cat]"] == 1
    assert found["iou_none[dog]"] == pytest.approx(256 / 512)
    assert found["dice_none[dog]"] == pytest.approx(2 * 256 / (512 + 256))
    assert found["iou_none[cow]"] == 0  # answered but not there: it counts
    assert found["miou_none"] == pytest.approx((1 + 0.5 + 0) / 3)
    ground = 8 * 12 + 8 * 32
    assert found["miou_with_background_none"] == pytest.approx((1.5 + ground / (ground + 512 - 256 - 64)) / 4)
    assert found["pixel_accuracy"] == pytest.approx((128 + 256 + ground) / counted)
    assert "miou_low" not in found  # one picture says nothing of others


def test_a_class_that_is_neither_there_nor_answered_counts_nowhere():
    labels = torch.ones(32, 32, dtype=torch.uint8)
    nothing = logits_of(torch.zeros(32, 32))
    found = metrics_of(torch.stack([logits_of(torch.ones(32, 32)), nothing, nothing]), Annotation.of(labels))
    assert found["miou"] == 1
    assert "iou_none[dog]" not in found


def test_without_background_every_pixel_gets_the_best_class():
    labels = torch.ones(32, 32, dtype=torch.uint8)
    labels[:, 16:] = 2
    left = logits_of(labels == 1, sure=3) - 10  # no class is probable, but one is more so than the others
    right = logits_of(labels == 2, sure=3) - 10
    answers = torch.stack([left, right, torch.full((32, 32), -20.0)])
    assert metrics_of(answers, Annotation.of(labels), background=False)["miou"] == 1
    assert metrics_of(answers, Annotation.of(labels), background=True)["miou"] == 0


def test_class_maps_of_bands_are_those_of_whole_pictures(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(3, 16, 16))).float()
    preprocessing, size = Preprocessing(image_size=64), (50, 70)
    whole = class_map(logits, [1, 3, 2], size, preprocessing, threshold=0.5)
    assert set(whole.unique().tolist()) == {0, 1, 2, 3}
    monkeypatch.setattr("sam_adapter.tasks.pixels.BAND_PIXELS", 70 * 3 * 7)
    assert len(list(bands(size, answers=3))) == 8
    assert torch.equal(class_maps.whole_class_map(logits, [1, 3, 2], size, preprocessing, threshold=0.5), whole)
    highest = preprocessing.to_original_size(logits, size).max(0)
    wanted = torch.tensor([1, 3, 2], dtype=torch.uint8)[highest.indices]
    wanted[highest.values.sigmoid() <= 0.5] = 0
    assert torch.equal(whole, wanted)


def test_no_answer_is_background():
    found = whole_class_map(torch.zeros(0, 8, 8), [], (5, 6), Preprocessing(image_size=32), threshold=0.5)
    assert not found.any()
    assert found.shape == (5, 6)


def test_scores_of_several_images_have_an_interval():
    metrics = ClassMetrics(names=NAMES)
    given = Annotation.of(torch.ones(32, 32, dtype=torch.uint8))
    for index, answered in enumerate((1, 1, 0)):
        answers = torch.stack([logits_of(torch.full((32, 32), answered)), *logits_of(torch.zeros(2, 32, 32))])
        batch = batch_of(given, task("none"), index)
        metrics.collect_whole(batch, answers, Preprocessing(image_size=32))
        for query in batch.queries:
            metrics.update(index, torch.ones(7, dtype=torch.float64), kind="none", label=query.label)
    found = metrics.compute()
    assert found["pixel_accuracy"] == pytest.approx(2 / 3)
    assert found["pixel_accuracy_low"] == 0
    assert found["pixel_accuracy_high"] == 1


def test_an_image_that_two_processes_saw_counts_once():
    labels = torch.ones(32, 32, dtype=torch.uint8)
    given = Annotation.of(labels)
    batch = batch_of(given, task("none"))
    metrics = ClassMetrics(names=NAMES)
    answers = torch.stack([logits_of(torch.ones(32, 32)), *logits_of(torch.zeros(2, 32, 32))])
    for _ in range(2):
        metrics.collect_whole(batch, answers, Preprocessing(image_size=32))
    assert np.sum(metrics.details()["confusion"]["none"]) == 32 * 32


def test_the_scores_of_an_image_are_of_the_classes_that_it_has():
    """An absent class has an IoU of 0 or 1, which says nothing of how good masks are."""
    metrics = ClassMetrics(names=NAMES)
    found = torch.zeros(4, 4)
    found[:2] = 1
    for index, labels in ((0, (1,)), (1, ())):
        for label in (1, 2, 3):
            target = found if label in labels else torch.zeros(4, 4)
            wrong = found if label == 2 else torch.zeros(4, 4)
            answer = target if label in labels else wrong
            metrics.update(index, score(answer, target), kind="none", label=label)
    scores = metrics.compute()
    assert metrics.per_image()[0]["iou"] == pytest.approx(1)
    assert (scores["images"], scores["empty"]) == (2, 1)
    assert scores["empty_correct"] == pytest.approx(2 / 3)  # of the image without any class
    assert scores["absent_correct"] == pytest.approx(1 / 2)  # of the classes that the other one has not
