"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.errors import RequestError
from carryover import __version__

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130

# What is run where nothing is named: it ships, and takes minutes on two cores.
STREAM, BACKBONE = "split-textures?tasks=3", "vit_64"

# What every command that names cells takes.
_CELLS = [
    click.option(
        "--method",
        required=True,
        help="One or more, joined by commas; options after ? (lora?rank=4); all for every one of them.",
    ),
    click.option("--stream", default=STREAM, show_default=True, help="One or more; parameters after ?."),
    click.option("--backbone", default=BACKBONE, show_default=True, help="One or more; parameters after ?."),
    click.option("--seed", default="0", show_default=True, help="One or more: 0,1,2."),
    click.option(
        "-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the method."
    ),
    click.option("--results", type=click.Path(path_type=Path), help="Where records go [CARRYOVER_RESULTS]."),
    click.option(
        "--device",
        help="cpu, cuda or cuda:1; GPUs between commas are taken in turns. The first GPU if there is one; "
        "with --jobs, all like it.",
    ),
    click.option("--threads", type=int, help="CPU threads of one cell, whatever runs beside it."),
    click.option(
        "--eval-batch", type=click.IntRange(1), default=256, show_default=True, help="Images per step."
    ),
    click.option(
        "--selection",
        metavar="RULE",
        help="How options are chosen: default, or search?candidates=4&epochs=5 (transfer streams search).",
    ),
    click.option("--no-reuse", is_flag=True, help="Predict every task again after each step."),
]


def _cells(command: Any) -> Any:
    for option in reversed(_CELLS):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="carryover")
def _carryover() -> None:
    """Measure what a vision model carries over from one task to the next."""


@_carryover.command()
@_cells
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Cells at a time.")
@click.option(
    "--workers", type=click.IntRange(0), default=2, show_default=True, help="Threads that load images."
)
@click.option("--timeout", type=float, metavar="SECONDS", help="Stop a cell after so long, and go on.")
@click.option("--save-states", is_flag=True, help="Keep the method's state after every task.")
@click.option("--wandb", metavar="PROJECT", help="Log every cell to this Weights & Biases project too.")
@click.option("--quiet", is_flag=True, help="No progress, only warnings and the table.")
@click.option("--report", type=click.Path(path_type=Path), hidden=True)  # what an executor adds for a worker
def run(**asked: Any) -> int:
    """Run cells, record them, show the table.

    A cell is one method on one stream with one backbone and one seed; lists make a matrix.
    """
    from carryover.cells.request import Request
    from carryover.commands import bench

    return bench.run(Request.typed(asked))


@_carryover.command()
@_cells
def plan(**asked: Any) -> int:
    """Show what `run` would do.

    Which cells, what is recorded, what is stale and why, how long it takes.
    """
    from carryover.cells.request import Request
    from carryover.commands import bench

    return bench.plan(Request.typed(asked))


@_carryover.command()
@click.argument("kind", type=click.Choice(["methods", "streams", "backbones", "all"]), default="all")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def ls(kind: str, as_json: bool) -> int:
    """List methods, streams and backbones."""
    from carryover.commands import listing

    click.echo(listing.as_json(kind) if as_json else listing.as_text(kind))
    return OK


@_carryover.command()
@click.argument("kind", type=click.Choice(["method", "stream", "backbone"]))
@click.argument("name")
@click.option(
    "--kind",
    "start",
    type=click.Choice(["gradient", "frozen", "episodic", "replay", "distillation", "penalty"]),
    default="gradient",
    show_default=True,
    help="What a method starts from.",
)
@click.option("--package", type=click.Path(path_type=Path), metavar="DIR", help="A package of its own there.")
def new(kind: str, name: str, start: str, package: Path | None) -> int:
    """Write a method, stream or backbone that already runs.

    One commented file in its room of this clone, or a package to install. Nothing is overwritten.
    """
    from carryover.new import Wanted, write

    click.echo(write(Wanted(kind, name, start), package))
    return OK


@_carryover.command()
@click.option("--results", type=click.Path(path_type=Path), help="Where records are [CARRYOVER_RESULTS].")
def status(results: Path | None) -> int:
    """Count what is recorded, running, failed, interrupted."""
    from carryover.commands import report as show

    return show.status(results)


@_carryover.command()
@click.option("--results", type=click.Path(path_type=Path), help="Where records are [CARRYOVER_RESULTS].")
@click.option("--stream", help="Only this stream.")
@click.option("--published", is_flag=True, help="Show what others published below, marked as such.")
@click.option("--vary", help="One part of the contract that may differ within a table, e.g. backbone.")
@click.option(
    "--format", "form", type=click.Choice(["terminal", "markdown", "csv", "json"]), default="terminal"
)
def report(results: Path | None, stream: str | None, vary: str | None, form: str, published: bool) -> int:
    """Draw tables of all records."""
    from carryover.commands import report as show

    return show.report(results, stream, vary, form, published)


@_carryover.command()
@click.argument("first")
@click.argument("second")
@click.option("--stream", default=STREAM, show_default=True, help="Parameters after ?.")
@click.option("--backbone", default=BACKBONE, show_default=True, help="Parameters after ?.")
@click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Of records with this option, for each method that has some.",
)
@click.option(
    "--selection", metavar="RULE", help="Of records whose options were chosen so: as in run, or manual."
)
@click.option("--metric", help="By default what the table is sorted by: accuracy_last or accuracy_mean.")
@click.option("--results", type=click.Path(path_type=Path), help="Where records are [CARRYOVER_RESULTS].")
def compare(metric: str | None, **asked: Any) -> int:
    """Compare two methods pairwise.

    Seed by seed, and image by image, under one contract: of several that both have, the one of a run
    without options. Two variants of a method are named with their options, 'lora?rank=4' 'lora?rank=8'.
    """
    from carryover.commands.compare import Asked
    from carryover.commands.compare import compare as compared

    return compared(Asked.typed(asked), metric)


@_carryover.command()
@click.argument("backbone")
@click.option("--source", required=True, help="Labelled images: a source's name or folder:PATH.")
@click.option(
    "--objective", type=click.Choice(["supervised", "mae", "simclr"]), default="supervised", show_default=True
)
@click.option(
    "-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="A setting of the recipe."
)
@click.option("--out", type=click.Path(path_type=Path), default="pretrained", show_default=True)
@click.option("--name", help="Of the files [BACKBONE.OBJECTIVE].")
@click.option("--size", type=int, help="Side in pixels that the source's images are brought to.")
@click.option("--terms", help="Of use of the source's images, for the card, where the source states none.")
@click.option(
    "--no-mirror",
    is_flag=True,
    help="A mirrored image is of another class (known of digits, Omniglot and drawn ones).",
)
@click.option("--probe", "probes", multiple=True, help="Sources on which a linear probe is measured.")
@click.option("--device", help="cpu, cuda or cuda:1; the first GPU if there is one.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option("--quiet", is_flag=True, help="No progress, only warnings and the card.")
def pretrain(**asked: Any) -> int:
    """Make a backbone from labelled or bare images.

    Leaves weights (safetensors, half precision), a card, and the curve in --out; the same command goes
    on after a kill. BACKBONE may carry weights=PATH to start from.
    """
    from carryover.commands import pretrain

    return pretrain.run(asked)


@_carryover.command()
@click.argument("method")
@click.option("--stream", required=True, help="On whose pool, e.g. episodes:SOURCE?support=100.")
@click.option("--backbone", default=BACKBONE, show_default=True, help="Parameters after ?.")
@click.option(
    "-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the method."
)
@click.option("--out", type=click.Path(path_type=Path), default="prepared", show_default=True)
@click.option("--terms", help="Of use of the pool's images, for the card.")
@click.option("--device", help="cpu, cuda or cuda:1; the first GPU if there is one.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option("--quiet", is_flag=True, help="No progress, only warnings and the file's name.")
def prepare(**asked: Any) -> int:
    """Make what a method needs before its first task.

    Pre-tunes TOAST's feedback or meta-trains CrossTransformer's head, and leaves it with a card in
    --out; the same command goes on after a kill.
    """
    from carryover.commands import prepare

    return prepare.run(asked)


@_carryover.command()
@click.argument("name")
@click.option(
    "-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the method."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def check(name: str, options: tuple[str, ...], as_json: bool) -> int:
    """Try every promise of a plugin.

    A method is put through tiny streams of every protocol on tiny backbones; exit code 1 if a promise is
    broken. Streams and backbones have promises too.
    """
    from carryover.check import command

    return command.run(name, options, as_json)


@_carryover.command()
@click.option("--clear", is_flag=True, help="Remove everything.")
@click.option("--limit", type=float, metavar="GIB", help="Remove the least recently used beyond this size.")
def cache(clear: bool, limit: float | None) -> int:
    """Show or clear the cache.

    It holds decoded images and the features of frozen backbones, and can all be made again.
    """
    from carryover.commands import listing

    click.echo(listing.cache(clear, limit))
    return OK


def cli(arguments: list[str] | None = None) -> int:
    """The exit code of a command: 0 ok, 1 a cell failed, 2 refused, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(_carryover.main(arguments, standalone_mode=False) or OK)
    except click.ClickException as error:
        error.show()
        return REFUSED
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away: `carryover report | head`
        sys.stderr.close()
        return OK


def _interrupt(signum: int, frame: object) -> None:
    """A polite kill is treated like Ctrl-C: the journal stays and the way on is printed."""
    raise KeyboardInterrupt
