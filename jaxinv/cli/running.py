"""Running an audit from the command line: progress, report, exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from jaxinv.cache import use_cache
from jaxinv.cli.progress import reporting
from jaxinv.interrupt import held_interrupt
from jaxinv.reports.verdict import Verdict


def run_and_report(
    args: argparse.Namespace,
    folder: Path,
    run: Callable[..., Any],
    write: Callable[[Any, Path], Path],
    judge: Callable[[dict[str, Any]], Verdict],
    show: Callable[[Console, dict[str, Any]], None],
) -> int:
    """Runs an audit, writes its report and prints what came of it.

    Args:
      args: of a parser that `arguments.add_running` completed.
      folder: where the report goes, checked before.
      run: `(on_progress=None)`, the audit; its result has a `report`.
      write: `(result, folder)`, the path of the page.
      judge: the verdict on a report.
      show: prints a table of a report.

    Returns:
      The exit code.
    """
    if not args.no_cache:
        use_cache()
    if args.quiet:
        result = run()
    else:
        with reporting(Console(stderr=True)) as on_progress:
            result = run(on_progress=on_progress)
    with held_interrupt():
        page = write(result, folder)
    interrupted = bool(result.report.get("interrupted"))
    if not args.quiet:
        console = Console()
        show(console, result.report)
        console.print(Text(judge(result.report).headline, style="bold"))
        # Not wrapped, so that a terminal can follow it and a person copy it.
        console.print(Text(f"Report: {page}"), soft_wrap=True)
    if interrupted:
        print("jaxinv: stopped early; the report holds what there is", file=sys.stderr)
    return 130 if interrupted else 0


def quieten_backends() -> None:
    """Silences what JAX and matplotlib say about a machine that is simply as it is."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for name in ("absl", "jax._src.xla_bridge", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
