"""What an instance task asks about a picture in training and for scores."""

import numpy as np
import pytest
import torch

from object_scenes import discs
from sam_adapter.annotations.reading.classes import Classes
from sam_adapter.batch import Annotation, Batch, Query, Sample
from sam_adapter.config.labels import ALL_OBJECTS, CORES, VOID, objects_of_class
from sam_adapter.config.options import PromptOptions
from sam_adapter.tasks.instance import InstanceTask
from sam_adapter.tasks.prompts import box_from_mask, innermost_point
from sam_adapter.tasks.splitting import core_map


def annotation_of(labels: np.ndarray, classes: dict[int, int] | None = None) -> Annotation:
    kinds = np.zeros(labels.shape, np.uint8)
    for number, label in (classes or {}).items():
        kinds[labels == number] = label
    own = {"class_labels": torch.from_numpy(kinds), "object_classes": classes} if classes else {}
    return Annotation.of(torch.from_numpy(labels), cores=torch.from_numpy(core_map(labels)), **own)


def task(**options) -> InstanceTask:
    return InstanceTask.from_options(PromptOptions(**{"prompt": "mixed", **options}))


@pytest.fixture
def labels() -> np.ndarray:
    return discs(np.random.default_rng(5))


def numbers_of(labels: np.ndarray) -> list[int]:
    return [number for number in np.unique(labels).tolist() if number not in (0, VOID)]


def test_every_object_is_scored_with_its_own_box_and_innermost_point(labels):
    queries = task().evaluation_queries(annotation_of(labels), np.random.default_rng(0))
    numbers = numbers_of(labels)
    for kind in ("box", "points"):
        own = [query for query in queries if query.prompt.kind == kind]
        assert [query.label for query in own] == numbers
    for query in queries:
        mask = labels == query.label
        if query.prompt.box is not None:
            assert np.array_equal(query.prompt.box.numpy(), box_from_mask(mask))
        elif query.prompt.points is not None:
            assert np.array_equal(query.prompt.points.numpy(), innermost_point(mask))
    assert [(query.label, query.learned) for query in queries[-2:]] == [(ALL_OBJECTS, 0), (CORES, 1)]


def test_boxes_are_enlarged_within_the_picture_not_within_the_part_around_the_object():
    labels = np.zeros((60, 80), np.int32)
    labels[10:50, 15:65] = 1
    (query,) = task(prompt="box", box_scale=1.5).evaluation_queries(annotation_of(labels), np.random.default_rng(0))
    assert query.prompt.box is not None
    assert query.prompt.box.tolist() == box_from_mask(labels == 1, scale=1.5).tolist() == [2.5, 0, 77.5, 59]


def test_negative_points_lie_near_the_object_and_not_in_void():
    labels = np.zeros((64, 64), np.int32)
    labels[20:30, 20:30] = 1
    labels[30:, :] = VOID
    asked = task(prompt="points", positive_points=3, negative_points=20)
    (query,) = asked.training_queries(annotation_of(labels), np.random.default_rng(1))
    assert query.prompt.points is not None
    assert query.prompt.point_labels is not None
    columns, rows = query.prompt.points.long().T
    inside = query.prompt.point_labels == 1
    assert (labels[rows[inside], columns[inside]] == 1).all()
    assert (labels[rows[~inside], columns[~inside]] == 0).all()
    assert len(rows) == 23


def test_the_loss_is_taken_around_the_object_and_of_maps_everywhere():
    labels = np.zeros((60, 100), np.int32)
    labels[20:24, 30:36] = 1  # 8 pixels on each side
    labels[2:52, 60:80] = 2  # half of 50 pixels, as far as the picture reaches
    queries = task().training_queries(annotation_of(labels), np.random.default_rng(0))
    regions = {query.label: query.region for query in queries}
    assert regions == {1: (12, 22, 20, 22), 2: (0, 35, 60, 65), ALL_OBJECTS: None, CORES: None}
    queries = task().evaluation_queries(annotation_of(labels), np.random.default_rng(0))
    assert {query.label: query.region for query in queries} == regions  # the validation loss is the same one


def test_training_draws_objects_of_all_sizes():
    labels = np.zeros((200, 200), np.int32)
    number = 0
    for row in range(0, 100, 5):  # many small ones
        for column in range(0, 200, 5):
            number += 1 + (number + 1 == VOID)
            labels[row : row + 2, column : column + 2] = number
    large = [number + 1, number + 2, number + 3]
    for at, one in enumerate(large):
        labels[110:190, 60 * at : 60 * at + 50] = one
    asked = task(prompt="box", objects_per_image=6)
    annotation = annotation_of(labels)
    for seed in range(20):
        drawn = [query.label for query in asked.training_queries(annotation, np.random.default_rng(seed))]
        assert len(set(drawn)) == 6
        assert 2 <= len(set(drawn) & set(large)) <= 3  # by chance one would be drawn in forty steps
    every = task(prompt="box", objects_per_image=1000).training_queries(annotation, np.random.default_rng(0))
    assert {query.label for query in every} == set(numbers_of(labels))


def test_the_maps_together_weigh_as_much_as_the_objects(labels):
    queries = task(objects_per_image=4).training_queries(annotation_of(labels), np.random.default_rng(2))
    sample = Sample(0, "a", torch.zeros(3, 8, 8), annotation_of(labels), queries, (8, 8))
    weights = Batch.collate([sample]).weight
    maps = sum(weight for query, weight in zip(queries, weights, strict=True) if query.learned is not None)
    assert maps == pytest.approx(0.5)
    assert sum(weights) == pytest.approx(1)


def test_targets_are_the_object_all_of_them_their_cores_and_those_of_a_class(labels):
    numbers = numbers_of(labels)
    labels[0, :9] = VOID
    classes = {number: 1 + at % 2 for at, number in enumerate(numbers)}
    annotation = annotation_of(labels, classes)
    rows = slice(20, 50)
    assert np.array_equal(annotation.target(numbers[1], rows).numpy(), labels[rows] == numbers[1])
    assert np.array_equal(annotation.target(ALL_OBJECTS).numpy(), (labels > 0) & (labels != VOID))
    cores = annotation.target(CORES).numpy()
    assert np.array_equal(cores, core_map(labels))
    assert set(labels[cores]) == set(numbers)
    second = annotation.target(objects_of_class(2), rows).numpy()
    assert np.array_equal(second, np.isin(labels[rows], numbers[1::2]))
    empty = annotation_of(np.zeros_like(labels))
    assert not empty.target(objects_of_class(1), rows).any()
    assert empty.target(objects_of_class(1), rows).shape == second.shape


def test_classes_are_asked_for_by_learned_prompts_where_there_are_several(labels):
    for names, wanted in ((("cell",), 2), (("cell", "debris"), 4)):
        asked = InstanceTask.from_options(PromptOptions(prompt="none"), Classes(names=names))
        queries = asked.evaluation_queries(annotation_of(labels), np.random.default_rng(0))
        assert [query.learned for query in queries] == list(range(wanted))
        assert queries == asked.prediction_queries([])


def test_a_picture_without_objects_is_asked_for_its_maps_and_void_for_nothing():
    rng = np.random.default_rng(0)
    empty = annotation_of(np.zeros((20, 20), np.int32))
    assert [query.label for query in task().training_queries(empty, rng)] == [ALL_OBJECTS, CORES]
    assert [query.label for query in task(prompt="box").evaluation_queries(empty, rng)] == [ALL_OBJECTS, CORES]
    void = annotation_of(np.full((20, 20), VOID, np.int32))
    assert task().training_queries(void, rng) == task().evaluation_queries(void, rng) == []


def test_user_prompts_ask_for_one_object_each():
    prompts = [Query().prompt, Query().prompt]
    assert [query.label for query in task().prediction_queries(prompts)] == [1, 1]
    assert [query.label for query in task().prediction_queries(prompts, [2, 1])] == [2, 1]
