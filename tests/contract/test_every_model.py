"""Every network kind: shapes, ranges, classes, channels, odd sizes, 2-D and 3-D, and slopes of every weight."""

from collections.abc import Callable
from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from radsynth.device import module_channels_last
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.models import build, discriminator_norm, takes
from radsynth.models._spectral import SpectralNorm
from radsynth.models.sngan import Residual
from radsynth.settings import kinds, resolve, settings_class

FAMILIES = {kind: takes(settings_class("model", kind)()) for kind in kinds("models")}
KINDS = [kind for kind, family in FAMILIES.items() if family == "noise"]
IMAGE_KINDS = [kind for kind, family in FAMILIES.items() if family == "image"]
MASK_KINDS = [kind for kind, family in FAMILIES.items() if family == "mask"]
SPECS = {
    "grey": ImageSpec(size=(32, 32)),
    "classes": ImageSpec(size=(32, 32), labels=("a", "b", "c")),
    "two channels, odd and not square": ImageSpec(size=(40, 28), channels=("t1", "t2")),
    "volume": ImageSpec(size=(8, 16, 12)),
}


def sample(spec: ImageSpec, generator: torch.nn.Module, n: int = 3) -> tuple[Tensor, Tensor | None]:
    labels = torch.arange(n) % len(spec.labels) if len(spec.labels) > 1 else None
    images: Tensor = generator(torch.randn(n, generator.latent), labels)
    return images, labels


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_gradients(kind: str, spec: ImageSpec) -> None:
    torch.manual_seed(0)
    networks = {name: module_channels_last(network, spec.dimensions)
                for name, network in build(settings_class("model", kind)(), spec).items()}
    images, labels = sample(spec, networks["generator"])
    assert images.shape == (3, len(spec.channels), *spec.size)
    assert torch.isfinite(images).all()
    logits = networks["discriminator"](images, labels)
    assert logits.shape == (3,) and logits.dtype == torch.float32
    logits.square().sum().backward()
    for name, network in networks.items():
        silent = [key for key, weight in network.named_parameters() if weight.grad is None]
        assert not silent, f"{name}: no gradient reaches {silent}"


@pytest.mark.parametrize(("size", "grids"), [
    ((64, 64), [8, 8, 16, 16]), ((28, 28), [14, 14]), ((128, 128), [8, 8, 16, 16]), ((8, 16, 12), []),
    ((16, 32, 24), [16, 16]),
])
def test_residual_convolutions_lie_on_coarse_grids(size: tuple[int, ...], grids: list[int]) -> None:
    spec, seen = ImageSpec(size=size), []
    generator = build(settings_class("model", "sngan")(residual=2, width=8), spec)["generator"]
    for layer in generator.modules():
        if isinstance(layer, Residual):
            layer.register_forward_hook(lambda layer, given, made: seen.append(max(made.shape[2:])))
    images, _ = sample(spec, generator)
    images.square().sum().backward()
    assert images.shape[2:] == size and seen == grids
    assert all(weight.grad is not None for weight in generator.parameters())


@pytest.mark.parametrize(("size", "grid"), [((28, 28), (7, 7)), ((64, 48), (8, 6)), ((8, 16, 12), (4, 8, 6))])
def test_further_convolutions_of_a_discriminator_lie_on_its_coarsest_grid(
    size: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    spec, seen = ImageSpec(size=size), []
    discriminator = build(settings_class("model", "sngan")(discriminator_convolutions=2), spec)["discriminator"]
    for layer in discriminator.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d) and layer.kernel_size[0] == 3:
            assert is_parametrized(layer, "weight")  # spectrally normalised
            layer.register_forward_hook(lambda layer, given, made: seen.append(tuple(made.shape[2:])))
    discriminator(torch.randn(2, 1, *size)).square().sum().backward()
    assert seen == [grid, grid] and all(weight.grad is not None for weight in discriminator.parameters())


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_can_be_taken_in_mixed_precision(kind: str, spec: ImageSpec) -> None:
    torch.manual_seed(0)
    networks = build(settings_class("model", kind)(), spec)
    if kind == "progressive":
        networks["discriminator"].advance(0.3)  # type: ignore[operator]  # torch's stub: a module
    with torch.autocast("cpu", torch.bfloat16):
        images, labels = sample(spec, networks["generator"])
        images = images.detach().float().requires_grad_(True)
        (slope,) = torch.autograd.grad(networks["discriminator"](images, labels).sum(), images, create_graph=True)
        slope.square().sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it
    assert all(w.grad is None or torch.isfinite(w.grad).all() for w in networks["discriminator"].parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_different_latents_give_different_images_and_classes_matter(kind: str) -> None:
    torch.manual_seed(0)
    spec = SPECS["classes"]
    generator = build(settings_class("model", kind)(), spec)["generator"].eval()
    latents = torch.randn(2, generator.latent)
    first = generator(latents, torch.tensor([0, 0]))
    assert not torch.allclose(first[0], first[1])
    assert not torch.allclose(first, generator(latents, torch.tensor([1, 1])))


@pytest.mark.parametrize("kind", KINDS)
def test_a_discriminator_judges_an_image_as_one_of_its_class(kind: str) -> None:
    torch.manual_seed(0)
    discriminator = build(settings_class("model", kind)(), SPECS["classes"])["discriminator"].eval()
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    one, other = (discriminator(images, torch.tensor([label, label])) for label in (0, 1))
    assert not torch.allclose(one, other), "a generator could draw every class alike"


@pytest.mark.parametrize("kind", KINDS)
def test_the_settings_say_how_long_latents_are(kind: str) -> None:
    settings = resolve(overrides=(f"model.kind={kind}", "model.latent=7")).section("model")
    assert build(settings, SPECS["grey"])["generator"].latent == settings.latent == 7


@pytest.mark.parametrize("kind", KINDS)
def test_without_batch_statistics_an_image_does_not_depend_on_its_batch(kind: str) -> None:
    torch.manual_seed(0)
    generator = build(settings_class("model", kind)(), SPECS["grey"])["generator"].eval()
    latents = torch.randn(5, generator.latent)
    assert torch.allclose(generator(latents)[2:3], generator(latents[2:3]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_that_cannot_be_made_is_refused(kind: str) -> None:
    spec = ImageSpec(size=(5, 64))
    try:
        networks = build(settings_class("model", kind)(), spec)
    except SettingsError as error:
        assert "5x64" in str(error)
    else:
        assert sample(spec, networks["generator"])[0].shape == (3, 1, 5, 64)


NORMS = [(kind, norm) for kind in KINDS
         for norm in get_args(get_type_hints(settings_class("model", kind)).get("discriminator_norm")) or [""]]


@pytest.mark.parametrize(("kind", "norm"), NORMS)
def test_a_discriminator_is_normalised_as_the_network_says(kind: str, norm: str) -> None:
    """The Wasserstein loss is refused without a Lipschitz constraint, and penalties with statistics of batches."""
    settings = settings_class("model", kind)(**{"discriminator_norm": norm} if norm else {})
    layers = list(build(settings, SPECS["classes"])["discriminator"].modules())
    weights = [layer for layer in layers if not list(layer.children())
               and any(weight.ndim > 1 for weight in layer.parameters())]
    divided = [layer for layer in layers if is_parametrized(layer)
               and isinstance(layer.parametrizations.weight[0], SpectralNorm)]
    batches = [layer for layer in layers if isinstance(layer, BatchNorm)]
    found = "batch" if batches else "spectral" if divided and not weights else "none"
    assert discriminator_norm(settings) == found


def test_mlp_is_the_surveys() -> None:
    networks = build(settings_class("model", "mlp")(), ImageSpec(size=(64, 64)))
    shapes = [tuple(w.shape) for name, w in networks["generator"].named_parameters() if w.ndim == 2]
    assert shapes == [(256, 100), (512, 256), (1024, 512), (4096, 1024)]
    shapes = [tuple(w.shape) for name, w in networks["discriminator"].named_parameters() if w.ndim == 2]
    assert shapes == [(512, 4096), (256, 512), (1, 256)]


def test_every_kind_belongs_to_a_family_and_images_are_refused_as_noise_and_noise_as_images() -> None:
    assert {"noise", "image"} <= set(FAMILIES.values()) <= {"noise", "image", "code", "mask"}
    grey = SPECS["grey"]
    for kind, family in FAMILIES.items():
        source = (grey, 2) if family != "image" else ()
        with pytest.raises(SettingsError, match=f"takes {family}, but"):
            build(settings_class("model", kind)(), grey, *source)


def image_networks(kind: str, spec: ImageSpec) -> dict[str, torch.nn.Module]:
    """From two channels to those of `spec`; weights away from zero, where some layers begin."""
    torch.manual_seed(0)
    source = ImageSpec(size=spec.size, channels=("t1", "flair"))
    networks = build(settings_class("model", kind)(), spec, source, 2 + len(spec.channels))
    with torch.no_grad():
        for weight in networks["generator"].parameters():
            weight.add_(torch.randn_like(weight), alpha=0.02)
    return networks


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_image_to_image_shapes_and_gradients(kind: str, spec: ImageSpec) -> None:
    networks = image_networks(kind, spec)
    given = torch.randn(3, 2, *spec.size)
    made = networks["generator"](given)
    assert made.shape == (3, len(spec.channels), *spec.size) and torch.isfinite(made).all()
    seen = networks["generator"](given, encode=True)
    assert [one.shape[:2] for one in seen] == [(3, width) for width in networks["generator"].widths]
    logits = networks["discriminator"](torch.cat([given, made], dim=1))
    assert logits.shape[:2] == (3, 1) and logits.ndim == given.ndim and logits.dtype == torch.float32
    logits.square().sum().backward()
    for name, network in networks.items():
        silent = [key for key, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert not silent, f"{name}: no gradient reaches {silent}"


@pytest.mark.parametrize("space", [(5, 7), (33, 50), (3, 9, 11)])
@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_image_to_image_takes_any_size_and_each_image_alone(kind: str, space: tuple[int, ...]) -> None:
    spec = SPECS["volume"] if len(space) == 3 else SPECS["grey"]
    generator = image_networks(kind, spec)["generator"].eval()
    given = torch.randn(3, 2, *space)
    made = generator(given)
    assert made.shape == (3, 1, *space)
    assert torch.allclose(made[1:2], generator(given[1:2]), atol=1e-5)


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_image_to_image_reaches_no_further_than_it_says(kind: str) -> None:
    generator = image_networks(kind, SPECS["grey"])["generator"].eval()
    reach, stride = generator.reach, generator.stride
    side = -(-(2 * reach + 3 * stride) // stride) * stride
    given = torch.randn(1, 2, side, side, requires_grad=True)
    centre = side // 2 + 1
    generator(given)[0, 0, centre, centre].backward()
    assert given.grad is not None
    touched = given.grad[0].abs().amax(0).nonzero() - centre
    assert 0 < int(touched.abs().max()) <= reach
    with torch.no_grad():
        shifted = generator(given[:, :, stride:])[0, 0, centre - stride, centre]
        assert torch.allclose(shifted, generator(given)[0, 0, centre, centre], atol=1e-5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize("kind", [kind for kind, family in FAMILIES.items() if family == "code"])
def test_an_encoder_gives_codes_that_the_generator_redraws(kind: str, spec: ImageSpec) -> None:
    torch.manual_seed(0)
    networks = build(settings_class("model", kind)(), spec, codes=True)
    images, labels = sample(spec, networks["generator"])
    assert images.shape == (3, len(spec.channels), *spec.size) and images.abs().max() <= 1
    codes = networks["encoder"](images, labels)
    assert codes.shape == (3, 2, networks["generator"].latent) and codes.dtype == torch.float32
    networks["generator"](codes.sum(1), labels).square().sum().backward()
    for name, network in networks.items():
        silent = [key for key, weight in network.named_parameters() if weight.grad is None]
        assert not silent, f"{name}: no gradient reaches {silent}"


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize("kind", MASK_KINDS)
def test_masks_to_images_shapes_gradients_and_styles(kind: str, spec: ImageSpec) -> None:
    networks = mask_networks(kind, spec)
    generator = networks["generator"]
    masks = shares(spec.size)
    codes = generator.encoder(torch.randn(3, len(spec.channels), *spec.size))
    assert codes.shape == (3, 2, generator.latent) and codes.dtype == torch.float32
    images = generator(masks, codes.sum(1))
    assert images.shape == (3, len(spec.channels), *spec.size) and images.abs().max() <= 1
    scales = networks["discriminator"](torch.cat([masks, images], dim=1))
    assert all(looks[-1].shape[:2] == (3, 1) and looks[-1].dtype == torch.float32 for looks in scales)
    torch.stack([looks[-1].square().mean() for looks in scales]).sum().backward()
    for name, network in networks.items():
        silent = [key for key, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert not silent, f"{name}: no gradient reaches {silent}"
    generator.eval()
    same = generator(masks[:1].expand(2, *masks.shape[1:]), torch.randn(2, generator.latent))
    assert not torch.allclose(same[0], same[1])


@pytest.mark.parametrize("space", [(20, 44), (70, 90), (9, 11, 30)])
@pytest.mark.parametrize("kind", MASK_KINDS)
def test_masks_of_any_size_are_painted_alone_and_their_parts_as_in_the_whole(kind: str, space: tuple[int, ...]) -> None:
    spec = SPECS["volume"] if len(space) == 3 else SPECS["grey"]
    generator = mask_networks(kind, spec)["generator"].eval()
    masks, styles = shares(space), torch.randn(3, generator.latent)
    with torch.no_grad():
        whole = generator(masks, styles)
        assert whole.shape == (3, 1, *space)
        assert torch.allclose(whole[1:2], generator(masks[1:2], styles[1:2]), atol=1e-5)
        stride, reach = generator.stride, generator.reach
        start = [side - min(side, -(-reach // stride) * stride + stride) for side in space]
        start = [side - side % stride for side in start]
        middle = [(have - -(-side // stride)) // 2 for have, side in zip(generator.grid, space, strict=True)]
        where = (slice(None), slice(None), *(slice(side, None) for side in start))
        part = generator(masks[where], styles, tuple(m + s // stride for m, s in zip(middle, start, strict=True)))
    last = (slice(None), slice(None), *(slice(-1, None) for _ in space))
    assert torch.allclose(part[last], whole[last], atol=1e-5)


def mask_networks(kind: str, spec: ImageSpec) -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    source = ImageSpec(size=spec.size, channels=("label 0", "label 1"))
    return build(settings_class("model", kind)(), spec, source, 2 + len(spec.channels), masks=True)


def shares(space: tuple[int, ...]) -> Tensor:
    """Masks of two classes (3, 2, *space)."""
    generator = torch.Generator().manual_seed(1)
    first = (torch.rand(3, 1, *space, generator=generator) > 0.5).float()
    return torch.cat([first, 1 - first], dim=1)


def gradients(networks: dict[str, torch.nn.Module], run: Callable[[], Tensor], bf16: bool) -> list[Tensor]:
    weights = [weight for network in networks.values() for weight in network.parameters()]
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = run()
    found = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
    return [slope for slope in found if slope is not None]


@pytest.mark.parametrize("kind", [*KINDS, *IMAGE_KINDS, *MASK_KINDS])
def test_volumes_in_bf16_have_the_gradients_of_fp32(kind: str) -> None:
    """On grids of one or two voxels bf16 convolutions of a processor give garbage: those layers must not use it."""
    spec = ImageSpec(size=(8, 8, 8))
    if kind in KINDS:
        torch.manual_seed(0)
        networks = build(settings_class("model", kind)(), spec)
    else:
        networks = image_networks(kind, spec) if kind in IMAGE_KINDS else mask_networks(kind, spec)
    networks = {name: module_channels_last(network, 3) for name, network in networks.items()}
    generator, discriminator = networks["generator"], networks["discriminator"]
    given = shares(spec.size) if kind in MASK_KINDS else torch.randn(3, 2, *spec.size)
    latents = torch.randn(3, getattr(generator, "latent", 1))

    def run() -> Tensor:
        if kind in KINDS:
            return discriminator(generator(latents, None), None).square().mean()  # type: ignore[no-any-return]
        made = generator(given, latents) if kind in MASK_KINDS else generator(given)
        looks = discriminator(torch.cat([given, made], dim=1))
        last = [scale[-1] for scale in looks] if kind in MASK_KINDS else [looks]
        return torch.stack([logits.square().mean() for logits in last]).sum()

    exact, rounded = (gradients(networks, run, bf16) for bf16 in (False, True))
    off = sum(float((one - other).square().sum()) for one, other in zip(exact, rounded, strict=True))
    assert off < 0.01 * sum(float(one.square().sum()) for one in exact)
