"""A benchmark's figures: as a table, and as a CSV that says how to make them again."""

from __future__ import annotations

import csv
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from prettytable import PrettyTable

from aicore.engine.processor import bf16_instructions, cpu_info


@dataclass(frozen=True)
class Report:
    """Figures of one run, and the machine they hold for."""

    facts: dict[str, str]
    """What the figures depend on: machine, versions, settings. A line each."""
    rows: Sequence[dict[str, str | float | None]]
    """One dict per row, all with the same keys; None where there is no figure."""

    def __str__(self) -> str:
        """The facts, a line each, and the table."""
        table = PrettyTable([key.replace("_", " ") for key in self.rows[0]])
        table.align = "r"
        table.align[next(iter(self.rows[0]))] = "l"
        table.align["note"] = "l"
        table.max_width["note"] = 50
        for row in self.rows:
            table.add_row(["-" if value is None else value for value in row.values()])
        return "\n".join([*self._fact_lines(), str(table)])

    def write_csv(self, file: str | Path) -> Path:
        """Writes the facts as ``# name: value`` lines, then a header and the rows."""
        file = Path(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(f"# {line}\n" for line in self._fact_lines())
            writer = csv.DictWriter(stream, list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        return file

    def _fact_lines(self) -> list[str]:
        return [f"{name}: {value}" for name, value in self.facts.items()]


def machine_facts() -> dict[str, str]:
    """Returns the command line, the processor and its cores, the GPU, torch and its threads."""
    facts = {
        "command": shlex.join(["python", *sys.argv]),
        "cpu": f"{_cpu_name()}, {os.cpu_count()} cores",
        "cpu bf16 instructions": _bf16_instructions(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return {**facts, "torch": torch.__version__, "threads": str(torch.get_num_threads())}


def _cpu_name() -> str:
    return cpu_info("model name") or platform.processor() or platform.machine()


def _bf16_instructions() -> str:
    return " ".join(bf16_instructions() or ()) or "none known"
