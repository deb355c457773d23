"""What the processor is, as far as the system tells."""

from __future__ import annotations

from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # x86, x86, ARM


def cpu_info(*keys: str) -> str:
    """Returns the first value of one of the keys of ``/proc/cpuinfo``; empty if there is none."""
    if not _CPU_INFO.exists():
        return ""
    lines = (line.partition(":") for line in _CPU_INFO.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() in keys), "")


def bf16_instructions() -> list[str] | None:
    """Returns the processor's instructions for bfloat16; None where the system does not tell.

    Without any, bfloat16 is emulated, and slower than float32 by a factor of about three.
    """
    flags = cpu_info("flags", "Features").split()
    return [flag for flag in _BF16_FLAGS if flag in flags] if flags else None
