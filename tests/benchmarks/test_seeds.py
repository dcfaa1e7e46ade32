"""Draws: from what they are for, and from nothing else."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.seeds import Seeds, derive, generator

PARTS = st.lists(st.text(max_size=5) | st.integers(), max_size=4)


@given(PARTS, PARTS)
def test_other_parts_give_another_seed(a: list[str | int], b: list[str | int]) -> None:
    assert (derive(*a) == derive(*b)) == ([(type(x), x) for x in a] == [(type(x), x) for x in b])


@given(PARTS)
def test_a_seed_fits_torch_and_numpy(parts: list[str | int]) -> None:
    assert 0 <= derive(*parts) < 2**63


def test_the_cut_between_parts_and_their_type_count() -> None:
    assert len({derive("ab", "c"), derive("a", "bc"), derive("abc"), derive("abc", "")}) == 4
    assert derive(1) != derive("1")


def test_seeds_are_pinned_for_all_machines_and_processes() -> None:
    # A change here changes every split and batch ever drawn.
    assert derive("val", "digits", 0) == 5541818902329010971
    code = "from benchmarks.seeds import generator; print(*generator('val', 3).permutation(8))"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fresh.stdout.split() == [str(n) for n in generator("val", 3).permutation(8)]


def test_methods_share_what_is_the_streams_and_not_what_is_their_own() -> None:
    meat, ncm = Seeds("digits", 0, "meat"), Seeds("digits", 0, "ncm")
    assert meat.shared("order", 1) == ncm.shared("order", 1)
    assert meat.own("order", 1) != ncm.own("order", 1)
    assert meat.own("order", 1) != meat.shared("order", 1)


def test_every_part_of_a_cell_changes_its_draws() -> None:
    base = Seeds("digits", 0, "meat").own("head", "0")
    others = [
        Seeds("cifar", 0, "meat").own("head", "0"),
        Seeds("digits", 1, "meat").own("head", "0"),
        Seeds("digits", 0, "meat").own("noise", "0"),
        Seeds("digits", 0, "meat").own("head", "1"),
    ]
    assert base not in others
