"""Checks: requirements on a module before it computes with anybody's events; each failure is one line.

A module that fails in the middle of a round would waste an attempt that is already charged.
"""

from __future__ import annotations

from typing import Any

import torch

from palate_core.errors import InputError
from palate_torch.functional import FEATURES, Functional, one_thread
from palate_torch.parameters import Parameters
from palate_torch.recommender import Catalogue, Events, Recommender
from palate_torch.settings import ModuleSettings

MEMBERS = ("private", "forward")
MIXING = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.instancenorm._InstanceNorm)
"""Layers that keep statistics over their inputs."""


def check_class(cls: type[Recommender]) -> None:
    """Refuse a class that lacks a member of the protocol.

    Raises:
        InputError: it lacks one.
    """
    owner = f"the module {cls.__name__}"
    for member in MEMBERS:
        inherited = getattr(Recommender, member, None)
        if getattr(cls, member, None) is inherited:
            raise InputError(f"{owner} must have a method `{member}`, got none")
    settings = cls.Settings
    if not (isinstance(settings, type) and issubclass(settings, ModuleSettings)):
        raise InputError(f"{owner} must have `Settings` that derive from ModuleSettings, got {settings!r}")
    if isinstance(cls.item_rows, str) or not all(isinstance(name, str) for name in cls.item_rows):
        raise InputError(f"{owner} must have a tuple of names as `item_rows`, got {cls.item_rows!r}")


def make_module(cls: type[Recommender], settings: ModuleSettings, catalogue: Catalogue, seed: int) -> Recommender:
    """Make the module from the seed; torch's global random state is restored.

    Raises:
        InputError: it can't be made, or keeps statistics.
    """
    owner = f"the module {cls.__name__}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = cls(settings, catalogue).eval()
        except Exception as error:
            raise InputError(f"{owner} must be made by (settings, catalogue), got {_error_line(error)}") from error
    for name, part in module.named_modules():
        if isinstance(part, MIXING):
            raise InputError(
                f"{owner} must not mix users or keep statistics of them, got {type(part).__name__} at `{name}`: "
                "use LayerNorm"
            )
    for name, buffer in module.named_buffers():
        shape = (catalogue.n_items, catalogue.n_features)
        if name == FEATURES and tuple(buffer.shape) != shape:
            raise InputError(f"{owner} must have a buffer `features` of shape {shape}, got {tuple(buffer.shape)}")
    return module


def check_computes(cls: type[Recommender], settings: ModuleSettings, n_features: int) -> None:
    """Run the module for two made-up users, one of them without events, in a tiny catalogue.

    Raises:
        InputError: a method fails, returns something of another shape, or changes a buffer.
    """
    tried = (cls, settings.model_dump_json(), n_features)
    if tried in _COMPUTE:
        return
    n_items, length, owner = 5, 3, f"the module {cls.__name__}"
    module = make_module(cls, settings, Catalogue(n_items, n_features), seed=0)
    parameters = Parameters.of(module, n_items)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    held = {name: tensor.detach() for name, tensor in module.named_parameters()}
    shared, tables = ({name: held[name] for name in names} for names in (parameters.shared, parameters.rows))
    if FEATURES in before:
        tables[FEATURES] = before[FEATURES]
    own = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    events = Events(own * 2, own, torch.ones(2, length))
    rows = {name: table[:length].expand(2, length, *table.shape[1:]) for name, table in tables.items()}
    # The same users, with padding after their items.
    longer = Events(*(torch.nn.functional.pad(each, (0, n_items - length)) for each in events))
    padded = {
        name: torch.cat([each, each.new_zeros(2, n_items - length, *each.shape[2:])], 1) for name, each in rows.items()
    }
    with one_thread():
        _check_methods(module, owner, n_items)
        try:
            functional = Functional(module, settings)
            changes, same = functional.changes(shared, rows, events), functional.changes(shared, padded, longer)
            scores = functional.scores(shared, tables, rows, events, longer)
        except Exception as error:
            raise InputError(
                f"{owner} must compute under `torch.func`, for many users at once, got {_error_line(error)}"
            ) from error
    if tuple(scores.shape) != (2, n_items):
        raise InputError(f"{owner} must score each of {n_items} items once, got shape {tuple(scores.shape[1:])}")
    for name, change in changes.items():
        rest = same[name][:, :length] if name in parameters.rows else same[name]
        if not torch.allclose(change, rest, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise InputError(f"{owner} must not let items matter that aren't `counted`, got another change of `{name}`")
    changed = [name for name, buffer in module.named_buffers() if not torch.equal(buffer, before[name])]
    if changed:
        raise InputError(f"{owner} must not change a buffer: nothing may pass from user to user, got {changed[0]!r}")
    _COMPUTE.add(tried)


_COMPUTE: set[tuple[type[Recommender], str, int]] = set()
"""What has passed already: a plan, a model and a round each make their algorithm anew."""


def _check_methods(module: Recommender, owner: str, n_items: int) -> None:
    """Check each method by itself for one user, where messages are clearest."""
    own = torch.zeros(n_items).index_fill(0, torch.tensor([0]), 1.0)
    events = Events(own, own, torch.ones(n_items))
    user = _call_checked(f"{owner}: `private`", module.private, events)
    if not (isinstance(user, dict) and all(_is_float(value) for value in user.values())):
        raise InputError(f"{owner} must return float32 tensors by name from `private`, got {_kind(user)}")
    scores = _call_checked(f"{owner}: `forward`", module.forward, user, events)
    if not (_is_float(scores) and tuple(scores.shape) == (n_items,)):
        raise InputError(f"{owner} must return float32 scores of shape ({n_items},), got {_kind(scores)}")
    loss = _call_checked(f"{owner}: `loss`", module.loss, scores, events)
    if not (_is_float(loss) and loss.ndim == 0):
        raise InputError(f"{owner} must return one float32 number from `loss`, got {_kind(loss)}")


def _call_checked(what: str, method: Any, *arguments: Any) -> Any:
    """Call a method; its error becomes one line."""
    try:
        return method(*arguments)
    except Exception as error:
        raise InputError(f"{what} must compute for any events, got {_error_line(error)}") from error


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _kind(value: Any) -> str:
    """A short description of a value."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"a dict of {', '.join(sorted({_kind(each) for each in value.values()})) or 'nothing'}"
    return type(value).__name__


def _error_line(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
