"""What README and docs show is so: commands parse and run, Python runs, links lead somewhere.

A block is marked in the source, in a comment on the line before it: `<!-- not run: REASON -->` for what needs
data, a network or minutes, and `<!-- slow -->` for what takes longer than a few seconds. What is not run is
taken apart all the same: commands and their options exist, and so do the methods, streams and backbones.
`<!-- printed -->` stands before what the block before it prints, whose numbers may be others.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import click
import pytest

from backbones import names
from backbones.catalogue import find_recipe
from benchmarks.naming import parse, typed
from carryover.commands import cli, listing
from carryover.metrics.continual import continual_metrics
from carryover.metrics.few_shot import few_shot_metrics
from carryover.metrics.transfer import transfer_metrics
from carryover.plugins import catalogue
from carryover.records.row import Row

HOUSE = Path(__file__).resolve().parent.parent
PAGES = [HOUSE / "README.md", *sorted((HOUSE / "docs").glob("*.md"))]
# A cell takes all cores, and their threads wait for each other seven times as long if other tests run there.
ONE_CORE = ("taskset", "-c", str(max(os.sched_getaffinity(0)))) if shutil.which("taskset") else ()
ROOMS = ("benchmarks", "backbones", "methods", "carryover")
GENERATED = ("leaderboard", "methods", "streams", "backbones", "command-line")


@dataclass(frozen=True)
class Block:
    """A fenced block; mark: what the comment before it says; said: the line of text before it."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    said: str = ""

    @property
    def commands(self) -> list[list[str]]:
        """Words of each command of a shell block, comments off, lines joined, `&&` parted."""
        found: list[list[str]] = []
        for line in self.text.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in [*shlex.split(line, comments=True), "&&"]:
                if word == "&&":
                    found += [words] if words else []
                    words = []
                else:
                    words.append(word)
        return found


def blocks_of(page: Path) -> list[Block]:
    """Of a page, top to bottom."""
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    opened, before = 0, ["", ""]
    for number, line in enumerate(lines, start=1):
        if not line.startswith("```"):
            continue
        if not opened:
            opened = number
            before = ["", "", *filter(None, lines[: number - 1])][-2:]
            continue
        mark = re.fullmatch(r"<!-- (.*) -->", before[1])
        said = before[0] if mark else before[1]
        text = "\n".join(lines[opened : number - 1])
        language = lines[opened - 1][3:].strip()
        found.append(Block(page.name, opened, language, text, mark[1] if mark else "", said))
        opened = 0
    assert not opened, f"{page.name}:{opened} is never closed"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL = [block for block in BLOCKS if block.language == "sh"]


def named(blocks: list[Block]) -> list[object]:
    return [pytest.param(block, id=f"{block.page}:{block.line}") for block in blocks]


def test_every_block_has_a_language_that_is_tested() -> None:
    unknown = [f"{b.page}:{b.line}" for b in BLOCKS if b.language not in ("sh", "python", "", "text")]
    assert not unknown
    assert len(SHELL) >= 6
    for block in BLOCKS:
        assert block.mark in ("", "slow", "printed") or block.mark.startswith("not run: "), block


# Commands


@pytest.mark.parametrize("block", named(SHELL))
def test_commands_exist_and_name_what_exists(block: Block) -> None:
    seen = [check_command(words, written_by(block)) for words in block.commands]
    assert any(seen) or block.mark, f"nothing in {block} is known to this test"


def written_by(block: Block) -> set[str]:
    """Names of methods that a page makes itself."""
    made: set[str] = set()
    for words in (words for other in SHELL if other.page == block.page for words in other.commands):
        if words[:3] == ["carryover", "new", "method"]:
            made.add(words[3])
    return made | set(re.findall(r"make new METHOD=(\w+)", (HOUSE / "docs" / "index.md").read_text()))


def check_command(words: list[str], made: set[str]) -> bool:
    """Whether it is one of ours; an error for one that does not parse or names what is not there."""
    if words[0] == "make":
        ran = subprocess.run(
            ["make", "-n", *words[1:]], cwd=HOUSE, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        ours = [
            shlex.split(line) for line in ran.stdout.splitlines() if line.startswith(".venv/bin/carryover ")
        ]
        assert ours, f"{shlex.join(words)} runs no command of carryover"
        return all(check_command(["carryover", *found[1:]], made) for found in ours)
    if words[0] != "carryover":
        return False
    command = cli._carryover.commands[words[1]]
    given = command.make_context(words[1], list(words[2:])).params
    for method in (given.get("method") or "").split(","):
        if method and method not in made and not method.startswith("./"):
            check_method(method, given["options"])
    for stream in split_list(given.get("stream")):
        bare, parameters = parse(stream)
        typed(bare, "parameter", catalogue.stream_class(bare)[1].Parameters, parameters)
    for backbone in split_list(given.get("backbone")):
        spec = names.parse(backbone)
        assert find_recipe(spec.base) or is_timm(spec.base), backbone
    return True


def check_method(name: str, options: tuple[str, ...]) -> None:
    found = catalogue.method_class(name)[1]
    pairs = dict(option.split("=", 1) for option in options)
    typed(name, "option", found.Config, pairs)


def split_list(names: str | None) -> list[str]:
    return [name for name in (names or "").split(",") if name]


def is_timm(name: str) -> bool:
    import timm

    return name.partition(".")[0] in timm.list_models()


# Blocks that run


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.name)
def test_blocks_run(page: Path, tmp_path: Path) -> None:
    run_blocks([block for block in blocks_of(page) if not block.mark], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a page of commands that train, on a machine that does other things besides
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.mark == "slow" for b in blocks_of(p))], ids=lambda page: page.name
)
def test_slow_blocks_run(page: Path, tmp_path: Path) -> None:
    run_blocks([block for block in blocks_of(page) if not block.mark.startswith("not run")], tmp_path)


def run_blocks(blocks: list[Block], folder: Path) -> None:
    """One after another, in a copy of the house: what they write is there for those that follow."""
    if any(block.language == "sh" for block in blocks):
        for room in ROOMS:
            shutil.copytree(HOUSE / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            (folder / name).symlink_to(HOUSE / name)
        (folder / ".venv").symlink_to(sys.prefix)
    where = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "CARRYOVER_RESULTS": str(folder / "results"),
        "NO_COLOR": "1",
    }
    printed = ""
    for block in blocks:
        place = f"{block.page}:{block.line}"
        if block.mark == "printed":
            missing = set(without_numbers(block.text)) - set(without_numbers(printed))
            assert not missing, f"{place} has {missing}, printed was\n{printed}"
        if block.language == "sh":
            # No `make` between a shown command and what it does: .venv is as good as this environment.
            text = f'set -e\nmake() {{ command make -o .venv/.ready "$@"; }}\n{block.text}'
            ran = subprocess.run(
                [*ONE_CORE, "bash", "-c", text],
                cwd=folder,
                env=where,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ran.returncode == 0, f"{place}\n{ran.stdout}\n{ran.stderr}"
            printed = ran.stdout
        if block.language == "python":
            shown = ModuleType("shown_in_docs")
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(sys.modules, shown.__name__, shown)  # dataclasses look their module up there
                exec(compile(block.text, place, "exec"), vars(shown))
            saved = re.search(r"Save this as `([\w./]+)`", block.said)
            if saved:
                (folder / saved[1]).write_text(block.text + "\n", encoding="utf-8")


def without_numbers(text: str) -> list[str]:
    """The lines of a printed table, without what another machine or version prints otherwise."""
    text = re.sub(r"contract \w{8}", "contract", text)
    text = re.sub(r"\S+/carryover ", "carryover ", text)
    text = re.sub(r"\d[\d.±]*[kM]?", "#", text)
    return [" ".join(line.split()) for line in text.splitlines()]


# Links


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link to it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in found}


def links(page: Path) -> Iterator[tuple[str, str]]:
    """(path, anchor) of every link that leads into the house."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"https?:|mailto:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        made = target.parent.name == "generated" and target.stem in GENERATED
        assert made or target.exists(), f"{page.name} links to {path}, which is not there"
        if page.parent.name == "docs":  # a site has nothing else
            assert target.is_relative_to(page.parent), f"{page.name} links to {path}, which is not in docs/"
        if anchor and not made:
            assert anchor in anchors(target), f"{page.name} links to {path}#{anchor}, which is no heading"


def test_every_page_is_in_the_navigation() -> None:
    site = (HOUSE / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": ([\w/-]+\.md)$", site, re.MULTILINE))
    assert listed == {page.name for page in PAGES[1:]} | {f"generated/{name}.md" for name in GENERATED}


# Metrics


def test_every_metric_is_explained() -> None:
    rows = [Row(step=step, task=task, n=4, correct=2) for step in range(3) for task in range(2)]
    kinds = [
        (continual_metrics(rows), {}),
        (few_shot_metrics(rows[:2], ["a", "b"]), {"a": "SOURCE", "b": "SOURCE"}),
        (transfer_metrics(rows[:2], ["a", "b"], ["g", "g"]), {"a": "TASK", "b": "TASK", "g": "GROUP"}),
    ]
    page = (HOUSE / "docs" / "metrics.md").read_text(encoding="utf-8")
    for metrics, words in kinds:
        for name in metrics:
            kind, _, of = name.partition("/")
            said = f"{kind}/{words[of]}" if of else kind
            assert re.search(rf"^\| `{said}` \| .{{6,}}", page, re.MULTILINE), said


# What is made from the code


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages that `make docs` makes from the code."""
    folder = tmp_path_factory.mktemp("generated")
    runpy.run_path(str(HOUSE / "docs" / "catalogue"), run_name="catalogue")["write"](folder)
    return folder


def test_the_catalogue_names_all_that_ls_lists(generated: Path) -> None:
    for kind, rows in listing.listed("all").items():
        text = (generated / f"{kind}.md").read_text(encoding="utf-8")
        for name, row in rows.items():
            assert "problem" in row or re.search(rf"^\| \[?`{re.escape(name)}`", text, re.MULTILINE), name


def test_every_method_has_a_part_with_what_it_stores_and_its_options(generated: Path) -> None:
    import dataclasses

    text = (generated / "methods.md").read_text(encoding="utf-8")
    parts = {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}
    shared = parts["Options of every method that trains by gradient"]
    for name in listing.listed("methods")["methods"]:
        assert re.search(r"^\| stores \| \S.{10,} \|$", parts[name], re.MULTILINE), name
        assert re.search(r"^\| trains \| \S.{10,} \|$", parts[name], re.MULTILINE), name
        for option in dataclasses.fields(catalogue.method_class(name)[1].Config):
            said = rf"^\| `{option.name}` \|.*\| \S.* \|$"
            assert re.search(said, parts[name] + shared, re.MULTILINE), f"{name}: {option.name}"
    row = re.search(r"^\| \[`meat`\]\(#meat\) \|.*$", text, re.MULTILINE)
    assert row
    assert re.findall("[✓·]", row[0]) == list("✓··✓✓✓✓··")


def test_the_command_line_page_has_every_option(generated: Path) -> None:
    text = (generated / "command-line.md").read_text(encoding="utf-8")
    for name, command in cli._carryover.commands.items():
        part = text.partition(f"## carryover {name}\n")[2].partition("\n## ")[0]
        for option in command.params:
            if isinstance(option, click.Option):
                assert (option.opts[-1] in part) is not option.hidden, f"{name} {option.opts}"
    assert "[gradient|frozen|episodic|replay|distillation|penalty]" in text  # no backslash: it would be seen


# What `make docs` builds


class Page(HTMLParser):
    """A built page: the anchors it has, where its links lead, and what a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.anchors = path, {"", "__top"}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.classes: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.anchors |= {has[name] for name in ("id", "name") if name in has}
        self.classes |= set(has.get("class", "").split())
        leads = [has[name] for name in ("href", "src", "srcset", "data") if has.get(name)]
        (self.links if tag == "a" else self.loaded).extend(leads)


@pytest.fixture(scope="session")
def site(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make docs` would leave."""
    mkdocs = HOUSE / ".venv-docs" / "bin" / "mkdocs"
    if not mkdocs.exists():
        pytest.skip("there is no .venv-docs; `make docs` makes it")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(HOUSE / "docs", folder / "docs", ignore=shutil.ignore_patterns("generated"))
    shutil.copytree(generated, folder / "docs" / "generated")
    shutil.copy(HOUSE / "mkdocs.yml", folder)
    for room in ROOMS:
        (folder / room).symlink_to(HOUSE / room)
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(
        [mkdocs, "build", "--strict"], cwd=folder, env=quiet, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_site_fetches_nothing(site: Path) -> None:
    pages = [Page(path) for path in site.rglob("*.html")]
    assert len(pages) > len(PAGES)
    for page in pages:
        assert page.loaded
        for target in page.loaded:
            assert not re.match(r"(https?:)?//", target), f"{page.path.name} loads {target}"
            path = (page.path.parent / target.partition("?")[0]).resolve()
            # 404.html is for a server, and its paths for the server's root.
            assert page.path.name == "404.html" or path.exists(), f"{page.path.name}: {target} is missing"
    for style in site.rglob("*.css"):
        fetched = re.findall(r"url\(\s*[\"']?(?:https?:)?//[^)]*|@import", style.read_text(encoding="utf-8"))
        assert not fetched, f"{style.name} loads {fetched}"
    # The theme's script fetches for diagrams, a repository's stars, and browsers older than ResizeObserver.
    scripts = "".join(path.read_text(encoding="utf-8") for path in (site / "assets").rglob("*.js"))
    hosts = set(re.findall(r"[\"'`]https?://([\w.]*)", scripts))
    assert hosts <= {"unpkg.com", "api.github.com", ""}
    assert not {name for page in pages for name in page.classes} & {"mermaid", "md-source"}


@pytest.mark.slow
def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    for path, page in pages.items():
        for target in page.links:
            if not re.match(r"https?:|mailto:", target):
                to, _, anchor = target.partition("#")
                there = (path.parent / unquote(to)).resolve() if to else path
                assert there.exists(), f"{path.name} links to {target}"
                if there in pages:
                    assert unquote(anchor) in pages[there].anchors, f"{path.name} links to {target}"


@pytest.mark.slow
def test_the_search_has_every_page_also_where_it_is_opened_as_a_file(site: Path) -> None:
    written = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    index = json.loads(written)
    found = {entry["location"]: entry for entry in index["docs"]}
    for path in site.rglob("*.html"):
        assert path.name == "404.html" or found[path.relative_to(site).as_posix()]["title"], path
    assert "Meta-attention" in found["generated/methods.html#meat"]["text"]
    # The parts of a name are found, too.
    parts = re.split(index["config"]["separator"], "linear_probe -o lr=0.3")
    assert parts == ["linear", "probe", "o", "lr", "0.3"]
    # A page that was opened as a file may fetch no index and start no worker: both come as scripts.
    script = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert script.removeprefix("var __index = ") == written
    for path in site.rglob("*.html"):
        scripts = [target for target in Page(path).loaded if target.endswith(".js")]
        assert scripts[0].endswith("iframe-worker.js"), path.name
