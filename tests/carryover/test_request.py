"""What was typed, as a matrix of cells."""

from __future__ import annotations

import shlex

import pytest

from benchmarks.errors import RequestError
from carryover.cells.request import Request, again
from carryover.commands import cli, prepare, pretrain
from carryover.plugins import catalogue
from carryover.plugins.plugin import Plugin


def typed(**words: object) -> Request:
    asked = {"method": "ncm", "stream": "split-digits", "backbone": "tiny_vit", "seed": "0"}
    return Request.typed({**asked, "options": (), "no_reuse": False, **words})


def test_a_name_that_is_listed_twice_counts_once() -> None:
    assert typed(method="ncm, meat,ncm").methods == ("ncm", "meat")


def test_all_are_those_that_ls_lists() -> None:
    listed = catalogue.methods()
    assert typed(method="all").methods == tuple(name for name in listed if not listed[name].problem)
    assert typed(method="./mine.py,all").methods == ("./mine.py", *typed(method="all").methods)


def test_all_leaves_out_what_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Plugin("broken", "", "theirs 1.0", "theirs", "Broken", problem="it raises")
    whole = Plugin("whole", "", "theirs 1.0", "theirs", "Whole")
    monkeypatch.setattr(catalogue, "methods", lambda: {"broken": broken, "whole": whole})
    assert typed(method="all").methods == ("whole",)


def test_a_method_carries_options_of_its_own_which_count_before_those_of_all() -> None:
    request = typed(method="lora?rank=4,lora?rank=8&lr=0.1,meat", options=("lr=0.2",))
    assert [(cell.method, cell.options) for cell in request.cells()] == [
        ("lora", {"rank": "4", "lr": "0.2"}),
        ("lora", {"rank": "8", "lr": "0.1"}),
        ("meat", {"lr": "0.2"}),
    ]
    one = request.cells()[1]
    words = request.words(one)
    assert words[:3] == ["run", "--method", "lora"]
    assert "rank=8" in words
    assert "lr=0.1" in words
    assert "lr=0.2" not in words
    assert "lora?rank=4,lora?rank=8&lr=0.1,meat" in request.words()
    with pytest.raises(RequestError, match="write rank=VALUE"):
        typed(method="lora?rank").cells()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("tiny_vit?mean=0.4,0.4,0.4", ("tiny_vit?mean=0.4,0.4,0.4",)),
        (
            "tiny_vit?mean=0.4, 0.4,.4&std=0.2,1e-1,0.2,tiny_swin",
            ("tiny_vit?mean=0.4,0.4,.4&std=0.2,1e-1,0.2", "tiny_swin"),
        ),
        ("tiny_vit?depth=2,tiny_swin?img_size=32,64", ("tiny_vit?depth=2", "tiny_swin?img_size=32,64")),
        ("tiny_vit,0.4", ("tiny_vit", "0.4")),
    ],
)
def test_a_parameter_of_several_numbers_is_no_list_of_names(text: str, names: tuple[str, ...]) -> None:
    request = typed(backbone=text)
    assert request.backbones == names
    words = request.words()
    assert typed(backbone=words[words.index("--backbone") + 1]) == request


def test_every_order_runs_with_every_seed_and_a_cell_is_typed_with_its_own() -> None:
    request = typed(order="1993,natural,2+0+1", seed="0,1")
    drawn = [(cell.order, cell.seed) for cell in request.cells()]
    assert drawn == [(order, seed) for order in ("1993", "natural", "2+0+1") for seed in (0, 1)]
    words = request.words(request.cells()[2])
    assert words[words.index("--order") :][:4] == ["--order", "natural", "--seed", "0"]
    words = request.words()
    assert words[words.index("--order") + 1] == "1993,natural,2+0+1"
    # What fills a row of the table runs with all of them.
    words = request.words(request.cells()[2], "joint")
    assert words[words.index("--order") :][:4] == ["--order", "1993,natural,2+0+1", "--seed", "0,1"]
    assert [cell.order for cell in typed().cells()] == [None]
    assert "--order" not in typed().words()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"method": ","}, "--method NAME"),
        ({"seed": "1,x"}, "--seed 0,1,2"),
        ({"seed": "-1"}, "--seed 0,1,2"),
        ({"options": ("lr",)}, "-o KEY=VALUE"),
        ({"options": ("=3",)}, "-o KEY=VALUE"),
    ],
)
def test_what_is_no_request_says_what_to_write(words, said) -> None:
    with pytest.raises(RequestError, match=said):
        typed(**words)


PREPARE, PRETRAIN = "prepare toast --stream episodes:a", "pretrain vit_64 --source a"


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        (PREPARE, prepare.KEYS),
        (f"{PREPARE} --out 'my files' --threads 2 -o lr=0.1 -o epochs=2 --quiet", prepare.KEYS),
        (f"{PRETRAIN} --probe b --probe c -o epochs=2 --no-mirror --terms 'for all'", pretrain.KEYS),
    ],
)
def test_a_command_typed_again_asks_for_the_same(line: str, keys: tuple[str, ...]) -> None:
    name, *rest = shlex.split(line)
    command = cli._carryover.commands[name]
    asked = command.make_context(name, list(rest)).params
    words = again(name, rest[0], asked, keys)
    assert words[0] == name
    assert command.make_context(name, words[1:]).params == asked


def test_a_request_is_typed_again_with_how_it_is_run_and_a_cell_without() -> None:
    request = typed(jobs=2, workers=0, timeout=60.0, wandb="mine", quiet=True)
    how = ["--jobs", "2", "--workers", "0", "--timeout", "60.0", "--wandb", "mine", "--quiet"]
    assert request.words()[-len(how) :] == how
    flags = {word for word in how if word.startswith("--")}
    assert not flags & set(request.words(request.cells()[0]))
    assert not flags & set(typed(jobs=1, workers=2, timeout=None).words())
