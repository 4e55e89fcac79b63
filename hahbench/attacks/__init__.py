"""The kinds of attack, and the attacks that specs make of them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hahbench.attacks.base import Attack
from hahbench.errors import HahbenchError
from hahbench.registry import Registry, suggest
from hahbench.spec import REFERENCE, AttackSpec

ATTACK_KINDS: Registry[type[Attack]] = Registry("attack kind", "hahbench.attacks")
ATTACK_KINDS.register("clean", "hahbench.attacks.clean:Clean")
ATTACK_KINDS.register("gaussian-noise", "hahbench.attacks.noise:GaussianNoise")
ATTACK_KINDS.register("autoattack", "hahbench.attacks.autoattack:AutoAttack")
ATTACK_KINDS.register("carlini-wagner", "hahbench.attacks.carlini_wagner:CarliniWagner")
ATTACK_KINDS.register("corruption", "hahbench.attacks.corruption:RegeneratedCorruption")
ATTACK_KINDS.register("corruption-official", "hahbench.attacks.corruption:OfficialCorruption")
ATTACK_KINDS.register("fmn", "hahbench.attacks.fmn:FastMinimumNorm")
ATTACK_KINDS.register("pgd", "hahbench.attacks.pgd:ProjectedGradientDescent")
ATTACK_KINDS.register("autoattack-reference", "hahbench.attacks.reference.pyautoattack:PyAutoAttack")
ATTACK_KINDS.register("fmn-reference", "hahbench.attacks.reference.foolbox_fmn:FoolboxFastMinimumNorm")

_SCALARS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a string"),
}


def build_attack(spec: AttackSpec) -> Attack:
    """The attack that ``spec`` asks for.

    Raises:
        HahbenchError: the kind is unknown, it has no such parameter, or a value or level is not allowed.
    """
    kind = ATTACK_KINDS[spec.kind]
    where = f"attack {spec.name!r} (kind {spec.kind!r})"
    hints = _field_types(kind)
    if spec.name.startswith("corruption") and not spec.kind.startswith("corruption"):
        # Reports would take its scores for those of a corruption.
        raise HahbenchError(f"{where}: names that begin with 'corruption' are for corruptions; choose another")
    takes_norm = "norm" in hints
    if spec.norm is not None and not takes_norm:
        raise HahbenchError(f"{where}: norm {spec.norm!r} is given, but this kind has no norm")
    allowed = [name for name in hints if name != "norm"]
    for key in spec.params:
        if key not in allowed:
            raise HahbenchError(f"{where}: unknown parameter {key!r}; {suggest(key, allowed)}")
    given: Mapping[str, Any] = {"norm": spec.norm, **spec.params} if takes_norm else spec.params
    try:
        attack = kind(**{key: _checked(key, value, hints[key]) for key, value in given.items()})
        for level in spec.levels or (None,):
            attack.check_level(level)
    except (HahbenchError, TypeError) as error:
        raise HahbenchError(f"{where}: {error}") from error
    return attack


def on_reference_engine(spec: AttackSpec) -> AttackSpec:
    """The same attack carried out by the library that people use for it; itself where there is none."""
    kind = spec.kind + REFERENCE
    return dataclasses.replace(spec, kind=kind, name=spec.name + REFERENCE) if kind in ATTACK_KINDS else spec


def _field_types(kind: type[Attack]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(typing.cast(Any, kind)) if field.init}


def _checked(key: str, value: object, hint: Any) -> object:
    """``value`` in the type ``hint``; what is no number, truth value, choice or sequence of these is let through."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _checked(key, value, next(option for option in arguments if option is not type(None)))
    if origin is Literal:
        if value not in arguments:
            raise HahbenchError(f"{key} = {value!r} is not allowed; allowed: {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise HahbenchError(f"{key} = {value!r} is not allowed; it must be a list")
        return tuple(_checked(key, item, arguments[0]) for item in value)
    if hint in _SCALARS:
        accepted, noun = _SCALARS[hint]
        if type(value) not in accepted:
            raise HahbenchError(f"{key} = {value!r} is not allowed; it must be {noun}")
        return hint(value)
    return value
