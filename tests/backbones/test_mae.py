"""MAE reproduces its authors' numbers, sees nothing of what it removes, and leaves an ordinary ViT behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.pretraining.mae import MAE, reconstruction_loss
from backbones.pretraining.masking import (
    draw_masking,
    kept_patches,
    normalised,
    patchify,
    position_code,
    unpatchify,
)
from benchmarks.errors import RequestError

GOLDEN = Path(__file__).parents[1] / "golden" / "mae.npz"
NO_LABELS = torch.empty(0)


def vit(**arguments: object) -> VisionTransformer:
    """32 px, patch 8: 16 patches and CLS, width 32, two blocks."""
    torch.manual_seed(0)
    settings = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return VisionTransformer(**{**settings, "num_classes": 0, **arguments})


def mae(net: nn.Module | None = None, **settings: object) -> MAE:
    return MAE(net or vit(), **{"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2, **settings})


def images(batch: int = 3, height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def noise(batch: int, patches: int, seed: int = 2) -> Tensor:
    return torch.rand(batch, patches, generator=torch.Generator().manual_seed(seed))


# The authors' numbers


def golden(norm_pix: bool) -> tuple[dict[str, Tensor], MAE]:
    """The golden arrays in float64, and an MAE with their weights."""
    loaded = np.load(GOLDEN)
    arrays = {name: torch.from_numpy(np.asarray(loaded[name])) for name in loaded}
    size, patch, width, depth, heads, *decoder = arrays.pop("config").tolist()
    net = VisionTransformer(
        img_size=size, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, num_classes=0
    )
    decoder_width, decoder_heads, decoder_depth = decoder[0], decoder[2], decoder[1]
    model = MAE(net, decoder_width, decoder_depth, decoder_heads, norm_pix=norm_pix)
    ours = {
        "mask_token": "decoder.mask_token",
        "decoder_embed": "decoder.embed",
        "decoder_blocks": "decoder.blocks",
        "decoder_norm": "decoder.norm",
        "decoder_pred": "decoder.predict",
    }
    weights = {}
    for name in [name for name in arrays if name.startswith("w:") and name != "w:decoder_pos_embed"]:
        head, dot, rest = name[2:].partition(".")
        weights[ours.get(head, f"net.{head}") + dot + rest] = arrays[name]
    model.load_state_dict(weights, strict=True)
    return {name: tensor.double() for name, tensor in arrays.items()}, model


def relative(ours: Tensor, reference: Tensor) -> float:
    return float((ours.detach() - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("norm_pix", [True, False])
def test_the_authors_code_is_reproduced(norm_pix, dtype):
    arrays, model = golden(norm_pix)
    model = model.to(dtype)
    masking = draw_masking(arrays["noise"], model.keep)
    assert torch.equal(masking.removed, arrays["mask"])
    pictures = arrays["images"].to(dtype)
    patches = patchify(pictures, model.patch)
    assert relative(patches, arrays["patches"]) < 1e-7
    pred = model.decoder(model.encode(pictures, masking.kept), masking.restore)
    assert relative(pred, arrays["pred"]) < 1e-4
    target = normalised(patches) if norm_pix else patches
    expected = arrays["loss_norm_pix" if norm_pix else "loss_raw"]
    assert relative(reconstruction_loss(pred, target, masking.removed), expected) < 1e-4
    assert relative(model.loss(pictures, arrays["noise"]), expected) < 1e-4


def test_the_authors_position_codes_are_reproduced():
    arrays, _ = golden(norm_pix=True)
    assert relative(position_code((4, 4), 32), arrays["pos_embed"][0]) < 1e-6
    assert relative(position_code((4, 4), 24), arrays["w:decoder_pos_embed"][0]) < 1e-6


# Position code and patches


def test_code_rows_have_half_the_width_as_squared_norm_and_the_class_token_has_none():
    code = position_code((3, 5), 48)
    assert code.shape == (16, 48)
    assert not code[0].any()
    torch.testing.assert_close(code[1:].square().sum(1), torch.full((15,), 24.0))
    apart = torch.cdist(code, code) + torch.eye(16) * 9
    assert float(apart.min()) > 0.3


def test_code_tells_the_column_first_then_the_row():
    code = position_code((3, 5), 48)[1:].unflatten(0, (3, 5))
    columns, rows = code[..., :24], code[..., 24:]
    assert torch.equal(columns, columns[:1].expand(3, -1, -1))
    assert torch.equal(rows, rows[:, :1].expand(-1, 5, -1))
    omega = 10000 ** (-5 / 12)
    expected = [np.sin(4 * omega), np.cos(4 * omega), np.sin(2 * omega), np.cos(2 * omega)]
    np.testing.assert_allclose(code[2, 4, [5, 17, 29, 41]], expected, atol=1e-6)


@pytest.mark.parametrize("patch", [(4, 4), (8, 2), (1, 1)])
def test_unpatchify_undoes_patchify(patch):
    pictures = images(2, 16, 24)
    patches = patchify(pictures, patch)
    assert patches.shape == (2, 16 * 24 // (patch[0] * patch[1]), patch[0] * patch[1] * 3)
    assert torch.equal(unpatchify(patches, patch, (16 // patch[0], 24 // patch[1])), pictures)


def test_a_patch_is_row_column_channel_and_patches_are_in_row_order():
    pictures = images(2, 16, 24)
    patches = patchify(pictures, (4, 8)).view(2, 4, 3, 4, 8, 3)
    for row, column, y, x, channel in ((0, 0, 0, 0, 0), (3, 2, 1, 7, 2), (1, 0, 3, 4, 1)):
        expected = pictures[:, channel, 4 * row + y, 8 * column + x]
        assert torch.equal(patches[:, row, column, y, x, channel], expected)


# The mask


@given(st.integers(1, 5), st.integers(2, 70), st.data())
def test_restore_undoes_the_shuffle_and_the_mask_tells_what_was_removed(batch, patches, data):
    keep = data.draw(st.integers(1, patches - 1))
    drawn = noise(batch, patches, seed=data.draw(st.integers(0, 99)))
    everything = draw_masking(drawn, patches)
    identity = torch.arange(patches).expand(batch, -1)
    assert torch.equal(everything.kept.gather(1, everything.restore), identity)
    kept, restore, removed = draw_masking(drawn, keep)
    assert torch.equal(restore, everything.restore)
    assert torch.equal(kept, everything.kept[:, :keep])
    assert removed.sum(1).tolist() == [patches - keep] * batch
    assert torch.equal(removed, torch.ones(batch, patches).scatter(1, kept, 0))
    loudest_kept = drawn.masked_fill(removed == 1, 0).amax(1)
    assert bool((loudest_kept <= drawn.masked_fill(removed == 0, 1).amin(1)).all())


def test_every_position_is_removed_as_often_as_the_ratio_says():
    removed = draw_masking(noise(4000, 64), 16).removed
    assert float((removed.mean(0) - 0.75).abs().max()) < 4.5 * (0.75 * 0.25 / 4000) ** 0.5


@pytest.mark.parametrize(
    ("patches", "ratio", "kept"),
    [(64, 0.75, 16), (100, 0.9, 10), (196, 0.75, 49), (49, 0.75, 12), (16, 0.9, 2)],
)
def test_the_number_kept_is_rounded(patches, ratio, kept):
    assert kept_patches(patches, ratio) == kept


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_a_ratio_that_is_no_share_is_refused(ratio):
    with pytest.raises(RequestError, match=r"mask_ratio=.* between 0 and 1"):
        mae(mask_ratio=ratio)


@pytest.mark.parametrize(("ratio", "what"), [(0.99, "keeps none of 16"), (0.01, "removes none of 16")])
def test_a_ratio_that_leaves_nothing_to_do_is_refused(ratio, what):
    with pytest.raises(RequestError, match=what):
        mae(mask_ratio=ratio)


# What the network sees


@pytest.mark.parametrize("training", [False, True])
def test_removed_pixels_are_not_seen_and_kept_ones_are(training):
    model = mae().train(training)
    before = images()
    kept, _, removed = draw_masking(noise(3, 16), model.keep)
    other = patchify(torch.rand_like(before), model.patch)
    hidden = unpatchify(
        torch.where(removed[:, :, None] == 1, other, patchify(before, model.patch)), model.patch, (4, 4)
    )
    assert not torch.equal(hidden, before)
    latent = model.encode(before, kept)
    assert latent.shape == (3, 1 + 4, 32)
    assert torch.equal(model.encode(hidden, kept), latent)
    shown = patchify(before, model.patch)
    shown[0, kept[0, 0]] += 1
    changed = (model.encode(unpatchify(shown, model.patch, (4, 4)), kept) != latent).flatten(1).any(1)
    assert changed.tolist() == [True, False, False]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"no_embed_class": True},
        {"pre_norm": True, "init_values": 0.1, "qk_norm": True},
        {"img_size": (16, 48), "patch_size": (4, 8), "num_classes": 5},
    ],
)
def test_with_every_patch_kept_it_is_timm_s_forward(arguments):
    net = vit(**arguments)
    model = mae(net).eval()
    pictures = images(2, *net.patch_embed.img_size)
    everything = torch.arange(model.patches).expand(2, -1)
    torch.testing.assert_close(model.encode(pictures, everything), net.forward_features(pictures))


def test_the_order_in_which_patches_are_kept_does_not_matter():
    model = mae().double()
    kept = torch.tensor([[3, 7, 12, 5]])
    latent, other = (model.encode(images(1).double(), order) for order in (kept, kept.flip(1)))
    torch.testing.assert_close(other[:, 0], latent[:, 0])
    torch.testing.assert_close(other[:, 1:], latent[:, 1:].flip(1))


@pytest.mark.parametrize("dropout", ["pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"])
def test_dropout_of_the_network_is_applied_while_it_trains(dropout):
    model = mae(vit(**{dropout: 0.5}))
    kept = draw_masking(noise(3, 16), 4).kept
    assert not torch.equal(model.encode(images(), kept), model.encode(images(), kept))
    model.eval()
    assert torch.equal(model.encode(images(), kept), model.encode(images(), kept))


def test_encoder_and_decoder_have_the_lengths_of_the_paper():
    model = mae()
    lengths = []
    for block in (model.net.blocks[0], model.decoder.blocks[0]):
        block.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    model(images(), NO_LABELS)
    assert lengths == [4 + 1, 16 + 1]


def test_every_layer_norm_has_the_paper_s_epsilon():
    norms = [module for module in mae().modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 2 * 2 + 1 + 2 + 1
    assert {norm.eps for norm in norms} == {1e-6}


# The loss


def test_only_removed_patches_enter_the_loss():
    removed = draw_masking(noise(3, 16), 4).removed
    pred = torch.randn(3, 16, 48, requires_grad=True)
    reconstruction_loss(pred, torch.randn(3, 16, 48), removed).backward()
    assert not pred.grad[removed == 0].any()
    assert bool((pred.grad[removed == 1] != 0).all())


def test_loss_is_the_mean_over_removed_patches_of_the_mean_squared_error():
    removed = draw_masking(noise(3, 16), 4).removed
    pred, target = torch.randn(2, 3, 16, 48, dtype=torch.float64)
    errors = [float((pred[b, p] - target[b, p]).square().mean()) for b, p in removed.nonzero().tolist()]
    assert float(reconstruction_loss(pred, target, removed)) == pytest.approx(sum(errors) / len(errors))


@pytest.mark.parametrize("scale", [1.0, 0.01, 1e-3])
def test_predicting_zero_has_the_loss_of_the_formula(scale):
    model = mae().double()
    nn.init.zeros_(model.decoder.predict.weight)
    pictures = images().double() * scale
    drawn = noise(3, 16)
    patches = patchify(pictures, model.patch)[draw_masking(drawn, 4).removed == 1]
    values = 3 * 8 * 8
    variance = patches.var(1)
    expected = (values - 1) / values * (variance / (variance + 1e-6)).mean()
    torch.testing.assert_close(model.loss(pictures, drawn), expected)


def test_a_flat_patch_has_the_target_zero():
    assert not normalised(torch.full((1, 2, 48), 0.5)).any()


def test_training_finds_in_the_visible_patches_what_the_others_show():
    # Each image repeats one of two tiles; painting their mean, blind to which one, would cost 0.5.
    torch.manual_seed(0)
    tiles = torch.randn(2, 3, 8, 8).repeat(4, 1, 4, 4)
    model = mae()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        model(tiles, NO_LABELS).backward()
        optimizer.step()
    assert float(model(tiles, NO_LABELS).detach()) < 0.2


def test_masks_come_from_the_global_generator():
    model = mae()
    losses = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        losses.append(float(model(images(), NO_LABELS).detach()))
    assert losses[0] == losses[1] != losses[2]


def test_bfloat16_gives_a_float32_loss_near_the_exact_one():
    model, drawn = mae(), noise(3, 16)
    exact = model.loss(images(), drawn)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(images(), drawn)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


# What is left behind


def test_everything_but_the_position_code_is_trained():
    model = mae()
    model(images(), NO_LABELS).backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == {"net.pos_embed"}
    assert not model.net.pos_embed.requires_grad


def test_the_network_is_timm_s_again_and_lacks_only_a_classifier():
    model = mae()
    model(images(), NO_LABELS).backward()
    fresh = vit(num_classes=7)
    missing, unexpected = fresh.load_state_dict(model.net.state_dict(), strict=False)
    assert (sorted(missing), unexpected) == (["head.bias", "head.weight"], [])
    assert torch.equal(fresh.pos_embed[0], position_code((4, 4), 32))
    expected = model.net.eval()(images())
    assert torch.equal(fresh.eval().forward_head(fresh.forward_features(images()), pre_logits=True), expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"class_token": False, "global_pool": "avg"}, "no class token; take class_token=true"),
        ({"reg_tokens": 2}, "register tokens; take reg_tokens=0"),
        ({"global_pool": "avg"}, "'avg'; take global_pool=token"),
        ({"global_pool": "map"}, "'map'; take global_pool=token"),
        ({"fc_norm": True}, "norms after pooling; take fc_norm=false"),
        ({"final_norm": False}, "no norm after its blocks; take final_norm=true"),
        ({"pos_embed": "none"}, "no position code; take pos_embed=learn"),
        ({"patch_drop_rate": 0.5}, "drops patches itself; take patch_drop_rate=0"),
        ({"dynamic_img_size": True}, "any size; take dynamic_img_size=false"),
        ({"img_size": 36}, "patch 8x8 does not divide the image of 36x36; take"),
        ({"embed_dim": 30}, "width 30 has no 2-D sin-cos position code; take a multiple of 4"),
    ],
)
def test_a_vit_that_does_not_fit_is_refused_with_the_way_out(arguments, said):
    net = vit(**arguments)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(RequestError, match=said):
        mae(net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    "name", ["test_convnext", "swin_tiny_patch4_window7_224", "deit_tiny_distilled_patch16_224"]
)
def test_a_network_that_is_no_plain_vit_is_refused(name):
    with torch.device("meta"):
        net = timm.create_model(name)
    with pytest.raises(RequestError, match=f"this network is a {type(net).__name__}; take a ViT"):
        mae(net)


def test_a_convolutional_stem_is_refused_because_it_sees_beyond_the_patch():
    with torch.device("meta"):
        net = timm.create_model("vit_small_r26_s32_224")
    with pytest.raises(RequestError, match="does not embed each patch by itself"):
        mae(net)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"decoder_depth": 0}, "decoder_depth=0 must be at least 1"),
        ({"decoder_width": 18}, "decoder_width=18 must be a multiple of 4"),
        ({"decoder_width": 16, "decoder_heads": 3}, "and of decoder_heads=3"),
        ({"decoder_heads": 0}, "decoder_heads=0"),
    ],
)
def test_a_decoder_that_cannot_be_built_is_refused(settings, said):
    with pytest.raises(RequestError, match=said):
        mae(**settings)
