"""SimCLR episodes: what a converted episode is made of, and the views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.crosstransformer import augmentation
from methods.crosstransformer.augmentation import (
    blur,
    brighter,
    contrasted,
    crop,
    grey,
    jitter,
    saturated,
    turned,
    views,
)
from methods.crosstransformer.episodes import converts, copied

labels = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(np.array)


def images(count: int = 6, side: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=60, deadline=None)
@given(labels, labels)
def test_an_image_has_a_copy_if_its_rank_is_within_its_class_s_queries(support, query):
    positions = copied(support, query)
    seen: dict[int, int] = {}
    expected = []
    for place, label in enumerate(support.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= (query == label).sum():
            expected.append(place)
    assert positions.tolist() == expected  # distinct, so every query has one positive and no two the same


def test_half_of_the_episodes_are_converted():
    count = 4_000
    for share in (0.5, 0.1):
        found = sum(converts(0, number, share) for number in range(count))
        assert abs(found - count * share) <= 3 * (count * share * (1 - share)) ** 0.5
    assert not any(converts(0, number, 0.0) for number in range(100))
    assert all(converts(0, number, 1.0) for number in range(100))
    assert [converts(1, n, 0.5) for n in range(64)] != [converts(2, n, 0.5) for n in range(64)]


def test_views_are_a_function_of_the_generator():
    first, second = (views(images(), (24, 32), drawn(3), blurred=True) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (6, 3, 24, 32)
    assert not torch.equal(first, views(images(), (24, 32), drawn(4), blurred=True))


@pytest.mark.parametrize("blurred", [True, False])
def test_views_stay_between_0_and_1(blurred):
    seen = views(images(64), (40, 40), drawn(), blurred=blurred)
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1


def test_only_queries_are_blurred_and_by_what_comes_last(monkeypatch):
    plain, query = (views(images(), (40, 40), drawn(5), blurred=blurred) for blurred in (False, True))
    assert not torch.equal(plain, query)
    monkeypatch.setattr(augmentation, "blur", lambda images, sigma: images)
    assert torch.equal(views(images(), (40, 40), drawn(5), blurred=True), plain)


def test_blur_keeps_the_mean_and_spreads_a_point_no_further_than_its_radius():
    sigma = torch.tensor([0.1, 2.0])
    flat = torch.full((2, 3, 40, 40), 0.3)
    assert torch.allclose(blur(flat, sigma), flat)
    point = torch.zeros(2, 3, 40, 40)
    point[:, :, 20, 20] = 1
    seen = blur(point, sigma)
    assert torch.allclose(seen.sum((2, 3)), torch.ones(2, 3))
    assert torch.allclose(seen[0], point[0], atol=1e-6)  # hardly any
    rows = torch.nonzero(seen[1, 0].sum(1)).flatten()
    assert (int(rows.min()), int(rows.max())) == (18, 22)  # (40 // 10) // 2 = 2
    small = images(2, 19)
    assert torch.equal(blur(small, sigma), small)  # a kernel of one pixel


def test_brightness_is_added_and_not_multiplied():
    black = torch.zeros(1, 3, 4, 4)
    assert torch.allclose(brighter(black, torch.full((1, 1, 1, 1), 0.4)), torch.full((1, 3, 4, 4), 0.4))


def test_contrast_keeps_each_channel_s_mean():
    seen = contrasted(images(2), torch.full((2, 1, 1, 1), 0.3))
    assert torch.allclose(seen.mean((2, 3)), images(2).mean((2, 3)), atol=1e-5)
    assert torch.allclose(seen.std((2, 3)), 0.3 * images(2).std((2, 3)), atol=1e-5)


def test_saturation_and_hue_against_python_s_own_colours():
    import colorsys

    pixels = images(1, 4)
    factor, turn = torch.full((1, 1, 1, 1), 0.6), torch.full((1, 1, 1, 1), -0.15)
    for change in ("saturation", "hue"):
        seen = saturated(pixels, factor) if change == "saturation" else turned(pixels, turn)
        for row in range(4):
            for column in range(4):
                h, s, v = colorsys.rgb_to_hsv(*pixels[0, :, row, column].tolist())
                h, s = (h, s * 0.6) if change == "saturation" else ((h - 0.15) % 1, s)
                expected = torch.tensor(colorsys.hsv_to_rgb(h, s, v))
                assert torch.allclose(seen[0, :, row, column], expected, atol=1e-5)


def test_grey_pixels_have_no_hue():
    pixels = grey(images(2))
    assert torch.equal(pixels[:, 0], pixels[:, 1])
    for change, amount in ((turned, 0.2), (saturated, 1.8)):
        assert torch.allclose(change(pixels, torch.full((2, 1, 1, 1), amount)), pixels, atol=1e-6)


def test_the_four_changes_come_in_every_order_and_are_cut_after_each(monkeypatch):
    order: list[list[str]] = [[] for _ in range(64)]
    pixels = torch.arange(64.0).view(64, 1, 1, 1).expand(64, 3, 2, 2) / 1000

    def noted(name):
        def change(some, amount):
            for image in some:  # each image knows its number
                order[round(float(image[0, 0, 0]) * 1000) % 1000].append(name)
                assert float(image.max()) <= 1
            return some

        return change

    for name in ("brighter", "contrasted", "saturated", "turned"):
        monkeypatch.setattr(augmentation, name, noted(name))
    jitter(pixels, drawn())
    assert all(sorted(names) == ["brighter", "contrasted", "saturated", "turned"] for names in order)
    assert len({tuple(names) for names in order}) > 15  # of 24

    monkeypatch.setattr(augmentation, "brighter", lambda some, amount: some + 5)
    assert float(jitter(pixels, drawn()).max()) == 1


def test_crops_cover_between_8_and_100_percent_and_a_whole_image_is_within_reach():
    # A ramp in x and in y: the mean of its slope tells how much of a side a crop takes.
    side = 32
    ramp = torch.linspace(0, 1, side)
    picture = torch.stack(
        [ramp.expand(side, side), ramp[:, None].expand(side, side), torch.zeros(side, side)]
    )
    seen = crop(picture.expand(500, -1, -1, -1), (side, side), drawn())
    inner = slice(1, -1)  # edges repeat the outermost pixel
    across = (seen[:, 0, :, inner].diff(dim=-1).mean((1, 2)) * (side - 1)).double()
    down = (seen[:, 1, inner].diff(dim=-2).mean((1, 2)) * (side - 1)).double()
    area, aspect = across * down, across / down
    assert float(area.min()) > 0.06
    assert float(area.max()) <= 1.001
    assert float(area.mean()) == pytest.approx(0.5, abs=0.06)  # fewer of the largest fit
    assert float(aspect.min()) > 0.72
    assert float(aspect.max()) < 1.4


def test_images_are_mirrored_half_the_time_and_only_where_their_class_stays(monkeypatch):
    monkeypatch.setattr(augmentation, "crop", lambda images, size, generator: images)
    monkeypatch.setattr(augmentation, "JITTERED", 0.0)
    monkeypatch.setattr(augmentation, "GREYED", 0.0)
    pixels = images(400, 4)
    seen = views(pixels, (4, 4), drawn(), blurred=False)
    flipped = (seen == pixels.flip(-1)).flatten(1).all(1)
    kept = (seen == pixels).flatten(1).all(1)
    assert bool((flipped | kept).all())
    assert abs(int(flipped.sum()) - 200) < 60
    assert torch.equal(views(pixels, (4, 4), drawn(), blurred=False, mirror=False), pixels)
