"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import inspect

import click
import words

from carryover.commands import cli


def command_page() -> str:
    """Every command of `carryover`, with its arguments and options."""
    group = cli._carryover
    commands = sorted(group.commands.items())
    rows = [
        (f"[`carryover {name}`](#carryover-{name})", words.first_line(inspect.cleandoc(command.help or "")))
        for name, command in commands
    ]
    return words.page(
        "The command line",
        inspect.cleandoc(group.help or ""),
        "In a clone it is `.venv/bin/carryover`, once any `make` target has built `.venv`; "
        "`source .venv/bin/activate` puts it on the path. `make` has targets for the most frequent commands.",
        words.table(("command", "what it does"), rows),
        *(command_part(name, command) for name, command in commands),
        EXITS,
    )


EXITS = f"""## Exit codes

{
    words.table(
        ("code", "meaning"),
        [
            (str(cli.OK), "success"),
            (str(cli.FAILED), "a cell failed (the others ran), or a promise is broken"),
            (str(cli.REFUSED), "the request is not possible; nothing was started"),
            (str(cli.INTERRUPTED), "interrupted; the command that continues is printed"),
        ],
    )
}"""


def command_part(name: str, command: click.Command) -> str:
    """Its usage, its help, and a row for each option."""
    context = click.Context(
        command, info_name=name, parent=click.Context(cli._carryover, info_name="carryover")
    )
    usage = " ".join(command.collect_usage_pieces(context))
    shown = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    rows = [_row(option, context) for option in shown]
    parts = [
        f"## carryover {name}",
        f"```text\ncarryover {name} {usage}\n```",
        inspect.cleandoc(command.help or ""),
    ]
    return "\n\n".join([*parts, words.table(("option", "default", "what it is"), rows)] if rows else parts)


def _row(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    flags = ", ".join(option.opts)
    if not option.is_flag:
        flags += f" {option.make_metavar(context)}"
    default = "required" if option.required else ""
    if not option.is_flag and isinstance(option.default, str | int | float):
        default = f"`{option.default}`"
    return f"`{flags}`", default, option.help or ""
