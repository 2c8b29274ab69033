import pytest
import torch
from torch import nn

from sam_adapter.nn.high_frequency import high_frequency
from sam_adapter.nn.sam_adapter import AdapterSettings, SamAdapter, patches


def reference_high_pass(x: torch.Tensor, rate: float) -> torch.Tensor:
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


@pytest.mark.parametrize(
    "change",
    [
        {"use_high_frequency": False},
        {"use_embedding": False},
        {"share_up": False},
        {"neck_prompt": False},
        {"activation": "relu"},
        {"embedding_from": "before_position"},
    ],
)
def test_every_switch_changes_the_prompt_and_every_parameter_is_used(change: dict):
    sizes = {"hidden_size": 8, "depth": 2, "patch_size": 4}
    adapter = SamAdapter(AdapterSettings(tune_dim=6, hidden_dim=4, **change), **sizes)
    pixels = torch.randn(1, 3, 16, 16)
    embedding, positioned = torch.randn(2, 1, 4, 4, 8)
    features = adapter.features(pixels, embedding, positioned)
    prompts = [adapter.prompt(narrow, block) for block, narrow in enumerate(adapter.narrow(features))]
    assert len(prompts) == 2 + adapter.settings.neck_prompt
    assert all(prompt.shape == (1, 4, 4, 8) for prompt in prompts)
    torch.stack(prompts).sum().backward()
    assert all(parameter.grad is not None for parameter in adapter.parameters())
    names = {name.split(".")[0] for name, _ in adapter.named_parameters()}
    assert ("high_frequency_tune" in names) == adapter.settings.use_high_frequency
    assert ("embedding_tune" in names) == adapter.settings.use_embedding


def test_zero_initialisation_starts_at_the_plain_model():
    settings = AdapterSettings(tune_dim=6, hidden_dim=4, adapter_init="zero")
    adapter = SamAdapter(settings, hidden_size=8, depth=2, patch_size=4)
    features = adapter.features(torch.randn(1, 3, 16, 16), *torch.randn(2, 1, 4, 4, 8))
    assert not adapter.prompt(adapter.narrow(features)[0], 0).any()
