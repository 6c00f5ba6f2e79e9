"""Bindings: no field of a plan, a charge or a message is left out of what is hashed, signed and derived from it.

Every field is changed, one at a time, by going through the types themselves, so that a new field is among them:

- **a plan's fields**: hash, signed bytes and the context of its masked attempt change with each;
- **a charge's fields**: the signed bytes change with each, the context with the state of the ledger that it shows;
- **an entry's fields**: its leaf in the log changes with each;
- **transcripts**: every function that makes bytes to be hashed, signed or derived from gives others for each argument.

The terms of a masked attempt are the plan's numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from mechanism.harness.probe_algorithm import PLAIN, Gesture
from mechanism.harness.probe_run import Setting, crowd, probe_run
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import InputError, PalateError
from palate_core.layout import released_size
from palate_core.log import entries
from palate_core.log.consistency import Epoch
from palate_core.log.handovers import Handover
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_core.masks import attempt_terms as masked_attempt
from palate_core.masks import transcript
from palate_core.plan import Sampling, SignedPlan, signed_bytes
from palate_core.privacy_mode import DISTRIBUTED

HASH = "ab" * 32
WITNESS = VerifierKey("witness.example", COSIGNATURE, bytes(32))
GIVEN: Mapping[str, Any] = {
    "events": Sampling(inclusion=0.5, steps=2),
    "cohort": CohortTerms(n_max=3, n_min=3, c_max=1, masks=False),
    "directory": HASH,
    "inputs": HASH,
    "mu": 1.0,
    "run_limit": 1.0,
    "created": "2026",
    "cosigned": "a note",
}
"""Values for fields that may be empty and are."""
EMPTY: Mapping[str, Any] = {
    "consistency": {1: (HASH,)},
    "inclusion": (HASH,),
    "epochs": (Epoch(entry={"kind": "restored"}, inclusion=()),),
    "handovers": (Handover(entry={"kind": "handover"}, inclusion=()),),
    "settings": {"a": 1},
    "facts": {"a": 1},
    "about": {"a": 1},
}
"""The same for what may have no members and has none."""
SAMPLES: Mapping[Any, tuple[Any, ...]] = {
    bytes: (b"\x01" * 32, b"\x02" * 32),
    int: (3, 4),
    str: ("share", "mask"),
    Sequence[bytes]: ([b"\x03" * 32, b"\x04" * 32], [b"\x03" * 32, b"\x05" * 32]),
}
"""Values of each type that functions of the transcript take; tuples are made of them."""
ENTRIES: tuple[Mapping[str, Any], ...] = (
    {"kind": "population", "population": "audited", "created": "2026"},
    {"kind": "budget", "mu2": 1.0, "epsilon": 1.0, "delta": 1e-6},
    {"kind": "open", "run": "one", "facts": {"a": 1}},
    {"kind": "charge", "run": "one", "round": 1, "attempt": 1, "plan_hash": HASH, "mu2": 0.5, "run_limit": 1.0,
     "facts": {"sigma": 64}},
    {"kind": "seal", "run": "one", "round": 1, "attempt": 1, "release_hash": HASH},
    {"kind": "close", "run": "one", "facts": {}},
    {"kind": "publish", "run": "one", "model_hash": HASH, "manifest": HASH},
    {"kind": "lost"},
    {"kind": "restored", "base": 1, "spent": 0.5, "witness_size": 2, "witness_root": HASH, "created": "2026",
     "epoch": 1, "cosigned": "a note"},
    {"kind": "witnesses", "keys": [str(WITNESS)], "needed": 1},
    {"kind": "handover", "old_key": HASH, "new_key": HASH, "old_signature": 2 * HASH, "new_signature": 2 * HASH},
)  # fmt: skip
"""One entry of each kind."""


def bindings() -> Iterator[str]:
    """Plans, charges, entries, transcripts."""
    setting = Setting(mode=DISTRIBUTED, users_per_node=1, masks=True, rounds=2)
    with probe_run(setting, crowd([[0]] * 4, n_items=PLAIN), [Gesture()]) as stage:
        stage.play()
        signed = stage.seen.plans[-1]
    plan, charge = signed.plan, signed.charge
    if charge is None:
        yield "a plan under masks must have a charge"
        return
    yield from _terms(signed)
    made = {"its hash": lambda each: each.plan.hash, "what is signed": signed_bytes,
            "the context of its attempt": lambda each: masked_attempt.attempt_terms(each).context}  # fmt: skip
    for name, other in variants(plan):
        yield from _unbound(f"a plan's `{name}`", made, signed, {"plan": other})
    shown = {"what is signed": signed_bytes}
    for name, proof in variants(charge):
        yield from _unbound(f"a charge's `{name}`", shown, signed, {"charge": proof})
    context = {"the context of its attempt": lambda each: masked_attempt.attempt_terms(each).context}
    for name, state in (("size", Checkpoint(charge.checkpoint.size + 1, charge.checkpoint.root)),
                        ("root", Checkpoint(charge.checkpoint.size, HASH))):  # fmt: skip
        proof = charge.model_copy(update={"checkpoint": state})
        yield from _unbound(f"the ledger's `{name}`", context, signed, {"charge": proof})
    yield from _entries()
    yield from _transcripts()


def _terms(signed: SignedPlan) -> Iterator[str]:
    """A masked attempt's terms, beside the plan."""
    plan, terms = signed.plan, masked_attempt.attempt_terms(signed)
    cohort = plan.cohort
    if cohort is None:
        return
    expected = {"size": released_size(plan.layout), "directory": cohort.directory, "max_tosses": cohort.max_tosses}
    expected |= {"n_max": cohort.n_max, "n_min": cohort.n_min, "c_max": cohort.c_max}
    for name, value in expected.items():
        if getattr(terms, name) != value:
            yield f"`{name}` is {value} in the plan, and {getattr(terms, name)} in its masked attempt"
    if 2 ** (terms.bits - 1) <= cohort.n_max * plan.grid:
        yield f"{cohort.n_max} contributions wrap the {terms.bits} bits of their masked sum"


def _unbound(
    what: str, made: Mapping[str, Callable[[SignedPlan], Any]], signed: SignedPlan, update: Mapping[str, Any]
) -> Iterator[str]:
    """What doesn't change although a field does; where it can't be made any more, it is bound, too."""
    for product, make in made.items():
        with suppress(PalateError):
            if make(signed) == make(signed.model_copy(update=update)):
                yield f"{what} can be changed without changing {product}"


def variants(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A value of pydantic with one field changed, for each, however deep; nothing is validated."""
    for name in type(model).model_fields:
        others = list(changed(getattr(model, name), name))
        if not others and name != "kind":
            raise InputError(f"`{prefix}{name}` must have another value to be changed to, got none for it")
        for path, value in others:
            yield f"{prefix}{path}", model.model_copy(update={name: value})


def changed(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Other values in the place of one, by type, with the path of what was changed."""
    if isinstance(value, BaseModel):
        yield from variants(value, f"{name}.")
    elif isinstance(value, Checkpoint):
        yield f"{name}.size", Checkpoint(value.size + 1, value.root)
        yield f"{name}.root", Checkpoint(value.size, HASH)
    elif isinstance(value, Mapping):
        first = next(iter(value), None)
        if first is not None:
            yield f"{name}: more", {**value, first + (1 if isinstance(first, int) else "x"): value[first]}
        elif name in EMPTY:
            yield f"{name}: more", EMPTY[name]
        for key, each in value.items():
            yield f"{name}: without {key}", {other: kept for other, kept in value.items() if other != key}
            yield from ((f"{name}.{path}", {**value, key: other}) for path, other in changed(each, str(key)))
    elif isinstance(value, tuple | list):
        kind = type(value)
        for place, each in enumerate(value):
            for path, other in changed(each, str(place)):
                yield f"{name}[{path}]", kind([*value[:place], other, *value[place + 1 :]])
        if value:
            yield f"{name}: fewer", kind(value[:-1])
        elif name in EMPTY:
            yield f"{name}: more", EMPTY[name]
    elif isinstance(value, Enum):
        yield from ((name, other) for other in type(value) if other != value)
    elif isinstance(value, bool):
        yield name, not value
    elif isinstance(value, int):
        yield name, value + 1
    elif isinstance(value, float):
        yield name, value * (1 + 2**-52) + 2**-1000
    elif value is None:
        yield name, GIVEN[name]
    else:
        yield name, f"{value}x" if len(value) != len(HASH) else HASH[::-1]


def _entries() -> Iterator[str]:
    """Each kind of entry, and each of its fields."""
    kinds = {each["kind"] for each in ENTRIES}
    known = {kind.model_fields["kind"].default for kind in entries.Entry.__args__}
    if kinds != known:
        yield f"entries of the kinds {sorted(known - kinds)} were not looked at"
    for fields in ENTRIES:
        entry = entries.entry_from({"seq": 1, **fields})
        for name, other in variants(entry):
            if other.leaf() == entry.leaf():
                yield f"`{name}` of an entry of kind {fields['kind']} can be changed without changing its leaf"


def makers() -> Iterator[tuple[str, Callable[..., bytes], dict[str, Any]]]:
    """The functions of the transcript that make bytes, and what each takes: parameter -> its type."""
    for name, function in inspect.getmembers(transcript, inspect.isfunction):
        hints = get_type_hints(function)
        ours = function.__module__ == transcript.__name__ and not name.startswith("_") and name != "sign"
        if hints.pop("return", None) is bytes and ours:
            yield name, function, hints


def samples(kind: Any) -> tuple[Any, ...]:
    """A value of a type, and others that differ from it in one place; none of an unknown type."""
    if get_origin(kind) is not tuple:
        return SAMPLES.get(kind, ())
    parts = [samples(each) for each in get_args(kind)]
    if not all(parts):
        return ()
    first = tuple(each[0] for each in parts)
    others = [(*first[:at], other, *first[at + 1 :]) for at, each in enumerate(parts) for other in each[1:]]
    return (first, *others)


def _transcripts() -> Iterator[str]:
    """Each function that makes bytes, and each of its arguments."""
    for name, make, hints in makers():
        values = {parameter: samples(kind) for parameter, kind in hints.items()}
        unknown = [parameter for parameter, each in values.items() if not each]
        if unknown:
            yield f"`{unknown[0]}` of {name} was not looked at: it has a type that is new here"
            continue
        given = {parameter: each[0] for parameter, each in values.items()}
        for parameter, each in values.items():
            if any(make(**given) == make(**{**given, parameter: other}) for other in each[1:]):
                yield f"{name} gives the same bytes whatever `{parameter}` is"
