"""MODULE:ATTRIBUTE: what it finds, and the sentence when it finds nothing."""

import sys
from pathlib import Path

import pytest

from broker import Broker
from broker.cli.errors import CommandError
from broker.cli.loading import load_application, load_broker, load_object
from broker.flow.settings import ConfigError

SOURCE = """
from broker import Broker
broker = Broker(ping_interval=3)
class holder:
    inner = broker
number = 3
nothing = None
def make(): return broker
def make_with_default(broker=broker): return broker
def make_from(settings): return Broker(settings)
def make_wrong(): return 3
async def make_later(): return broker
def app(scope, receive, send): ...
"""


@pytest.fixture(autouse=True)
def _directory(tmp_path, monkeypatch):
    """Work in a directory of its own, and forget what was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    Path("some_app.py").write_text(SOURCE)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(load, *arguments) -> str:
    with pytest.raises(CommandError) as caught:
        load(*arguments)
    assert caught.value.exit_code == 2
    (line,) = caught.value.lines
    return line


@pytest.mark.parametrize(
    "target", ["some_app:broker", "some_app:holder.inner", "some_app:make", "some_app:make_with_default"]
)
def test_a_broker_is_found_in_the_working_directory(target):
    broker = load_broker(target, None)
    assert isinstance(broker, Broker)
    assert broker.settings.ping_interval == 3.0


def test_a_function_that_takes_settings_is_given_them(monkeypatch):
    monkeypatch.setenv("BROKER_PING_TIMEOUT", "7")
    Path("broker.toml").write_text("[broker]\nping_interval = 5.0")
    assert load_broker("some_app:make_from", None).settings.ping_timeout == 7.0
    settings = load_broker("some_app:make_from", "broker.toml").settings
    assert (settings.ping_interval, settings.ping_timeout) == (5.0, 7.0)


def test_wrong_settings_are_told_as_such():
    Path("broker.toml").write_text("[broker]\nping_interval = 0")
    with pytest.raises(ConfigError):
        load_broker("some_app:make_from", "broker.toml")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("some_app:broker", "some_app:broker has its settings already: --config needs a function"),
        ("some_app:make", "some_app:make takes no settings: --config needs a function with one parameter"),
    ],
)
def test_a_config_that_nobody_would_read_is_refused(target, said):
    assert refusal(load_broker, target, "broker.toml").startswith(said)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("some_app", "'some_app' is not MODULE:ATTRIBUTE"),
        ("some_app:", "'some_app:' is not MODULE:ATTRIBUTE"),
        (":broker", "':broker' is not MODULE:ATTRIBUTE"),
        ("a..b:c", "'a..b:c' is not MODULE:ATTRIBUTE"),
        ("some_ap:broker", "there is no module some_ap in "),
        ("some_pkg.sub:broker", "there is no module some_pkg in "),
        ("some_app:brokr", "module some_app has no attribute brokr; did you mean broker?"),
        ("some_app:holder.iner", "some_app:holder has no attribute iner; did you mean inner?"),
        ("some_app:zzz", "module some_app has no attribute zzz"),
        ("some_app:number", "some_app:number is an instance of int, neither a Broker nor a function"),
        ("some_app:nothing", "some_app:nothing is None, neither"),
        ("some_app:make_wrong", "some_app:make_wrong() returned an instance of int, not a Broker"),
        ("some_app:make_later", "some_app:make_later is an async function"),
    ],
)
def test_what_cannot_be_had_is_told_in_a_sentence(target, said):
    assert refusal(load_broker, target, None).startswith(said)


def test_a_built_in_without_a_signature_is_called_plainly():
    Path("some_app.py").write_text("make = dict\n")
    assert (
        refusal(load_broker, "some_app:make", None)
        == "some_app:make() returned an instance of dict, not a Broker"
    )


def test_a_mistake_in_the_syntax_is_told_with_its_place():
    Path("some_app.py").write_text("x = 1\ndef f(:\n")
    told = refusal(load_object, "some_app:x")
    assert told.startswith("module some_app cannot be imported: SyntaxError: ")
    assert told.endswith("some_app.py:2)")


def test_a_module_that_needs_another_says_which():
    Path("some_app.py").write_text("import not_there_at_all\n")
    assert (
        refusal(load_object, "some_app:x") == "module some_app needs not_there_at_all, which is not installed"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", "module some_app cannot be imported: ZeroDivisionError: division by zero ("),
        ("def", "module some_app cannot be imported: SyntaxError: "),
        ("from os import nothing", "module some_app cannot be imported: ImportError: "),
    ],
)
def test_a_module_that_fails_says_how(source, said):
    Path("some_app.py").write_text(source)
    assert refusal(load_object, "some_app:x").startswith(said)


def test_applications():
    assert callable(load_application("some_app:app"))
    assert refusal(load_application, "some_app:number").endswith(
        "is an instance of int, not an ASGI application"
    )
