"""Options that help with masks whose values cannot be told; each is tried on the set before it is offered."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ...config.choices import MaskRule
from .mask_values import MaskValues, by_storage
from .table import Decision, decide
from .troubles import Trouble
from .values import Value, distinct, equal, shown

_PLAUSIBLE_VOID = (255.0, 65535.0)
_END = 0.2
"""Share of the range at each of its ends that most pixels of masks lie in."""
_LEAST_FOREGROUND = 0.0005
"""Share of foreground that an option must leave to be offered."""
_MERGED = {"class_indices": "; all classes count as one", "label_map": "; touching objects merge"}
"""What '--mask-rule nonzero' does to the masks of a kind."""
_OTHERWISE = {
    "class_indices": "save masks of the one class that is meant, with 0 and 255",
    "contradicts_rule": "save these files as the others are",
    "mask_not_binary": "save the masks with 0 and 255",
}


def decide_with_cures(
    files: Iterable[MaskValues], *, rule: MaskRule = "auto", ignore: tuple[Value, ...] = (), invert: bool = False
) -> Decision:
    """As `decide`; each trouble comes with the options that read the whole set without one, if there are any."""
    files = list(files)
    decision = decide(files, rule=rule, ignore=ignore, invert=invert)
    if not decision.troubles:
        return decision
    candidates = _candidates(files, rule, ignore)
    tried = {text: decide(files, rule=other, ignore=void, invert=invert) for text, (other, void) in candidates.items()}
    good = {text: one for text, one in tried.items() if _works(one)}
    troubles = [replace(trouble, cure=trouble.cure or _cure(trouble, good)) for trouble in decision.troubles]
    return replace(decision, troubles=troubles)


def _candidates(
    files: Sequence[MaskValues], rule: MaskRule, ignore: tuple[Value, ...]
) -> dict[str, tuple[MaskRule, tuple[Value, ...]]]:
    """Option as text to the rule and the void values it means."""
    found: dict[str, tuple[MaskRule, tuple[Value, ...]]] = {}
    kept = "".join(f" --ignore-value {shown(value)}" for value in ignore)
    voids = _possible_voids(files, ignore)
    missing = [value for value in voids if _is_missing(value)]
    for value in voids:
        found[f"--ignore-value {shown(value)}"] = (rule, (*ignore, value))
    for other in ("auto", "nonzero", "half"):
        if other != rule and not (other == "half" and _has_shades_alone(files)):
            if not missing:
                found[f"--mask-rule {other}{kept}"] = (other, ignore)
            for value in voids:
                if value[0] not in _PLAUSIBLE_VOID and value not in missing:
                    continue
                found[f"--mask-rule {other}{kept} --ignore-value {shown(value)}"] = (other, (*ignore, value))
    return found


def _possible_voids(files: Sequence[MaskValues], ignore: tuple[Value, ...]) -> list[Value]:
    """Values that could be void, the likeliest first: missing data, 255 beside small ones, or the rarest of three."""
    found: list[Value] = []
    for members in by_storage(files).values():
        every = [tuple(one) for one in distinct(np.concatenate([file.values for file in members])).tolist()]
        every = [value for value in every if not any(equal(np.array([value]), one)[0] for one in ignore)]
        if missing := [value for value in every if _is_missing(value)]:
            found += missing
            continue
        if not 3 <= len(every) <= 256:
            continue
        small = all(0 <= value[0] < 128 for value in every[:-1])
        if len(every) == 3:
            last = every[2]
            if len(last) == 1 and last[0] in _PLAUSIBLE_VOID and every[1][0] < 64:
                found += [last]
            else:
                found += sorted(every, key=lambda value: _pixels(members, value))[:2]
        elif len(every[0]) == 1 and every[-1][0] in _PLAUSIBLE_VOID and small:
            found.append(every[-1])
    return list(dict.fromkeys(found))


def _has_shades_alone(files: Sequence[MaskValues]) -> bool:
    """Whether most pixels lie far from both ends, as those of a photograph do; half way means nothing then."""
    for members in by_storage(files).values():
        values = np.concatenate([file.values for file in members]).mean(axis=1)
        counts = np.concatenate([file.counts for file in members])
        place = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
        if 2 * counts[(place < _END) | (place > 1 - _END)].sum() < counts.sum():
            return True
    return False


def _is_missing(value: Value) -> bool:
    return len(value) == 1 and not value[0] >= 0


def _pixels(files: Sequence[MaskValues], value: Value) -> int:
    return sum(int(file.counts[equal(file.values, value)].sum()) for file in files)


def _works(decision: Decision) -> bool:
    """Whether all files are read, and none that has several values becomes foreground or background alone."""
    shares = decision.shares
    return (
        not decision.troubles
        and all(0 < shares.get(path, 0) < 1 for path in decision.varied)
        and sum(shares.values()) >= _LEAST_FOREGROUND * len(shares)
        and any(share < 1 for share in shares.values())
    )


def _cure(trouble: Trouble, good: dict[str, Decision]) -> str:
    void = [text for text in good if text.startswith("--ignore-value")]
    rules = [text for text in good if not text.startswith("--ignore-value")]
    if trouble.kind == "contradicts_rule":
        # Only what gives these very files foreground and background.
        rules = [
            text
            for text in rules
            if "--ignore-value" not in text and all(0 < good[text].shares.get(path, 0) < 1 for path in trouble.files)
        ]
        void = []
    if trouble.kind in ("class_indices", "label_map"):
        # Half of the numbers of classes or objects means nothing.
        rules = [text for text in rules if " half" not in text]
    if trouble.kind == "mask_not_binary":
        # Of shades, what is not quite black is noise of JPEG as often as not.
        rules = [text for text in rules if " nonzero" not in text]
    if trouble.kind == "void_value":
        chosen = void or rules
    elif void_rules := [text for text in rules if "--ignore-value" in text]:
        chosen = [*void_rules[:1], *void]
    else:
        chosen = [*rules, *void]
    ways = [
        f"'{text}' ({_effect(good[text], _MERGED.get(trouble.kind, '') if 'nonzero' in text else '')})"
        for text in chosen[:3]
    ]
    if otherwise := _OTHERWISE.get(trouble.kind):
        ways.append(otherwise)
    if not ways:
        ways = ["save the masks with 0 and 255; no option of ours reads all of them"]
    return ", or ".join(ways)


def _effect(decision: Decision, also: str) -> str:
    table = ", ".join(f"{value} {meaning}" for value, meaning in decision.table.described().items())
    share = sum(decision.shares.values()) / max(len(decision.shares), 1)
    return f"{table}: {share:.1%} foreground{also}"
