"""Plant known faults, one after the other, in a copy of the sources, and show that the tests notice each.

``make planted`` takes five minutes. The faults are kinds that a suite once let pass: an option that is ignored, a table
of zeros, prompts that get another image's embedding. No material from outside the repository is used.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fault:
    """A change of one file that must not go unnoticed.

    Attributes:
        name: What goes wrong.
        file: Path below ``src/sam_adapter``.
        old: Text of the file; every occurrence is replaced.
        new: What it is replaced by.
        tests: Where the tests are that should notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


ADAPTER, SAM = ("tests/methods/test_sam_adapter.py",), ("tests/backbones/test_sam.py",)
SAM2 = ("tests/backbones/test_sam2.py",)
SMALL_GOLDEN = ("tests/test_small_golden.py",)
PROMPTS, UNEQUAL = ("tests/tasks/test_prompts.py",), ("tests/test_unequal_queries.py",)

FAULTS = (
    Fault(
        "activation is ignored",
        "methods/sam_adapter/module.py",
        "ACTIVATIONS[settings.activation]()",
        "nn.GELU()",
        ADAPTER,
    ),
    Fault(
        "adapter_init=paper is ignored",
        "methods/sam_adapter/module.py",
        'self.settings.adapter_init == "paper"',
        'self.settings.adapter_init == "none"',
        ADAPTER,
    ),
    Fault(
        "the paper preset has the wide one's widths",
        "methods/sam_adapter/method.py",
        "tune_dim=_chosen(options.tune_dim, shares if paper else wide)",
        "tune_dim=_chosen(options.tune_dim, wide)",
        SAM,
    ),
    Fault(
        "high_frequency_rate is ignored",
        "methods/sam_adapter/module.py",
        "high_frequency(pixel_values, rate)",
        "high_frequency(pixel_values)",
        ADAPTER,
    ),
    Fault(
        "every picture gets the last one's finer levels",
        "backbones/decoder_with_levels.py",
        "decoder.conv_s0(fine)",
        "decoder.conv_s0(fine[-1:].expand_as(fine))",
        SAM2,
    ),
    Fault(
        "an unstable mask gives way in training too",
        "backbones/decoder_with_levels.py",
        "and self.falls_back",
        "",
        SAM2,
    ),
    Fault(
        "SAM-HQ's answer lacks SAM's mask",
        "backbones/sam_hq_decoder.py",
        "upscaled)[:, None, None] + high_quality",
        "upscaled)[:, None, None] * 0 + high_quality",
        SMALL_GOLDEN,
    ),
    Fault(
        "SAM 3 loses the no-memory embedding",
        "backbones/sam3.py",
        "coarse + self.sam.no_memory_embedding",
        "coarse + 0 * self.sam.no_memory_embedding",
        SMALL_GOLDEN,
    ),
    Fault(
        "the first stage reads hidden states before their position embedding",
        "methods/sam_adapter/hiera.py",
        "patch_embedding if before else positioned",
        "patch_embedding",
        ("tests/methods/test_hiera.py",),
    ),
    Fault("box_scale is ignored", "tasks/prompts.py", "box_scale=options.box_scale,", "", PROMPTS),
    Fault("negative_points is ignored", "tasks/prompts.py", "negative_points=options.negative_points,", "", PROMPTS),
    Fault(
        "gradient checkpointing is ignored",
        "backbones/base.py",
        "if not (self.gradient_checkpointing and torch.is_grad_enabled()):",
        "if True:",
        SAM,
    ),
    Fault(
        "a resized absolute position table is zero",
        "backbones/sam_files.py",
        "resized.permute(0, 2, 3, 1).contiguous()",
        "resized.permute(0, 2, 3, 1).contiguous() * 0",
        SAM,
    ),
    Fault(
        "resized relative position tables are zero",
        "backbones/sam_files.py",
        "resized[0].T.contiguous()",
        "resized[0].T.contiguous() * 0",
        SAM,
    ),
    Fault(
        "queries about an image get another image's embedding",
        "segmenter.py",
        "prompts, batch.image_index,",
        "prompts, [at % len(batch) for at in range(len(prompts))],",
        SAM,
    ),
    Fault(
        "queries of one kind get another image's embedding",
        "backbones/base.py",
        "prepared.select([image_index[at] for at in some])",
        "prepared.select([image_index[at - start] for at in range(start, start + len(some))])",
        SAM,
    ),
    Fault(
        "embedding_from is ignored",
        "methods/sam_adapter/module.py",
        "patch_embedding if before else positioned",
        "positioned",
        SAM,
    ),
    Fault(
        "the neck prompt is ignored",
        "methods/sam_adapter/module.py",
        "if self.adapter.settings.neck_prompt else hidden_states",
        "if False else hidden_states",
        SAM,
    ),
    Fault(
        "carried tensors are not saved",
        "segmenter.py",
        "if p.requires_grad or name in self.method.carried",
        "if p.requires_grad",
        ("tests/test_convert.py",),
    ),
    Fault(
        "void pixels count",
        "batch/annotation.py",
        "return self.labels[rows] != VOID if self.has_void else None",
        "return None",
        ("tests/test_batch.py", "tests/tasks"),
    ),
    Fault(
        "bands of rows take the first band's target",
        "tasks/pixels.py",
        "which = rows or slice(None)",
        "which = slice(0, rows.stop - rows.start) if rows else slice(None)",
        ("tests/tasks/test_pixels.py",),
    ),
    Fault(
        "an image counts once for each query",
        "batch/batch.py",
        "return [sample.weight * query.share / every for query in sample.queries]",
        "return [sample.weight * query.share for query in sample.queries]",
        ("tests/test_batch.py",),
    ),
    Fault(
        "each process takes the mean over its own queries",
        "training/lightning_module.py",
        'self.trainer.strategy.reduce(weight, reduce_op="sum")',
        "weight * self.trainer.world_size",
        UNEQUAL,
    ),
    Fault(
        "a process without a query leaves out a part of the gradients",
        "training/query_losses.py",
        "0.0 * parameter.sum() for parameter in own",
        "0.0 * parameter.sum() for parameter in own[:1]",
        UNEQUAL,
    ),
)


def caught(fault: Fault, folder: Path) -> str:
    """The first test that fails on a copy with a fault, or nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("src", "tests", "tools", "pyproject.toml"):
        source = ROOT / part
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / part, ignore=ignored) if source.is_dir() else shutil.copy(
            source, folder / part
        )
    file = folder / "src" / "sam_adapter" / fault.file
    text = file.read_text(encoding="utf-8")
    if fault.old not in text:
        sys.exit(f"planted: {fault.file} has no '{fault.old}' any more; the fault '{fault.name}' must be written anew.")
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    empty = folder / "shared"
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "SAM_ADAPTER_SHARED": str(empty)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", *fault.tests]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    failed = [line for line in result.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" ")[1].split("[")[0] if failed and result.returncode == 1 else ""


def main() -> None:
    """Print a table; exit status 1 if a fault goes unnoticed."""
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        for fault in FAULTS:
            test = caught(fault, Path(folder) / "copy")
            unnoticed += not test
            print(f"{'caught ' if test else 'PASSED '} {fault.name:<52} {test}", flush=True)
    if unnoticed:
        sys.exit(f"{unnoticed} of {len(FAULTS)} planted faults went unnoticed.")
    print(f"All {len(FAULTS)} planted faults were noticed.")


if __name__ == "__main__":
    main()
