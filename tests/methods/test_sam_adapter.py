"""The adapter against a second, plain implementation, and its initial weights against their formulas."""

import math

import pytest
import torch
from torch import Tensor, nn

from plain_adapter import adapter_prompts, high_pass
from sam_adapter.methods.sam_adapter.high_frequency import high_frequency
from sam_adapter.methods.sam_adapter.module import AdapterSettings, SamAdapter, patches


def reference_high_pass(x: Tensor, rate: float) -> Tensor:
    """The formula of the reference, with its complex spectrum and its rectangle one bin off centre."""
    height, width = x.shape[-2:]
    half = int((height * width * rate) ** 0.5 // 2)
    mask = torch.zeros_like(x)
    mask[..., height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half] = 1
    spectrum = torch.fft.fftshift(torch.fft.fft2(x, norm="forward")) * (1 - mask)
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum), norm="forward").real.abs()


@pytest.mark.parametrize("size", [(64, 64), (65, 65), (48, 80), (33, 50)])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.4])
def test_high_frequency_is_the_reference_formula(size: tuple[int, int], rate: float):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(high_frequency(x, rate), reference_high_pass(x, rate), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (33, 50), (8, 40), (1, 1)])
@pytest.mark.parametrize("rate", [0.0, 0.04, 0.25, 0.7, 1.0])
def test_high_frequency_is_what_dense_low_passes_leave(size: tuple[int, int], rate: float):
    """Also where the rectangle is wider than the spectrum."""
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(high_frequency(x, rate), high_pass(x, rate), rtol=1e-4, atol=1e-5)


def test_a_quarter_of_the_spectrum_is_removed_unless_told_otherwise():
    x = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(high_frequency(x), high_pass(x, 0.25), rtol=1e-4, atol=1e-5)
    assert AdapterSettings(tune_dim=1, hidden_dim=1).high_frequency_rate == 0.25


def test_high_frequency_is_computed_in_float32():
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = high_frequency(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, high_pass(x.float(), 0.25), rtol=1e-4, atol=1e-5)


def test_high_frequency_removes_what_is_smooth():
    rows = torch.arange(64) / 64
    smooth = torch.sin(2 * torch.pi * rows)[None, None, :, None].expand(1, 3, 64, 64)
    fine = ((torch.arange(64) % 2) * 2.0 - 1)[None, None, :, None].expand(1, 3, 64, 64)
    assert high_frequency(smooth).abs().max() < 1e-5
    torch.testing.assert_close(high_frequency(smooth + fine), torch.ones(1, 3, 64, 64))


def test_patches_are_a_convolution():
    convolution = nn.Conv2d(3, 5, kernel_size=4, stride=4, bias=False)
    x = torch.randn(2, 3, 16, 12)
    linear = patches(x, 4) @ convolution.weight.flatten(1).T
    torch.testing.assert_close(linear.permute(0, 3, 1, 2), convolution(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        # ViT-B with the paper's widths: the paper's adapter has 63k parameters.
        (AdapterSettings(tune_dim=24, hidden_dim=24, neck_prompt=False), 63_312),
        (
            AdapterSettings(tune_dim=192, hidden_dim=32),
            2 * (768 * 192 + 192) + 13 * (192 * 32 + 32) + 32 * 768 + 768,
        ),
    ],
)
def test_parameter_count(settings: AdapterSettings, count: int):
    adapter = SamAdapter(settings, hidden_size=768, depth=12, patch_size=16)
    assert sum(parameter.numel() for parameter in adapter.parameters()) == count


CHANGES = [
    {},
    {"use_high_frequency": False},
    {"use_embedding": False},
    {"share_up": False},
    {"neck_prompt": False},
    {"activation": "relu"},
    {"activation": "silu"},
    {"embedding_from": "before_position"},
    {"high_frequency_rate": 0.04},
    {"adapter_init": "paper", "activation": "silu", "share_up": False, "embedding_from": "before_position"},
]


def small_adapter(**changes) -> tuple[SamAdapter, list[Tensor]]:
    """An adapter for two blocks, and what it reads of two images of 16 pixels in patches of 4."""
    torch.manual_seed(0)
    adapter = SamAdapter(
        AdapterSettings(**{"tune_dim": 6, "hidden_dim": 4, **changes}), hidden_size=8, depth=2, patch_size=4
    )
    return adapter, [torch.randn(2, 3, 16, 16), *torch.randn(2, 2, 4, 4, 8)]


def prompts_of(adapter: SamAdapter, inputs: list[Tensor]) -> list[Tensor]:
    return [adapter.prompt(narrow, block) for block, narrow in enumerate(adapter.narrow(adapter.features(*inputs)))]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_prompts_are_those_of_the_plain_implementation(changes: dict):
    adapter, inputs = small_adapter(**changes)
    found, wanted = prompts_of(adapter, inputs), adapter_prompts(adapter, *inputs)
    assert len(found) == len(wanted) == 2 + adapter.settings.neck_prompt
    for one, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_gradients_are_those_of_the_plain_implementation(changes: dict):
    adapter, inputs = small_adapter(**changes)
    gradients = []
    for prompts in (prompts_of(adapter, inputs), adapter_prompts(adapter, *inputs)):
        adapter.zero_grad()
        loss = sum(((block + 1) * prompt.sin()).sum() for block, prompt in enumerate(prompts))
        assert isinstance(loss, Tensor)
        loss.backward()
        gradients.append({name: parameter.grad for name, parameter in adapter.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        assert gradient.any(), name
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-5)


def test_only_the_inputs_in_use_have_weights():
    for changes in CHANGES:
        adapter, _ = small_adapter(**changes)
        names = {name.split(".")[0] for name, _ in adapter.named_parameters()}
        assert ("high_frequency_tune" in names) == adapter.settings.use_high_frequency
        assert ("embedding_tune" in names) == adapter.settings.use_embedding
        assert ("shared_up" in names) == adapter.settings.share_up
        assert ("up" in names) != adapter.settings.share_up


def test_the_misread_embedding_is_channels_first_memory_read_as_channels_last():
    """What checkpoints of the paper's authors were trained on, one value at a time."""
    adapter, inputs = small_adapter(misread_embedding=True, use_high_frequency=False)
    plain = SamAdapter(
        AdapterSettings(tune_dim=6, hidden_dim=4, use_high_frequency=False), hidden_size=8, depth=2, patch_size=4
    )
    plain.load_state_dict(adapter.state_dict())
    positioned = inputs[2]
    scrambled = torch.empty(2, 16, 8)
    for image in range(2):
        memory = positioned[image].flatten()  # tokens of 8 channels, one after the other
        for token in range(16):
            for channel in range(8):
                scrambled[image, token, channel] = memory[channel * 16 + token]
    wanted = plain.features(inputs[0], inputs[1], scrambled.unflatten(1, (4, 4)))
    torch.testing.assert_close(adapter.features(*inputs), wanted)


def large_adapter(**changes) -> SamAdapter:
    """So many weights that their statistics are known to a percent."""
    torch.manual_seed(0)
    settings = AdapterSettings(**{"tune_dim": 192, "hidden_dim": 160, **changes})
    return SamAdapter(settings, hidden_size=256, depth=3, patch_size=16)


def kurtosis(values: Tensor) -> float:
    """3 for a normal distribution, 1.8 for a uniform one."""
    centred = values - values.mean()
    return (centred.pow(4).mean() / centred.pow(2).mean().square()).item()


@pytest.mark.parametrize("share_up", [True, False])
def test_the_papers_initial_weights_are_normal(share_up: bool):
    adapter = large_adapter(adapter_init="paper", share_up=share_up)
    for name, parameter in adapter.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
            continue
        # A convolution of 16x16 pixels to 192 channels has the fan-out 16 * 16 * 192.
        wanted = math.sqrt(2 / (16 * 16 * 192)) if name == "high_frequency_tune.weight" else 0.02
        assert parameter.std().item() == pytest.approx(wanted, rel=0.03), name
        assert abs(parameter.mean().item()) < 0.03 * wanted, name
        assert kurtosis(parameter) == pytest.approx(3, abs=0.15), name


def test_pytorchs_initial_weights_are_uniform_within_the_fan_in():
    adapter = large_adapter()
    assert adapter.settings.adapter_init == "default"
    fan_in = {"high_frequency_tune": 768, "embedding_tune": 256, "down": 192, "shared_up": 160}
    for name, parameter in adapter.named_parameters():
        bound = 1 / math.sqrt(fan_in[name.split(".")[0]])
        assert parameter.abs().max() <= bound, name
        assert parameter.abs().max() > 0.95 * bound, name
        if name.endswith("weight"):
            assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03), name
            assert kurtosis(parameter) == pytest.approx(1.8, abs=0.05), name


@pytest.mark.parametrize("share_up", [True, False])
def test_zero_initialisation_starts_at_the_plain_model(share_up: bool):
    adapter, inputs = small_adapter(adapter_init="zero", share_up=share_up)
    assert not any(prompt.any() for prompt in prompts_of(adapter, inputs))
    default, _ = small_adapter(share_up=share_up)
    for (name, parameter), (_, drawn) in zip(adapter.named_parameters(), default.named_parameters(), strict=True):
        assert torch.equal(parameter, torch.zeros_like(drawn) if "up" in name else drawn), name


@pytest.mark.parametrize("changes", [{}, {"use_high_frequency": False}, {"share_up": False, "neck_prompt": False}])
def test_an_embedding_that_is_read_at_every_block_is_the_hidden_states_there(changes: dict):
    """Where they are what enters the first block, it is the embedding that is read once."""
    once, (pixels, embedding, positioned) = small_adapter(**changes)
    every, _ = small_adapter(embedding_read="every_block", **changes)
    every.load_state_dict(once.state_dict())
    hidden = torch.randn(2, 4, 4, 8)
    here, there = once.block_prompts(pixels), every.block_prompts(pixels)
    for prompts in (here, there):
        prompts.start(embedding, positioned)
    for block in range(2):
        wanted = here.before_block(block, positioned) - positioned
        torch.testing.assert_close(there.before_block(block, positioned) - positioned, wanted, rtol=1e-4, atol=1e-5)
        other = there.before_block(block, hidden) - hidden
        (right,) = adapter_prompts(every, pixels, embedding, hidden)[block : block + 1]
        torch.testing.assert_close(other, right, rtol=1e-4, atol=1e-5)
        assert (other - wanted).abs().max() > 1e-3
    for prompts in (here, there):
        added = prompts.before_neck(hidden) - hidden
        assert added.any() == once.settings.neck_prompt
    if once.settings.neck_prompt:
        torch.testing.assert_close(
            there.before_neck(hidden) - hidden,
            adapter_prompts(every, pixels, embedding, hidden)[2],
            rtol=1e-4,
            atol=1e-5,
        )


def test_what_every_block_cannot_read_is_refused():
    for changes in ({"use_embedding": False}, {"misread_embedding": True}):
        with pytest.raises(ValueError, match="embedding_read every_block"):
            small_adapter(embedding_read="every_block", **changes)


def test_high_frequencies_reach_the_patch_that_they_are_of():
    """Also of 14 pixels: the token of a patch is made of that patch's pixels, in their order."""
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    adapter = SamAdapter(AdapterSettings(tune_dim=6, hidden_dim=4), hidden_size=8, depth=2, patch_size=14)
    high, found = high_frequency(pixels), adapter.high_frequency_features(pixels)
    assert found.shape == (2, 4, 4, 6)
    for image, row, column in ((0, 0, 0), (1, 2, 1), (0, 3, 3)):
        own = high[image, :, 14 * row : 14 * row + 14, 14 * column : 14 * column + 14].flatten()
        torch.testing.assert_close(found[image, row, column], adapter.high_frequency_tune(own))
