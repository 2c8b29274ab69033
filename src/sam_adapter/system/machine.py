"""Where the arithmetic is done, in which precision, and with which form of attention: chosen once, and told."""

import logging
import os
import shutil
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

import torch

from ..config.choices import AttentionKind
from ..config.options import MachineOptions
from ..errors import ConfigError

try:
    import resource
except ImportError:  # Unix alone has it
    resource = None

log = logging.getLogger(__name__)

FUSED = "by PyTorch's fused kernels"
"""Attention of encoders without position biases, which have no other form."""
MPS_FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"
"""PyTorch reads it when it is imported."""


@dataclass(frozen=True)
class Machine:
    """What does the arithmetic, and how.

    Attributes:
        device: Where the weights are.
        precision: ``32``, ``bf16-mixed`` or ``16-mixed``.
        attention: A key of `sam_adapter.kernels.attention.ATTENTION`; in words for the user `FUSED` too.
        compiled: Whether the encoder's blocks go through torch.compile.
        attention_asked: Whether the form of attention was named, and not chosen.
    """

    device: torch.device
    precision: str
    attention: str
    compiled: bool = False
    attention_asked: bool = False

    @classmethod
    def choose(
        cls,
        *,
        accelerator: str = "auto",
        precision: str = "auto",
        attention: AttentionKind = "auto",
        compiled: bool = False,
        device: torch.device | str | None = None,
    ) -> Self:
        """The machine that choices mean, with every 'auto' resolved.

        Args:
            accelerator: ``auto``, ``cpu`` or ``gpu``.
            precision: ``auto`` is bfloat16 where the hardware has instructions for it, float32 elsewhere.
            attention: ``auto``, or one of the forms by name; see `choose_attention`.
            compiled: Whether to compile the encoder's blocks.
            device: A device by name, instead of an accelerator.

        Raises:
            ConfigError: If a GPU is asked for and there is none, or there is no compiler.
        """
        chosen = _pick_device(accelerator) if device is None else torch.device(device)
        if precision == "auto":
            precision = "bf16-mixed" if _good_at_bfloat16(chosen) else "32"
        if compiled and chosen.type == "cpu" and shutil.which(compiler := _cpp_compiler()) is None:
            raise ConfigError(
                f"compile: PyTorch compiles with '{compiler}' on a CPU, and it is not here; install it, name another "
                "in the environment variable CXX, or leave the option out."
            )
        return cls(chosen, precision, choose_attention(attention, chosen.type), compiled, attention != "auto")

    @classmethod
    def asked(cls, options: MachineOptions) -> Self:
        """The machine that a command's options mean; see `choose`."""
        return cls.choose(
            accelerator=options.accelerator,
            precision=options.precision,
            attention=options.attention,
            compiled=options.compile,
        )

    def prepare_process(self) -> None:
        """Set what makes this process compute faster, for the whole process, until it ends.

        On a CPU numbers too small for full precision, below 1e-38, become 0: gradients fall into them, and processors
        from Intel take ten times as long for each.
        """
        if self.device.type == "cpu":
            torch.set_flush_denormal(True)

    def clock(self) -> float:
        """Seconds, once all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def peak_bytes(self) -> int:
        """Most memory that was handed out on the GPU so far, or held by this process on a CPU; 0 if unknown."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        if resource is None:
            return 0
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def autocast(self) -> AbstractContextManager:
        """Context in which matrix products run in this precision."""
        if self.precision == "32":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16-mixed" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def __str__(self) -> str:
        compiled = ", compiled blocks" if self.compiled else ""
        return f"device {self.device}, precision {self.precision}, attention {self.attention}{compiled}"


def _pick_device(accelerator: str) -> torch.device:
    if accelerator == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        if os.environ.get(MPS_FALLBACK) == "1":
            log.info("Operations that Apple's GPUs lack are done on the CPU.")
        else:
            log.warning("Set %s=1 before Python starts: Apple's GPUs lack some operations.", MPS_FALLBACK)
        return torch.device("mps")
    if accelerator == "gpu":
        raise ConfigError("accelerator: PyTorch finds no GPU here; use '--accelerator cpu'.")
    return torch.device("cpu")


def _cpp_compiler() -> str:
    """What PyTorch compiles with."""
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


def _good_at_bfloat16(device: torch.device) -> bool:
    """Whether there are instructions for it; without them it would be emulated, and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # since PyTorch 2.11
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))


def choose_attention(kind: str, device_type: str) -> str:
    """The form that is meant: ``auto`` is folded on CUDA, whose kernels are fused, and blocked elsewhere.

    On an H100 folded is the fastest in half precision; in float32 it is up to a third slower than plain, with .4 of the
    memory.

    Returns:
        A key of `sam_adapter.kernels.attention.ATTENTION`.
    """
    if kind == "auto":
        return "folded" if device_type == "cuda" else "blocked"
    return kind
