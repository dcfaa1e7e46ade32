"""The command line. Each command imports the heavy modules that it needs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.errors import RequestError
from carryover import __version__

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130

# The defaults ship with the repository and take minutes on two cores.
STREAM, BACKBONE = "split-textures?tasks=3", "vit_64"

# The options of every command that names cells.
_CELLS = [
    click.option(
        "--method",
        required=True,
        help="One or more, separated by commas; options after ? (lora?rank=4); `all` for every method.",
    ),
    click.option("--stream", default=STREAM, show_default=True, help="One or more; parameters after ?."),
    click.option("--backbone", default=BACKBONE, show_default=True, help="One or more; parameters after ?."),
    click.option(
        "--order",
        help="Orders of the classes: 1993,1994, natural, a list (2+0+1) or @FILE. Default: the stream's own.",
    ),
    click.option("--seed", default="0", show_default=True, help="One or more: 0,1,2."),
    click.option(
        "-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the method."
    ),
    click.option(
        "--results", type=click.Path(path_type=Path), help="Folder for the records [CARRYOVER_RESULTS]."
    ),
    click.option(
        "--device",
        help="cpu, cuda or cuda:1; cells take turns on several GPUs (cuda:0,cuda:1). Default: the first GPU "
        "if there is one; with --jobs, all GPUs of its model.",
    ),
    click.option("--threads", type=int, help="CPU threads of each cell, with any --jobs."),
    click.option(
        "--eval-batch",
        type=click.IntRange(1),
        default=256,
        show_default=True,
        help="Images per prediction step.",
    ),
    click.option(
        "--selection",
        metavar="RULE",
        help="How options are chosen: default, or search?candidates=4&epochs=5. Transfer streams search by "
        "default.",
    ),
    click.option(
        "--no-reuse",
        is_flag=True,
        help="Predict every learnt task again after each step, even if nothing changed for it.",
    ),
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
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Cells that run at the same time."
)
@click.option(
    "--workers", type=click.IntRange(0), default=2, show_default=True, help="Threads that load images."
)
@click.option(
    "--timeout", type=float, metavar="SECONDS", help="Stop a cell after this time and continue with the next."
)
@click.option("--save-states", is_flag=True, help="Save the state of the method after every task.")
@click.option("--wandb", metavar="PROJECT", help="Also log every cell to this Weights & Biases project.")
@click.option("--quiet", is_flag=True, help="Show only warnings and the table, no progress.")
@click.option("--report", type=click.Path(path_type=Path), hidden=True)  # what an executor adds for a worker
def run(**asked: Any) -> int:
    """Run cells, record them, and show the table.

    A cell is one method on one stream with one backbone, one order of classes and one seed. Lists run every
    combination.
    """
    from carryover.cells.request import Request
    from carryover.commands import bench

    return bench.run(Request.typed(asked))


@_carryover.command()
@_cells
def plan(**asked: Any) -> int:
    """Show what `run` would do, without running it.

    Lists the cells, which of them are recorded, which records are stale and why, and the expected time.
    """
    from carryover.cells.request import Request
    from carryover.commands import bench

    return bench.plan(Request.typed(asked))


@_carryover.command()
@click.argument("kind", type=click.Choice(["methods", "streams", "backbones", "all"]), default="all")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--timm",
    metavar="PATTERN",
    help="Instead, timm's names that match, such as 'vit_*' or '*': what each is, or why it is refused.",
)
def ls(kind: str, as_json: bool, timm: str | None) -> int:
    """List methods, streams and backbones."""
    from carryover.commands import listing

    if timm is not None:
        for line in listing.admitted(timm):
            click.echo(line)
        return OK
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
    help="Template for a method.",
)
@click.option(
    "--package",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a package of its own in this folder.",
)
def new(kind: str, name: str, start: str, package: Path | None) -> int:
    """Write a new method, stream or backbone that already runs.

    Writes one commented file into this clone, or a package to install. Never overwrites a file.
    """
    from carryover.new import Wanted, write

    click.echo(write(Wanted(kind, name, start), package))
    return OK


@_carryover.command()
@click.option("--results", type=click.Path(path_type=Path), help="Folder of the records [CARRYOVER_RESULTS].")
def status(results: Path | None) -> int:
    """Count the records; list running, failed and interrupted cells."""
    from carryover.commands import report as show

    return show.status(results)


@_carryover.command()
@click.option("--results", type=click.Path(path_type=Path), help="Folder of the records [CARRYOVER_RESULTS].")
@click.option("--stream", help="Only this stream.")
@click.option("--published", is_flag=True, help="Add published results of others below ours, marked as such.")
@click.option("--vary", help="One part of the contract that may differ within a table, such as backbone.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "csv", "json"]),
    default="terminal",
    show_default=True,
    help="How the tables are written.",
)
def report(results: Path | None, stream: str | None, vary: str | None, form: str, published: bool) -> int:
    """Show all records as tables, one per contract."""
    from carryover.commands import report as show

    return show.report(results, stream, vary, form, published)


@_carryover.command()
@click.argument("first")
@click.argument("second")
@click.option("--stream", default=STREAM, show_default=True, help="One stream; parameters after ?.")
@click.option("--backbone", default=BACKBONE, show_default=True, help="One backbone; parameters after ?.")
@click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only records run with this option.",
)
@click.option(
    "--selection",
    metavar="RULE",
    help="Only records whose options were chosen by this rule: as in run, or manual.",
)
@click.option("--metric", help="Default: the metric that sorts the table, accuracy_last or accuracy_mean.")
@click.option("--results", type=click.Path(path_type=Path), help="Folder of the records [CARRYOVER_RESULTS].")
def compare(metric: str | None, **asked: Any) -> int:
    """Compare two methods in pairs.

    Compares them seed by seed and image by image, under one contract. If the two share several contracts,
    the one of a run without options is taken. To compare two variants of a method, name their options:
    'lora?rank=4' 'lora?rank=8'.
    """
    from carryover.commands.compare import Asked
    from carryover.commands.compare import compare as compared

    return compared(Asked.typed(asked), metric)


@_carryover.command()
@click.argument("records", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORD...")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="Folder that keeps the new records. Default: none are kept.",
)
@click.option("--device", help="cpu, cuda or cuda:1. Default: the kind of device of the record.")
@click.option("--quiet", is_flag=True, help="Show only the comparison, no progress.")
def rerun(records: tuple[Path, ...], results: Path | None, device: str | None, quiet: bool) -> int:
    """Run the cells of records again and count the answers that differ.

    RECORD is the file of a record. Equal bits are promised on one kind of processor with one instruction set
    and number of threads; elsewhere a few answers differ. The exit code is 1 if more than 1 % of the answers
    differ in a cell on frozen features.
    """
    from carryover.commands import rerun as again

    return again.run(records, results, device, quiet=quiet)


@_carryover.command()
@click.argument("backbone")
@click.option("--source", required=True, help="Images to train on: the name of a source, or folder:PATH.")
@click.option(
    "--objective",
    type=click.Choice(["supervised", "mae", "simclr"]),
    default="supervised",
    show_default=True,
    help="What the backbone learns to do.",
)
@click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="A training setting, such as epochs=20.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="pretrained",
    show_default=True,
    help="Folder for the files.",
)
@click.option("--name", help="Name of the files, without ending [BACKBONE.OBJECTIVE].")
@click.option("--size", type=int, help="Side of the images in pixels, after resizing.")
@click.option("--terms", help="Licence of the images, if the source declares none.")
@click.option(
    "--no-mirror",
    is_flag=True,
    help="Never flip images: for classes that a flip changes. Known of digits, Omniglot and procedural "
    "images.",
)
@click.option(
    "--probe", "probes", multiple=True, help="A source to measure a linear probe on; may be repeated."
)
@click.option("--device", help="cpu, cuda or cuda:1. Default: the first GPU if there is one.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option("--quiet", is_flag=True, help="Show only warnings and the card, no progress.")
def pretrain(**asked: Any) -> int:
    """Pretrain a backbone on images, with or without their labels.

    Writes weights (safetensors, half precision), a card and the training curve to --out. After a kill, the
    same command continues. BACKBONE may name weights to start from: vit_64?weights=PATH.
    """
    from carryover.commands import pretrain

    return pretrain.run(asked)


@_carryover.command()
@click.argument("method")
@click.option(
    "--stream", required=True, help="Stream whose pool is used, such as episodes:SOURCE?support=100."
)
@click.option("--backbone", default=BACKBONE, show_default=True, help="One backbone; parameters after ?.")
@click.option(
    "-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the method."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="prepared",
    show_default=True,
    help="Folder for the files.",
)
@click.option("--terms", help="Licence of the pool's images, for the card.")
@click.option("--device", help="cpu, cuda or cuda:1. Default: the first GPU if there is one.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option("--quiet", is_flag=True, help="Show only warnings and the name of the file, no progress.")
def prepare(**asked: Any) -> int:
    """Train what a method needs before its first task.

    Pre-tunes the feedback of TOAST or meta-trains the head of CrossTransformer, and writes it to --out with
    a card. After a kill, the same command continues.
    """
    from carryover.commands import prepare

    return prepare.run(asked)


@_carryover.command()
@click.argument("name")
@click.option(
    "-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the method."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(name: str, options: tuple[str, ...], as_json: bool) -> int:
    """Test every promise of a plugin: a method, stream or backbone.

    A method runs on tiny streams of every protocol with tiny backbones. The exit code is 1 if a promise is
    broken.
    """
    from carryover.check import command

    return command.run(name, options, as_json)


@_carryover.command()
@click.option("--clear", is_flag=True, help="Remove everything from the cache.")
@click.option(
    "--limit",
    type=float,
    metavar="GIB",
    help="Remove the least recently used entries until the cache is this small.",
)
def cache(clear: bool, limit: float | None) -> int:
    """Show or clear the cache.

    It holds decoded images and features of frozen backbones. All of it can be computed again.
    """
    from carryover.commands import listing

    click.echo(listing.cache(clear, limit))
    return OK


def cli(arguments: list[str] | None = None) -> int:
    """Run a command; its exit code: 0 ok, 1 a cell failed, 2 the request was refused, 130 interrupted."""
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
    except BrokenPipeError:  # the reader of our output is gone: `carryover report | head`
        sys.stderr.close()
        return OK


def _interrupt(signum: int, frame: object) -> None:
    """Treat SIGTERM like Ctrl-C: keep the journal and print the command that continues."""
    raise KeyboardInterrupt
