"""`parnet report`: saved measurements as tables, pictures and README figures, or compared with earlier ones.

Stage: outermost. Must not know: how anything is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import HyperparameterError
from ..study import bench_tables as tables
from ..study.benchmarks import compare, newest, read

#: exit code where something has become slower or larger
WORSE = 1


def report(arguments: argparse.Namespace) -> int:
    """Do as the command line says. Returns the exit code.

    Raises:
        ParnetError, OSError: a file that cannot be read or written, is damaged, or is of another machine.
    """
    if arguments.compare is not None:
        if arguments.file or arguments.readme or arguments.plots:
            raise HyperparameterError("--compare: expected it alone, received other files as well; leave them out")
        old, new = (read(path) for path in arguments.compare)
        found = compare(old, new, arguments.threshold)
        print(found.table())
        return WORSE if found.regressions else 0
    content = read(arguments.file or newest())
    print(tables.report(content))
    if arguments.plots is not None:
        from ..study.bench_plots import plot_groups

        for path in plot_groups(content, arguments.plots, f".{arguments.format}"):
            print(f"Picture: {path}")
    if arguments.readme is not None:
        tables.write_figures(Path(arguments.readme), tables.figures(content))
        print(f"Figures: {arguments.readme}")
    return 0
