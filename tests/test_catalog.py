from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hahbench import catalog, user_code
from hahbench.errors import CatalogError, HahbenchError, UnknownNameError
from hahbench.models.load import build_model, model_digest
from hahbench.registry import import_attribute


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_every_shipped_suite_names_registered_models_and_attacks() -> None:
    for name in catalog.suites():
        suite, attacks = catalog.resolve_suite(name)
        assert [attack.name for attack in attacks] == [attack.partition(":")[0] for attack in suite.attacks]
        assert all(catalog.resolve_models(model, suite.dataset) for model in suite.models)


def test_the_base_of_a_card_may_lie_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "trained.toml", 'base = "HaH"\nweights = "w.safetensors"\ndataset = "cifar10"')
    (tmp_path / "bpda").mkdir()
    path = write(tmp_path / "bpda" / "mine.toml", 'base = "../trained.toml"\n[params]\nstraight_through = true\n')
    card = catalog.read_card(path)
    assert (card.name, card.dataset, card.params["straight_through"]) == ("mine", "cifar10", True)
    assert card.weights is not None
    assert card.weights.resolve() == (tmp_path / "w.safetensors").resolve()
    with pytest.raises(CatalogError, match=r"none.toml: no such file"):
        catalog.read_card(write(tmp_path / "lost.toml", 'base = "none.toml"'))


def test_a_card_amends_its_base_key_by_key(tmp_path: Path) -> None:
    base = catalog.models()["HaH"]
    path = write(tmp_path / "mine.toml", 'base = "HaH"\n[params]\nsigma = 0.3\n[train]\nepochs = 7\n')
    card = catalog.read_card(path)
    assert card.name == "mine"
    assert card.loader == base.loader
    assert card.params == {**base.params, "sigma": 0.3}
    assert card.train == {**base.train, "epochs": 7}


def test_an_amended_card_shows_its_own_name(tmp_path: Path) -> None:
    assert catalog.read_card(write(tmp_path / "mine.toml", 'base = "HaH"')).display == "mine"


def test_weights_lie_beside_the_card(tmp_path: Path) -> None:
    card = catalog.read_card(write(tmp_path / "mine.toml", 'base = "HaH"\nweights = "w.safetensors"\nsha256 = "ab"'))
    assert card.weights == tmp_path / "w.safetensors"
    assert card.sha256 == "ab"


def test_new_weights_do_not_inherit_the_hash_of_the_old(tmp_path: Path) -> None:
    shipped = catalog.models()["shapes/HaH"]
    card = catalog.read_card(write(tmp_path / "mine.toml", 'base = "shapes/HaH"\nweights = "w.safetensors"'))
    assert shipped.sha256 is not None
    assert card.sha256 is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('loder = "a:b"', "unknown key 'loder'; did you mean 'loader'?"),
        ("loader = 3", "key 'loader': 3; allowed: a string"),
        ('display = "x"', "needs the key 'loader' ('module:attribute') or 'base' (another card's name)"),
        ('base = "HaHa"', "key 'base': unknown model 'HaHa'; did you mean 'HaH'"),
        ("loader = ", "cannot be read as TOML"),
    ],
)
def test_a_wrong_card_names_file_key_given_and_allowed(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "card.toml", text)
    with pytest.raises(CatalogError) as caught:
        catalog.read_card(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the key 'kind'"),
        ('kind = "fmn"\nnorm = "l3"', "key 'norm': 'l3'; allowed: l0, l1, l2, linf"),
        ('kind = "fmn"\nlevels = ["2/0"]', "key 'levels': '2/0'; allowed: numbers or fractions such as '8/255'"),
        ('kind = "fmn"\ndraws = 0', "key 'draws': 0; allowed: 1 to 2147483647"),
        (f'kind = "fmn"\nseed = {2**63}', f"key 'seed': {2**63}; allowed: 0 to 2147483647"),
        ('kind = "fmn"\nseed = -1', "key 'seed': -1; allowed: 0 to 2147483647"),
        ('kind = "fmn"\nseed = true', "key 'seed': True; allowed: a whole number"),
    ],
)
def test_a_wrong_attack_names_file_key_given_and_allowed(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        catalog.read_attack(write(tmp_path / "attack.toml", text))
    assert message in str(caught.value)


def test_levels_may_be_fractions(tmp_path: Path) -> None:
    spec = catalog.read_attack(write(tmp_path / "a.toml", 'kind = "autoattack"\nlevels = ["2/255", 0.25]'))
    assert spec.levels == (2 / 255, 0.25)


def test_a_suite_may_name_attack_files_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "mine.toml", 'kind = "clean"')
    path = write(tmp_path / "s.toml", 'dataset = "shapes"\nn = 5\nmodels = []\nattacks = ["clean", "mine.toml"]')
    _, attacks = catalog.resolve_suite(str(path))
    assert [attack.name for attack in attacks] == ["clean", "mine"]


def test_a_suite_may_name_models_and_a_data_set_beside_it(tmp_path: Path) -> None:
    for name in ("net.py", "card.toml", "scans.py", "Standard"):
        (tmp_path / name).write_text("")
    suite = tmp_path / "mine.toml"
    models = '["Standard", "card.toml", "net.py", "net.py:Net", "no.py"]'
    suite.write_text(f'dataset = "scans.py:scans"\nn = 1\nattacks = []\nmodels = {models}')
    found = catalog.read_suite(suite)
    assert found.dataset == f"{tmp_path / 'scans.py'}:scans"
    names = ["card.toml", "net.py", "net.py:Net"]
    assert found.models == ("Standard", *(f"{tmp_path}/{name}" for name in names), "no.py")


def test_a_suite_may_name_another_level(tmp_path: Path) -> None:
    text = 'dataset = "shapes"\nn = 5\nmodels = []\nattacks = ["clean", "autoattack-linf:8/255", "{}"]'
    suite = write(tmp_path / "s.toml", text.format("autoattack-linf"))
    _, attacks = catalog.resolve_suite(str(suite))
    assert [(attack.name, attack.levels) for attack in attacks] == [
        ("clean", ()),
        ("autoattack-linf", (8 / 255,)),
        ("autoattack-linf", (2 / 255,)),
    ]
    suite = write(tmp_path / "s.toml", text.format("apgd-l2:half"))
    with pytest.raises(CatalogError, match=r"attack 'apgd-l2:half': level: 'half'; allowed: numbers or fractions"):
        catalog.resolve_suite(str(suite))


def write_suite(path: Path, include: str, dataset: str = "shapes") -> Path:
    return write(path, f'dataset = "{dataset}"\nn = 5\nmodels = []\nattacks = ["clean"]\ninclude = [{include}]')


def test_a_suite_may_include_others_each_of_which_is_run_once(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    path = write_suite(tmp_path / "whole.toml", '"parts/one.toml", "quick"')
    write_suite(tmp_path / "parts" / "one.toml", '"two.toml", "../whole.toml"')
    write_suite(tmp_path / "parts" / "two.toml", '"quick", "two.toml"')
    assert [suite.name for suite, _ in catalog.resolve_suites(str(path))] == ["whole", "one", "quick", "two"]


def test_an_included_suite_is_of_the_same_data_set(tmp_path: Path) -> None:
    path = write_suite(tmp_path / "whole.toml", '"quick"', dataset="cifar10")
    with pytest.raises(CatalogError, match=r"suite 'quick': key 'dataset': 'shapes'; allowed: 'cifar10', that of "):
        catalog.resolve_suites(str(path))
    with pytest.raises(UnknownNameError, match="unknown suite 'quik'; did you mean 'quick'"):
        catalog.resolve_suites(str(write_suite(tmp_path / "whole.toml", '"quik"')))


@pytest.mark.parametrize("bases", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_cards_that_amend_each_other_are_refused(tmp_path: Path, bases: dict[str, str]) -> None:
    for name, base in bases.items():
        write(tmp_path / f"{name}.toml", f'base = "{base}.toml"')
    with pytest.raises(CatalogError, match="is the card itself, or has it as its base"):
        catalog.read_card(tmp_path / "a.toml")


def test_an_attack_file_may_not_take_the_name_of_another_attack(tmp_path: Path) -> None:
    write(tmp_path / "fmn-l2.toml", 'kind = "fmn"\nnorm = "l2"\n[params]\nsteps = 1')
    path = write(tmp_path / "s.toml", 'dataset = "shapes"\nn = 5\nmodels = []\nattacks = ["fmn-l2.toml"]')
    with pytest.raises(CatalogError, match="'fmn-l2' is the name of another attack; rename the file"):
        catalog.resolve_suite(str(path))


@pytest.mark.parametrize("is_wrong", [False, True])
def test_two_attack_files_of_one_name_may_differ_in_levels_alone(tmp_path: Path, is_wrong: bool) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
    write(tmp_path / "a" / "noise.toml", 'kind = "gaussian-noise"\nlevels = [0.1]')
    other = 'kind = "pgd"\nnorm = "linf"\n' if is_wrong else 'kind = "gaussian-noise"\n'
    write(tmp_path / "b" / "noise.toml", f"{other}levels = [0.2]")
    attacks = '["a/noise.toml", "b/noise.toml"]'
    path = write(tmp_path / "s.toml", f'dataset = "shapes"\nn = 5\nmodels = []\nattacks = {attacks}')
    if is_wrong:
        with pytest.raises(CatalogError, match=r"noise.toml: another attack of suite .* has the name 'noise'"):
            catalog.resolve_suite(str(path))
    else:
        assert [spec.levels for spec in catalog.resolve_suite(str(path))[1]] == [(0.1,), (0.2,)]


def test_a_model_on_a_data_set_is_the_card_with_weights_for_it() -> None:
    assert [card.name for card in catalog.resolve_models("HaH", "shapes")] == ["shapes/HaH"]


def test_an_unknown_model_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'Standard'"):
        catalog.resolve_models("standrad", "shapes")


# The four ways to register a model; the fourth, an installed package, stands in test_wheel.py.


def test_way_1_a_decorator() -> None:
    said: dict[str, Any] = {"dataset": "cifar10", "link": "https://example.org", "additional_data": True}

    @catalog.register_model("decorated", weights="w.pt", **said)
    def loader() -> None: ...

    (card,) = catalog.resolve_models("decorated", "shapes")
    assert card.loader is loader
    assert card.weights == Path(__file__).parent / "w.pt"
    assert card.display == "decorated"
    assert {name: getattr(card, name) for name in said} == said


def test_way_2_a_card_that_names_a_loader(tmp_path: Path) -> None:
    write(tmp_path / "their_module.py", "def loader(depth):\n    return depth\n")
    path = write(tmp_path / "theirs.toml", 'loader = "their_module:loader"\n[params]\ndepth = 3')
    (card,) = catalog.resolve_models(str(path), "shapes")
    assert card.name == "theirs"
    assert isinstance(card.loader, str)
    assert import_attribute(card.loader)(**card.params) == 3


def test_way_3_a_python_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "own.py",
        "from hahbench import register_model\n@register_model('from-file')\ndef net():\n    return 1\n",
    )
    (card,) = catalog.resolve_models(str(path), "shapes")
    assert card.name == "from-file"
    assert callable(card.loader)
    assert card.loader() == 1


def test_a_moved_python_file_gives_the_same_model_digest(tmp_path: Path) -> None:
    text = "import hahbench, torch\n@hahbench.register_model('{}')\ndef net():\n    return torch.nn.Flatten()\n"
    digests = set()
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        path = write(tmp_path / folder / "own.py", text.format(f"moved-{folder}"))
        (card,) = catalog.resolve_models(str(path), "shapes")
        path.write_text(text.format("same"))
        digests.add(model_digest(card, build_model(card)))
    assert len(digests) == 1


def test_a_python_file_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "beside.py", "NAME = 'imported-name'\n")
    text = "import beside, hahbench\n@hahbench.register_model(beside.NAME)\ndef net(): ...\n"
    (card,) = catalog.resolve_models(str(write(tmp_path / "importing.py", text)), "shapes")
    assert card.name == "imported-name"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "running it raised ZeroDivisionError: division by zero"),
        ("def net(:", "running it raised SyntaxError"),
        ("import sys\nsys.exit()", "running it raised SystemExit"),
    ],
)
def test_a_python_file_that_fails_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        catalog.resolve_models(str(write(tmp_path / "broken.py", text)), "shapes")


@pytest.fixture
def no_folder_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_code, "_imported_from", [])
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.usefixtures("no_folder_in_use")
@pytest.mark.parametrize("kind", ["card", "Python file"])
def test_two_modules_of_one_name_are_not_taken_for_each_other(kind: str, tmp_path: Path) -> None:
    """Python imports the first of a name only, and so would build both models from one file."""
    arguments = []
    for folder, bias in (("one", True), ("other", False)):
        (tmp_path / folder).mkdir()
        text = f"import torch\ndef net(): return torch.nn.Linear(3, 2, bias={bias})\n"
        write(tmp_path / folder / f"{kind[0]}_network.py", text)
        card = write(tmp_path / folder / f"{folder}.toml", f'loader = "{kind[0]}_network:net"\n')
        file = write(tmp_path / folder / f"{folder}.py", f"from {kind[0]}_network import net\n")
        arguments.append(str(card) if kind == "card" else f"{file}:net")

    def built() -> list[Any]:
        return [build_model(card) for argument in arguments for card in catalog.resolve_models(argument, "shapes")]

    with pytest.raises(HahbenchError, match=r"two modules are named '._network': .*/one/.* and .*/other/.*; in one"):
        built()


@pytest.mark.usefixtures("no_folder_in_use")
def test_two_packages_of_one_name_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """What is the same in both is an empty ``__init__.py``."""
    cards = []
    for folder, bias in (("one", True), ("other", False)):
        (tmp_path / folder / "packed").mkdir(parents=True)
        write(tmp_path / folder / "packed" / "__init__.py", "")
        text = f"import torch\ndef net(): return torch.nn.Linear(3, 2, bias={bias})\n"
        write(tmp_path / folder / "packed" / "layers.py", text)
        cards.append(write(tmp_path / folder / f"{folder}.toml", 'loader = "packed.layers:net"\n'))
    with pytest.raises(HahbenchError, match="two modules are named 'packed'"):
        [build_model(card) for path in cards for card in catalog.resolve_models(str(path), "shapes")]


@pytest.mark.usefixtures("no_folder_in_use")
def test_two_copies_of_one_module_are_taken_for_each_other(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "copied_network.py", "import torch\ndef net(): return torch.nn.Linear(3, 2)\n")
        card = write(tmp_path / folder / f"{folder}.toml", 'loader = "copied_network:net"\n')
        assert [build_model(card).weight.shape for card in catalog.resolve_models(str(card), "shapes")] == [(2, 3)]
