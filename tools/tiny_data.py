"""Scenes for pretraining the tiny model: plain ones and crowds, generated here or by worker processes."""

import mmap
import multiprocessing
import os
from dataclasses import dataclass
from queue import Empty
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_adapter.demo.crowds import crowd
from sam_adapter.demo.scenes import plain_objects
from sam_adapter.demo.textures import texture_bank
from tiny_model import IMAGE_SIZE

LABELS = 256
CHUNK = 32
"""Scenes that a worker hands over at once."""


@dataclass(frozen=True)
class Scenes:
    """Some scenes; the fields are arrays or tensors of one kind."""

    images: Tensor
    """uint8, ``(B, H, W, 3)``."""
    labels: Tensor
    """The innermost object at each pixel, uint8, ``(B, H, W)``; in plain scenes 1 is the largest."""
    parents: Tensor
    """For each label the object that holds it, uint8, ``(B, 256)``; 0 where there is none."""
    clusters: Tensor
    """For each label the group of objects that touch, uint8, ``(B, 256)``; 0 for an object alone."""
    crowded: Tensor
    """Whether it is a crowd, uint8, ``(B,)``."""

    @property
    def fields(self) -> tuple[Tensor, ...]:
        """All of them in a fixed order."""
        return self.images, self.labels, self.parents, self.clusters, self.crowded

    def to(self, device: torch.device) -> "Scenes":
        """The same scenes elsewhere."""
        return Scenes(*(field.to(device) for field in self.fields))

    def __getitem__(self, part: slice) -> "Scenes":
        return Scenes(*(field[part] for field in self.fields))


Arrays = tuple[NDArray[np.uint8], ...]
"""Those of `Scenes`."""


def empty_arrays(count: int, buffer: mmap.mmap | None = None) -> Arrays:
    """Room for some scenes, in a piece of memory that processes share if one is given."""
    shapes = [(IMAGE_SIZE, IMAGE_SIZE, 3), (IMAGE_SIZE, IMAGE_SIZE), (LABELS,), (LABELS,), ()]
    if buffer is None:
        return tuple(np.zeros((count, *shape), dtype=np.uint8) for shape in shapes)
    arrays, start = [], 0
    for shape in shapes:
        length = count * int(np.prod(shape))
        arrays.append(np.frombuffer(buffer, np.uint8, length, start).reshape(count, *shape))
        start += length
    return tuple(arrays)


def scene_bytes() -> int:
    """Size of one scene."""
    return sum(array.nbytes for array in empty_arrays(1))


def generate(seed: int, first: int, arrays: Arrays) -> None:
    """Fill arrays with the scenes `first`, `first` + 1, ...: even ones are plain, odd ones are crowds."""
    for array in arrays:
        array[...] = 0
    images, labels, parents, clusters, crowded = arrays
    for place in range(len(images)):
        number, is_crowd = divmod(first + place, 2)
        if is_crowd:
            drawn = crowd(seed, number, IMAGE_SIZE)
            images[place], labels[place] = drawn.image, drawn.labels
            parents[place, : len(drawn.parents)] = drawn.parents
        else:
            images[place], labels[place] = plain_objects(seed, number, IMAGE_SIZE)
        clusters[place] = touching(labels[place], parents[place])
        crowded[place] = is_crowd


def touching(labels: NDArray[np.uint8], parents: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The group of each label ``(256,)``: objects that touch one another, 0 for an object alone."""
    roots = np.where(parents > 0, parents, np.arange(LABELS))
    count, pieces = cv2.connectedComponents((labels > 0).astype(np.uint8))
    whole = roots[labels]
    shared = np.bincount((whole.astype(np.int64) * count + pieces).ravel(), minlength=LABELS * count)
    shared = shared.reshape(LABELS, count)
    shared[0] = 0
    piece = np.where(shared.any(axis=1), shared.argmax(axis=1), 0)
    members = np.bincount(piece, minlength=count)
    members[0] = 0
    groups = np.cumsum(members > 1) * (members > 1)
    return groups[piece][roots].astype(np.uint8)


class ScenePool:
    """A ring of generated scenes on the device: some are new at every step, all are seen several times, transformed."""

    def __init__(self, *, seed: int, first_index: int, capacity: int, device: torch.device) -> None:
        self.scenes = Scenes(*(torch.from_numpy(array).to(device) for array in empty_arrays(capacity)))
        self.capacity, self.device, self.seed = capacity, device, seed
        self.received = 0
        self.next_index = first_index

    def grow(self, count: int) -> None:
        """Generate the next scenes in this process."""
        arrays = empty_arrays(count)
        generate(self.seed, self.next_index, arrays)
        self.put(arrays, self.next_index)

    def put(self, arrays: Arrays, first: int) -> None:
        """Take in some scenes; the oldest make room. From page-locked memory this returns before it is done."""
        count = len(arrays[0])
        start = self.received % self.capacity
        stop = min(start + count, self.capacity)
        for kept, new in zip(self.scenes.fields, arrays, strict=True):
            kept[start:stop].copy_(torch.from_numpy(new[: stop - start]), non_blocking=True)
        self.received += stop - start
        self.next_index = max(self.next_index, first + count)

    def draw(self, batch_size: int) -> Scenes:
        """Random scenes, each mirrored and turned at random, half of them with their colours exchanged."""
        device, filled = self.device, min(self.received, self.capacity)
        chosen = torch.randint(filled, (batch_size,), device=device)
        images, labels, parents, clusters, crowded = (field[chosen] for field in self.scenes.fields)
        chance = torch.rand(4, batch_size, device=device) < 0.5

        def changed(pixels: Tensor) -> Tensor:
            flags = chance.view(4, batch_size, *[1] * (pixels.ndim - 1))
            pixels = torch.where(flags[0], pixels.transpose(1, 2), pixels)
            pixels = torch.where(flags[1], pixels.flip(1), pixels)
            return torch.where(flags[2], pixels.flip(2), pixels)

        order = torch.rand(batch_size, 3, device=device).argsort(dim=1)
        order = torch.where(chance[3, :, None], order, torch.arange(3, device=device))
        images = changed(images).gather(3, order[:, None, None].expand(images.shape))
        return Scenes(images, changed(labels), parents, clusters, crowded)


class Feeder:
    """Worker processes that generate scenes into shared memory. Make it before the device is used: it forks."""

    def __init__(self, *, workers: int, seed: int, first_index: int) -> None:
        texture_bank()  # made once, for all of them
        context = multiprocessing.get_context("fork")
        self.buffers = [mmap.mmap(-1, CHUNK * scene_bytes()) for _ in range(3 * workers)]
        self.slots = [empty_arrays(CHUNK, buffer) for buffer in self.buffers]
        self.locked = False
        self.copying: list[tuple[torch.cuda.Event, int]] = []
        """Slots that the GPU still reads."""
        self.free, self.ready = context.Queue(), context.Queue()
        for slot in range(len(self.slots)):
            self.free.put(slot)
        self.workers = [
            context.Process(target=self._work, args=(seed, first_index, number, workers), daemon=True)
            for number in range(workers)
        ]
        for worker in self.workers:
            worker.start()

    def _work(self, seed: int, first_index: int, number: int, workers: int) -> None:
        parent = os.getppid()
        os.nice(5)
        cv2.setNumThreads(1)
        first = first_index + number * CHUNK
        while os.getppid() == parent:
            try:
                slot = self.free.get(timeout=5)
            except Empty:
                continue
            generate(seed, first, self.slots[slot])
            self.ready.put((slot, first))
            first += workers * CHUNK

    def lock_pages(self) -> None:
        """Let the GPU read the shared memory by itself, so that nothing waits for it."""
        for slot in self.slots:
            start, length = slot[0].ctypes.data, CHUNK * scene_bytes()
            runtime: Any = torch.cuda.cudart()
            if int(runtime.cudaHostRegister(start, length, 0)):
                return
        self.locked = True

    def pump(self, pool: ScenePool, most: int) -> None:
        """Hand over what is ready, at most so many chunks, without waiting."""
        while self.copying and self.copying[0][0].query():
            self.free.put(self.copying.pop(0)[1])
        for _ in range(most):
            try:
                self._hand_over(pool, *self.ready.get_nowait())
            except Empty:
                return

    def fill(self, pool: ScenePool, count: int) -> None:
        """Wait until the pool has received this many scenes."""
        while pool.received < count:
            self._hand_over(pool, *self.ready.get(timeout=120))
            self.pump(pool, most=0)

    def _hand_over(self, pool: ScenePool, slot: int, first: int) -> None:
        pool.put(self.slots[slot], first)
        if self.locked:
            copied = torch.cuda.Event()
            copied.record()
            self.copying.append((copied, slot))
        else:
            if pool.device.type == "cuda":
                torch.cuda.synchronize()
            self.free.put(slot)

    def stop(self) -> None:
        """End the workers."""
        self.free.cancel_join_thread()
        for worker in self.workers:
            worker.terminate()
