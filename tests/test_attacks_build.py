"""Specs to attacks: every mistake is one line that names the attack, the key, what was given and what is allowed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from hahbench.attacks import ATTACK_KINDS, build_attack, on_reference_engine
from hahbench.attacks.autoattack import AutoAttack
from hahbench.attacks.fmn import FastMinimumNorm
from hahbench.attacks.reference.pyautoattack import PyAutoAttack
from hahbench.errors import HahbenchError
from hahbench.spec import AttackSpec, Norm


def test_parameters_reach_the_attack() -> None:
    assert build_attack(AttackSpec("a", "fmn", "l2", params={"steps": 7, "gamma": 0.1})) == FastMinimumNorm(
        "l2", 7, 1.0, 0.1
    )
    spec = AttackSpec("b", "autoattack", "linf", (0.1,), {"members": ["apgd-ce", "square"]})
    assert build_attack(spec) == AutoAttack("linf", ("apgd-ce", "square"))


def test_the_reference_engine_carries_out_the_same_attack_under_another_name() -> None:
    spec = AttackSpec("b", "autoattack", "linf", (0.1,), {"members": ["apgd-ce"]}, seed=3)
    by_library = on_reference_engine(spec)
    assert by_library == dataclasses.replace(spec, name="b-reference", kind="autoattack-reference")
    assert build_attack(by_library) == PyAutoAttack("linf", ("apgd-ce",))
    noise = AttackSpec("noise", "gaussian-noise", levels=(0.1,))
    assert on_reference_engine(noise) is noise


def test_a_whole_number_is_a_number() -> None:
    attack = build_attack(AttackSpec("a", "fmn", "l1", params={"max_stepsize": 2}))
    assert repr(attack.max_stepsize) == "2.0"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "norm", "params", "message"),
    [
        ("fnm", "l2", {}, r"unknown attack kind 'fnm'; did you mean 'fmn'\?"),
        ("fmn", "l2", {"step": 1}, r"attack 'mine' \(kind 'fmn'\): unknown parameter 'step'; did you mean 'steps'\?"),
        ("fmn", "l2", {"norm": "l1"}, "unknown parameter 'norm'; allowed: batch_size, gamma, max_stepsize, steps"),
        ("clean", None, {"steps": 1}, "unknown parameter 'steps'; allowed: nothing"),
        ("fmn", "l2", {"steps": 1.5}, "steps = 1.5 is not allowed; it must be a whole number"),
        ("fmn", "l2", {"steps": True}, "steps = True is not allowed; it must be a whole number"),
        ("fmn", "l2", {"steps": 0}, "'mine' .* steps = 0 is not allowed; it must be at least 1"),
        ("fmn", "l2", {"gamma": "0.1"}, "gamma = '0.1' is not allowed; it must be a number"),
        ("fmn", "l2", {"max_stepsize": math.inf}, "max_stepsize = inf is not allowed; it must be positive and finite"),
        ("carlini-wagner", "l2", {"confidence": math.inf}, "confidence = inf is not allowed; it must be at least 0"),
        ("corruption", None, {"corruption": 3}, "corruption = 3 is not allowed; it must be a string"),
        ("corruption", None, {"corruption": "frost", "photographs": 5}, "photographs = 5 is not allowed; it must be a"),
        ("fmn", "l2", {"gamma": 1}, "gamma = 1.0 is not allowed; it must lie between 0 and 1"),
        ("fmn", None, {}, "norm = None is not allowed; allowed: 'l0', 'l1', 'l2', 'linf'"),
        ("autoattack", "l0", {}, "norm = 'l0' is not allowed; allowed: 'l1', 'l2', 'linf'"),
        ("autoattack", "l2", {"members": "apgd-ce"}, "members = 'apgd-ce' is not allowed; it must be a list"),
        ("autoattack", "l2", {"members": ["pgd"]}, "members = 'pgd' is not allowed; allowed: 'apgd-ce'"),
        ("autoattack", "l2", {"randomized": 1}, "randomized = 1 is not allowed; it must be true or false"),
        ("autoattack", "l2", {"randomized": True, "members": ["square"]}, "member 'square' cannot be randomized"),
        ("autoattack", "l1", {"members": ["fab-t"]}, "'fab-t' has no norm 'l1'; allowed: 'apgd-ce', "),
        ("autoattack", "l2", {"batch_size": 0}, "batch_size = 0 is not allowed; it must be at least 1"),
        ("gaussian-noise", "l2", {}, "norm 'l2' is given, but this kind has no norm"),
    ],
)
def test_a_mistake_is_named(kind: str, norm: Norm | None, params: dict[str, Any], message: str) -> None:
    with pytest.raises(HahbenchError, match=message) as caught:
        build_attack(AttackSpec("mine", kind, norm, params=params))
    assert "\n" not in str(caught.value)


def test_the_names_of_corruptions_are_kept_for_them() -> None:
    with pytest.raises(HahbenchError, match="names that begin with 'corruption' are for corruptions; choose another"):
        build_attack(AttackSpec("corruption-aware", "pgd", "linf", (0.1,)))


@pytest.mark.parametrize(
    ("kind", "norm", "levels", "message"),
    [
        ("clean", None, (0.1,), "level = 0.1 is not allowed; this kind has no levels"),
        ("gaussian-noise", None, (), "level = None is not allowed; each of the levels must be a standard deviation"),
        ("gaussian-noise", None, (0.1, -0.1), "level = -0.1 is not allowed"),
        ("fmn", "l2", (0.5,), "level = 0.5 is not allowed; this kind has no levels"),
        ("autoattack", "linf", (), "level = None is not allowed; each of the levels must be an epsilon > 0"),
        ("autoattack", "linf", (0.1, 0.0), "level = 0.0 is not allowed"),
        ("autoattack", "linf", (8.0,), "level = 8 is not allowed; in l_inf .* did you mean '8/255'?"),
        ("pgd", "linf", (1.0, 8.0), "level = 8 is not allowed; in l_inf .* did you mean '8/255'?"),
    ],
)
def test_a_wrong_level_is_named_before_anything_is_run(
    kind: str, norm: Norm | None, levels: tuple[float, ...], message: str
) -> None:
    with pytest.raises(HahbenchError, match=rf"attack 'mine' \(kind '{kind}'\): {message}"):
        build_attack(AttackSpec("mine", kind, norm, levels))


def test_every_kind_says_its_version_and_passes() -> None:
    norms: dict[str, Norm] = {"autoattack": "linf", "carlini-wagner": "l2", "fmn": "l2", "pgd": "linf"}
    norms |= {f"{kind}-reference": norms[kind] for kind in ("autoattack", "fmn")}
    levels: dict[str, tuple[float, ...]] = dict.fromkeys(
        ("gaussian-noise", "autoattack", "autoattack-reference", "pgd"), (0.1,)
    )
    levels |= dict.fromkeys(("corruption", "corruption-official"), (1.0,))
    params = {"corruption": {"corruption": "fog"}, "corruption-official": {"corruption": "fog", "folder": "CIFAR-10-C"}}
    for kind in ATTACK_KINDS:
        attack = build_attack(AttackSpec(kind, kind, norms.get(kind), levels.get(kind, ()), params.get(kind, {})))
        assert attack.version
        assert attack.passes >= 1
        assert attack.worst_case == (kind in norms)
