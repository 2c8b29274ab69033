"""The range of every option that is a number, in one table: whatever its command, a name means one thing.

The upper ends are far from what is useful and keep mistakes from taking all memory or starting processes without end.
"""

RANGES: dict[str, tuple[float, float]] = {
    "accumulate": (1, 100_000),
    "batch_size": (1, 4096),
    "box_jitter": (0, 0.5),
    "box_scale": (0.1, 10),
    "class_tokens": (1, 64),
    "objects_per_image": (1, 1000),
    "clip": (1e-9, 1e9),
    "core_rise": (0, 1),
    "correction_rounds": (0, 16),
    "devices": (1, 1024),
    "ema": (0, 0.99999),
    "empty_share": (0, 1),
    "empty_tiles": (0, 1),
    "epochs": (1, 1_000_000),
    "grid": (0, 256),
    "hidden_dim": (1, 4096),
    "high_frequency_rate": (0, 1),
    "image_size": (16, 4096),
    "lora_alpha": (1e-3, 1e6),
    "lora_dropout": (0, 0.99),
    "lora_rank": (1, 4096),
    "lr": (1e-40, 1e30),
    "mask_error": (0, 0.45),
    "max_pixels": (1, 10**10),
    "negative_points": (0, 1000),
    "nodes": (1, 1024),
    "overlap": (0, 65_535),
    "overlap_threshold": (0, 1),
    "patience": (0, 1_000_000),
    "positive_points": (1, 1000),
    "prompts_per_image": (1, 100),
    "quality_threshold": (0, 1),
    "scenes": (1, 100_000),
    "seed": (0, 2**32 - 1),
    "spacing": (1e-9, 1e9),
    "stability_threshold": (0, 1),
    "test_scenes": (1, 100_000),
    "threshold": (0, 1),
    "tile": (0, 65_536),
    "tiles_per_image": (1, 1000),
    "tune_dim": (1, 4096),
    "val_fraction": (0, 0.9),
    "warmup": (0, 1),
    "weight_decay": (0, 1000),
    "workers": (-1, 256),
}


def range_problem(name: str, value: object) -> str | None:
    """The problem of an option whose value is a number outside its range, if it is."""
    if name not in RANGES or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    low, high = RANGES[name]
    if low <= value <= high:
        return None
    wanted = f"a positive number up to {high:g}" if 0 < low < 1e-6 else f"a value from {low} to {high}"
    return f"{name}: expected {wanted}, got {shortened(value)}."


def shortened(value: object) -> str:
    """A value as it can be shown in a sentence, however long it is."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write out whole numbers of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."
