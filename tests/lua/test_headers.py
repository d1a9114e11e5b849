"""The headers of the scripts are data that callers rely on: here they are held against the code below them."""

from __future__ import annotations

import re

import pytest
import redis as redis_py

from broker import scripts
from broker.keys import Keys
from tests.redis_cli import ROOT

LUA = ROOT / "lua"
ARGUMENT = re.compile(r"^local (\w+) = (?:(?:[a-z.]+\(|0, )*)ARGV\[(\d+)\]", re.MULTILINE)
# A line that ends in a comma is a field of a table.
ASSIGNED = r"(?m)(?:^|\bthen\b|\belse\b|\bdo\b|;)[ \t]*((?:\w+, *)*\w+) *=(?!=)(?![^\n]*,$)"
FORMS = re.compile(r"^\s*return \{'(\w+)'", re.MULTILINE)
ERRORS = re.compile(r"redis\.error_reply\('([A-Z_]+) ?")
SUFFIX = re.compile(r"base \.\. '([a-z]+:?)'")
CHOSEN = re.compile(r"base \.\. \((.+?)\)")

ALL = pytest.mark.parametrize("script", scripts.load_all(), ids=lambda script: script.name)


def code(text: str) -> str:
    """Lua without its comments."""
    return re.sub(r"--[^\n]*", "", text)


def test_every_file_is_a_known_script_or_a_part_of_one() -> None:
    names = {path.stem for path in LUA.glob("*.lua")}
    assert names == {*scripts.NAMES, "include_base", "include_lease", "include_queue"}


@ALL
def test_arguments_stand_in_the_order_of_the_header(script: scripts.Script) -> None:
    named = {int(index): name for name, index in ARGUMENT.findall(script.body)}
    assert [named[index] for index in sorted(named)] == list(script.args)
    assert sorted(named) == list(range(1, len(script.args) + 1))


@ALL
def test_no_argument_is_used_before_it_has_its_name(script: scripts.Script) -> None:
    uses = [int(index) for index in re.findall(r"ARGV\[(\d+)\]", code(script.body))]
    assert sorted(uses) == list(range(1, len(script.args) + 1)), "each ARGV[n] once, where it gets its name"


@ALL
def test_further_arguments_begin_behind_the_named_ones(script: scripts.Script) -> None:
    first = re.findall(r"^local first_\w+ = (\d+)$", script.body, re.MULTILINE)
    assert first == ([str(len(script.args) + 1)] if script.rest else [])
    assert bool(script.rest) == ("#ARGV" in code(script.body))


@ALL
def test_one_key_the_base_of_the_pool(script: scripts.Script) -> None:
    assert script.keys == ("base",)
    assert re.findall(r"KEYS\[\d+\]", code(script.body)) == ["KEYS[1]"]
    assert re.search(r"^local base = KEYS\[1\]", script.body, re.MULTILINE)


@ALL
def test_every_form_of_answer_is_in_the_header_and_the_other_way_round(script: scripts.Script) -> None:
    returned = set(FORMS.findall(code(script.body)))
    announced = {word for form in script.returns for word in re.findall(r"^\{'(\w+)'", form)}
    announced |= {word for form in script.returns for word in re.findall(r"^\{'\w+' \| '(\w+)'", form)}
    assert returned == announced


@ALL
def test_every_error_is_in_the_header_and_the_other_way_round(script: scripts.Script) -> None:
    announced = {line.partition(":")[0] for line in script.errors if line != "none"}
    assert set(ERRORS.findall(code(script.body))) == announced


def test_suffixes_are_those_of_the_keys_class() -> None:
    known = {value for name, value in vars(Keys).items() if name.isupper()}
    used: set[str] = set()
    for path in LUA.glob("*.lua"):
        text = code(path.read_text("utf-8"))
        used |= set(SUFFIX.findall(text))
        for choice in CHOSEN.findall(text):
            used |= set(re.findall(r"(?:and|or) '(\w+)'", choice))
    assert used == known


def test_list_reads_the_sets_that_it_names() -> None:
    """The one script that gets a suffix as an argument takes no others than these two."""
    body = scripts.load("list").body
    assert "base .. kind" in body
    assert set(re.findall(r"kind == '(\w+)'", body)) == {Keys.LEASED, Keys.SUSPECT, Keys.ACCOUNTS}


@ALL
def test_server_accepts_the_text_under_the_hash_that_we_computed(script: scripts.Script, redis: redis_py.Redis) -> None:
    assert redis.script_load(script.text) == script.sha


@ALL
def test_no_script_assigns_a_global(script: scripts.Script) -> None:
    """A static look, because a global on a path that no test takes would break every later script of the server."""
    text = re.sub(r"'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", "''", code(script.text))
    known: set[str] = set()
    for names in re.findall(r"\blocal (?!function\b)([\w, ]+?)(?=\s*=|\s*\n)", text):
        known |= {name.strip() for name in names.split(",")}
    for name, parameters in re.findall(r"\blocal function (\w+)\(([^)]*)\)", text):
        known |= {name, *(parameter.strip() for parameter in parameters.split(","))}
    for names in re.findall(r"\bfor ([\w, ]+?)(?= in\b|\s*=)", text):
        known |= {name.strip() for name in names.split(",")}
    assert not re.findall(r"(?<!local )\bfunction (\w+)", text), "functions are local"
    assigned = {name.strip() for names in re.findall(ASSIGNED, text) for name in names.split(",")}
    assert assigned - known == set()


def test_the_look_for_globals_sees_one() -> None:
    leaky = scripts.parse("x", "-- x: leaks\n-- returns {1}: one\n-- error none\nif true then\n  leak = 1\nend\n", str)
    with pytest.raises(AssertionError, match="leak"):
        test_no_script_assigns_a_global(leaky)


def test_includes_stand_where_they_are_named() -> None:
    """In the header: in front of everything. Further down: there."""
    parts = {"front": "local one = 1\n", "middle": "local two = 2\n"}
    header = "-- x: adds\n-- include front\n-- returns {3}: three\n-- error none\n"
    script = scripts.parse("x", f"{header}local zero = 0\n-- include middle\nreturn {{one + two}}\n", parts.__getitem__)
    assert script.text == f"local one = 1\n{header}local zero = 0\nlocal two = 2\nreturn {{one + two}}\n"
    for script in scripts.load_all():
        assert (script.text != script.body) == ("-- include " in script.body), script.name
