"""Options that help with masks whose values cannot be told; each is tried on the set before it is offered."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..options import MaskRule
from .mask_values import MaskValues, by_storage
from .table import Decision, decide
from .troubles import Trouble
from .values import Value, shown

_PLAUSIBLE_VOID = (255.0, 65535.0, -1.0)
_MERGED = {"class_indices": "; all classes count as one", "label_map": "; touching objects merge"}
"""What '--mask-rule nonzero' does to the masks of a kind."""
_OTHERWISE = {
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
    troubles = [replace(trouble, cure=_cure(trouble, good)) for trouble in decision.troubles]
    return replace(decision, troubles=troubles)


def _candidates(
    files: Sequence[MaskValues], rule: MaskRule, ignore: tuple[Value, ...]
) -> dict[str, tuple[MaskRule, tuple[Value, ...]]]:
    """Option as text to the rule and the void values it means."""
    found: dict[str, tuple[MaskRule, tuple[Value, ...]]] = {}
    kept = "".join(f" --ignore-value {shown(value)}" for value in ignore)
    voids = _possible_voids(files, ignore)
    for value in voids:
        found[f"--ignore-value {shown(value)}"] = (rule, (*ignore, value))
    for other in ("auto", "nonzero", "half"):
        if other != rule:
            found[f"--mask-rule {other}{kept}"] = (other, ignore)
            for value in voids:
                if value[0] not in _PLAUSIBLE_VOID:
                    continue
                found[f"--mask-rule {other}{kept} --ignore-value {shown(value)}"] = (other, (*ignore, value))
    return found


def _possible_voids(files: Sequence[MaskValues], ignore: tuple[Value, ...]) -> list[Value]:
    """Values that could be void, the likeliest first: 255 beside small numbers, or the middle one of three."""
    found: list[Value] = []
    for members in by_storage(files).values():
        every = [tuple(one) for one in np.unique(np.concatenate([file.values for file in members]), axis=0).tolist()]
        every = [value for value in every if value not in ignore]
        if not 3 <= len(every) <= 256:
            continue
        small = all(0 <= value[0] < 128 for value in every[:-1])
        if len(every) == 3:
            middle, last = every[1], every[2]
            if len(last) == 1 and last[0] in _PLAUSIBLE_VOID and every[1][0] < 64:
                found += [last]
            else:
                found += [middle, last]
        elif len(every[0]) == 1 and every[-1][0] in _PLAUSIBLE_VOID and small:
            found.append(every[-1])
        found += [value for value in every if len(value) == 1 and (value[0] < 0 or np.isnan(value[0]))]
    return list(dict.fromkeys(found))


def _works(decision: Decision) -> bool:
    """Whether all files are read, and none that has several values becomes foreground or background alone."""
    return not decision.troubles and all(0 < decision.shares.get(path, 0) < 1 for path in decision.varied)


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
