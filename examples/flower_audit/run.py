"""Two Flower clients on this machine, three rounds, and what each round leaked.

    pip install 'jaxinv[demo,flower]'
    python examples/flower_audit/run.py
    python examples/flower_audit/run.py --epsilon 8

Starts a SuperLink and two SuperNodes on free ports of 127.0.0.1, runs the app beside
this file and ends all it started. Flower's telemetry and its look for updates are off.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jaxinv.errors import InputError
from jaxinv.reports.folder import check_folder

APP = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent


def main(argv: Sequence[str]) -> int:
    """Runs the federation and prints the table."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="jaxinv-out/flower", help="of the reports")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--epsilon", type=float, default=0.0, help="local DP; 0 is none"
    )
    args = parser.parse_args(argv)
    if not (BIN / "flower-superlink").exists():
        parser.error(
            f"no Flower beside {sys.executable}; pip install 'jaxinv[demo,flower]'"
        )
    if args.rounds < 1 or not args.epsilon >= 0:
        parser.error(
            f"--rounds is {args.rounds} and --epsilon {args.epsilon}; expected 1 or "
            "more rounds and 0 or more"
        )
    try:
        out = check_folder(args.out).resolve()
    except InputError as error:
        parser.error(str(error))
    for old in out.glob("run-*.jsonl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as home:
        code = _federation(Path(home), out, args)
    if code:
        print(f"run.py: the federation failed; see {out}/*.log", file=sys.stderr)
        return 1
    # Here since it takes seconds to import, and is needed when all is over.
    from jaxinv.flower import write_report

    words = ["python", "examples/flower_audit/run.py"]
    words += ["--rounds", str(args.rounds), "--epsilon", str(args.epsilon)]
    page = write_report(out, command=shlex.join([*words, "--out", args.out]))
    _print(out)
    console = Console()
    console.print(f"Report: {page}", highlight=False, soft_wrap=True, markup=False)
    return 0


def _federation(home: Path, out: Path, args: argparse.Namespace) -> int:
    """Runs the app to its end; the exit status."""
    link, *nodes = _free_ports(3)
    address = f"127.0.0.1:{link}"
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\n'
        "insecure = true\n"
    )
    out.mkdir(parents=True, exist_ok=True)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(home / "compiled"))
    environment = os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    configuration = f'out="{out}" rounds={args.rounds} epsilon={args.epsilon}'
    with contextlib.ExitStack() as stack:

        def started(name: str, *command: str) -> subprocess.Popen:
            log = stack.enter_context((out / f"{name}.log").open("wb"))
            return stack.enter_context(_running(command, environment, log))

        server = started(
            "superlink",
            "flower-superlink",
            "--insecure",
            "--disable-runtime-dependency-installation",
            *("--port", str(link)),
        )
        _wait_for(link, server)
        for number, port in enumerate(nodes):
            started(
                f"supernode-{number}",
                "flower-supernode",
                "--insecure",
                *("--superlink", address, "--port", str(port)),
                *("--node-config", f"partition-id={number}"),
            )
        run = started(
            "run",
            "flwr",
            "run",
            str(APP),
            "here",
            "--stream",
            "--run-config",
            configuration,
        )
        try:
            return run.wait(timeout=600) or not any(out.glob("run-*-server.jsonl"))
        except subprocess.TimeoutExpired:
            return 1


@contextlib.contextmanager
def _running(
    command: Sequence[str], environment: dict[str, str], log
) -> Iterator[subprocess.Popen]:
    """A process that ends, with those that it started, when the context does."""
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        # Its session is its own, so its group is it and what it started.
        for how in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for(port: int, server: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=1),
        ):
            return
        time.sleep(0.2)


def _print(out: Path) -> None:
    """What the server and the clients wrote down, side by side."""
    report = json.loads((out / "report.json").read_text("utf-8"))
    table = Table(title="What each round leaked")
    for title in "round", "client", "score", "status", "images, dB":
        table.add_column(title, no_wrap=True)
    for title in "identified", "seconds":
        table.add_column(title, justify="right", no_wrap=True)
    for reply in report["replies"]:
        seen, own = reply["server"] or {}, reply["client"] or {}
        score, identified = seen.get("score"), reply.get("identified")
        psnr = reply.get("psnr") or [None]
        table.add_row(
            str(reply["round"]),
            str(report["clients"].index(reply["node"])),
            "n/a" if score is None else f"{score:.2g}",
            seen.get("status", "n/a"),
            " ".join("n/a" if p is None else f"{p:.0f}" for p in psnr),
            "n/a" if identified is None else f"{identified:.0%}",
            f"{seen.get('seconds', 0):.1f} + {own.get('seconds', 0):.1f}",
        )
    console = Console()
    console.print(table)
    console.print(
        "Score: what the server knows, its guess's own evidence, lower is better; "
        "dB and identified:\nwhat the client knows, who holds the guess against its "
        "digits; seconds: server + client.",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
