"""The command line: `parnet demo`, `train`, `launch`, `study`, `profile`, `report`, `info`. Stage: outermost.

| module       | what it does                                                        |
|--------------|---------------------------------------------------------------------|
| `demo`       | trains on digits or MNIST, then times one epoch serially and shared |
| `train`      | trains a built-in network or a user's own on arrays from a file     |
| `study`      | measures how training scales and writes a report                    |
| `profile`    | what each layer of a model costs, and its roofline                  |
| `report`     | saved measurements as tables, pictures and README figures, compared |
| `networks`   | the built-in networks, and how a user's own is read from its file   |
| `launch`     | starts a script on several MPI ranks                                |
| `launchers`  | the programs that start ranks, and how each is told what we want    |
| `rank`       | one rank of a launched script                                       |
| `info`       | the machine, the versions and the settings                          |

Exit codes: 0 done; 1 the demo's weights differ, or `report --compare` finds something worse; 2 wrong use, said in one line;
130 Ctrl-C; `launch` gives that of the job.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import warnings
from collections.abc import Sequence

from .._version import __version__
from ..errors import ParnetError, ParnetWarning
from .options import add_study

WRONG_USE, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `parnet`; those of the process by default.
    Returns:
        the exit code.
    Raises:
        SystemExit: by argparse, for `--help`, `--version` and options it does not know.
    """
    parser = _parser()
    _check_command(parser, list(sys.argv[1:] if argv is None else argv))
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        _refuse(getattr(arguments, "parser", parser), unknown)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return WRONG_USE
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _run(arguments)
        except BrokenPipeError:  # `parnet info | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (ParnetError, OSError) as error:
            print(f"parnet: error: {' '.join(str(error).split())}", file=sys.stderr)
            return WRONG_USE
        except KeyboardInterrupt:
            print("parnet: interrupted", file=sys.stderr)
            return INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    """The command's module is imported only now."""
    if arguments.command == "demo":
        from .demo import demo

        code = demo(arguments.data, arguments.epochs, arguments.output, arguments.threads)
    elif arguments.command == "train":
        from .train import train

        code = train(arguments)
    elif arguments.command == "study":
        from .study import study

        code = study(arguments)
    elif arguments.command == "profile":
        from .profile import profile

        code = profile(arguments)
    elif arguments.command == "report":
        from .report import report

        code = report(arguments)
    elif arguments.command == "launch":
        from .launch import launch

        code = launch(arguments)
    else:
        from .info import show

        code = show(arguments.json)
    sys.stdout.flush()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="parnet", description="A small deep-learning engine for CPUs.", allow_abbrev=False)
    parser.suggest_on_error = True  # type: ignore[attr-defined]  # from Python 3.14 on; without effect before
    parser.add_argument("--version", action="version", version=f"parnet {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_demo(_command(commands, "demo", "train a small network on handwritten digits, and compare threads with serial"))
    _add_train(_command(commands, "train", "train a network on the arrays of an npz file"))
    add_study(_command(commands, "study", "measure how training scales with threads and workers, and write a report"))
    _add_profile(_command(commands, "profile", "measure what each layer of a model costs, forward and backward"))
    _add_report(_command(commands, "report", "show saved measurements as tables and pictures, or compare two of them"))
    _add_launch(_command(commands, "launch", "run a script on several MPI ranks"))
    info = _command(commands, "info", "show versions, processor, settings, and what is measured on this machine")
    info.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser


def _command(commands, name: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
    parser.set_defaults(parser=parser)
    return parser


def _check_command(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """Refuse a command that is none, as argparse does, and name the one that was meant."""
    known = next(list(action.choices or ()) for action in parser._actions if action.dest == "command")
    if words and not words[0].startswith("-") and words[0] not in known:
        near = difflib.get_close_matches(words[0], known, n=1)
        listed = ", ".join(map(repr, known))
        meant = f"; did you mean {near[0]}?" if near else ""
        parser.error(f"argument COMMAND: invalid choice: {words[0]!r} (choose from {listed}){meant}")


def _refuse(parser: argparse.ArgumentParser, unknown: list[str]) -> None:
    """What argparse says of words it does not know, with the command's own options, not those of all of parnet."""
    options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    near = difflib.get_close_matches(unknown[0].partition("=")[0], options, n=1)
    parser.error(f"unrecognized arguments: {' '.join(unknown)}{f'; did you mean {near[0]}?' if near else ''}")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--data",
        default="digits",
        choices=("digits", "mnist"),
        help="digits comes with scikit-learn, mnist is downloaded once",
    )
    add("--epochs", type=int, metavar="N", help="epochs to train (default: 15 for digits, 10 for mnist)")
    add(
        "--output",
        default="history.png",
        metavar="FILE",
        help="where the learning curves go: .png, .pdf or .svg",
    )
    add("--threads", type=int, metavar="N", help="threads to use (default: all usable cores)")


def _add_train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="mlp, mlp-selu, path/to/file.py:function, a function that returns a model, or a saved model.parnet",
    )
    add(
        "--data",
        required=True,
        metavar="DATA",
        help="digits, mnist, or an npz file with x_train and y_train (and x_test, y_test), or x and y",
    )
    add("--epochs", type=int, default=10, metavar="N")
    add("--batch-size", type=int, default=32, metavar="N")
    add("--strategy", metavar="NAME", help="auto (the default), serial or threads; the numbers are the same")
    add("--threads", type=int, metavar="N", help="threads to use; means --strategy threads")
    add("--optimizer", metavar="NAME", help="sgd, adam, ... (default: the network's own, else sgd)")
    add(
        "--lr",
        type=float,
        metavar="RATE",
        help="learning rate (default: the network's own, else the optimizer's)",
    )
    add("--loss", metavar="NAME", help="default: what the targets call for")
    add("--validation-split", type=float, default=0.0, metavar="SHARE", help="share of the rows, from the end")
    add("--save", metavar="FILE", help="where the trained model goes, such as out.parnet; after Ctrl-C too")
    add("--seed", type=int, default=0, metavar="N", help="of weights, shuffles and dropout (default: 0)")
    add(
        "--verbose",
        default="auto",
        choices=("auto", "0", "1", "2"),
        help="0 nothing, 1 a bar, 2 a line an epoch",
    )


def _add_profile(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="mlp, mlp-selu, path/to/file.py:function, or a saved model.parnet")
    add("--data", metavar="DATA", help="digits, mnist or an npz file, as for parnet train (default: made-up samples)")
    add("--batch-size", type=int, default=32, metavar="N")
    add("--strategy", metavar="NAME", help="serial (the default), threads, auto or cuda")
    add("--threads", type=int, metavar="N", help="threads to use; means --strategy threads")
    add("--purpose", choices=("train", "evaluate", "predict"), help="what is run (default: train)")
    add("--roofline", metavar="FILE", help="draw each kernel under the roofs of processor and memory: .svg, .png or .pdf")
    parser.set_defaults(optimizer=None, lr=None, loss=None)  # as `compile_model` reads them


def _add_report(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "file",
        nargs="?",
        metavar="RESULTS",
        help="a file that `pytest --benchmark` wrote (default: the newest of bench/results)",
    )
    add("--readme", metavar="FILE", help="put the figures between the markers of that README")
    add("--plots", metavar="FOLDER", help="draw each group of values; needs matplotlib")
    add("--format", default="svg", choices=("svg", "png", "pdf"), help="of the plots (default: svg)")
    add("--compare", nargs=2, metavar=("OLD", "NEW"), help="show what has changed; exit code 1 where something is worse")
    add("--threshold", type=float, default=0.05, metavar="SHARE", help="changes that count, with --compare (default: 0.05)")


def _add_launch(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-n", type=int, required=True, metavar="N", help="ranks to start")
    add("--threads", type=int, metavar="T", help="threads of each rank (default: its share of the cores)")
    add("--oversubscribe", action="store_true", help="allow more threads than cores; nothing is bound to cores then")
    add("--ulfm", action="store_true", help="let MPI(on_failure='shrink') go on without a rank that died (Open MPI)")
    add("--launcher", metavar="FILE", help="mpirun, mpiexec or srun (default: srun in a Slurm job, else what is found)")
    add("--mpi-args", default="", metavar="WORDS", help="further options for it, such as --mpi-args '--hostfile hosts'")
    add("--dry-run", action="store_true", help="print the command line and start nothing")
    add("script", metavar="SCRIPT", help="a Python file that calls fit(..., strategy='mpi')")
    add("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """parnet's own warnings in one line; those of others as Python shows them."""
    if issubclass(category, ParnetWarning):
        print(f"parnet: warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
