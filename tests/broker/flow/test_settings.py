"""Settings: defaults, checks in words, TOML, environment, and how they are shown."""

import copy
import pickle
import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.flow.settings import ConfigError, CookieOptions, Recovery, Settings
from broker.flow.settings_sources import structure
from protocol.limits import Limits


def problems(*args, call=Settings, **options) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        call(*args, **options)
    return caught.value.problems


def load(tmp_path, text: str, **environ: str) -> Settings:
    file = tmp_path / "broker.toml"
    file.write_text(text, "utf-8")
    return Settings.load(file, environ)


# -- in code -------------------------------------------------------------------


def test_defaults_are_the_documented_ones():
    settings = Settings()
    assert settings.path == "/socket.io"
    assert settings.transports == ("polling", "websocket")
    assert (settings.ping_interval, settings.ping_timeout) == (25.0, 20.0)
    assert (settings.connect_timeout, settings.upgrade_timeout) == (45.0, 10.0)
    assert settings.max_payload_bytes == 1_000_000
    assert settings.cors_allowed_origins == ()
    assert settings.cookie is None
    assert settings.recovery is None
    assert settings.overflow == "disconnect"
    assert settings.limits == Limits()


def test_settings_do_not_change():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Settings().ping_interval = 3.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("pingInterval", "ping_interval"),
        ("ping_intervall", "ping_interval"),
        ("maxPayloadBytes", "max_payload_bytes"),
        ("cors_allowed_origin", "cors_allowed_origins"),
        ("serveClient", "serve_client"),
    ],
)
def test_an_unknown_option_names_the_nearest(name, nearest):
    assert problems(**{name: 1}) == (f"{name}: unknown option; did you mean {nearest}?",)


def test_an_unknown_option_like_no_other_is_named_alone():
    assert problems(zzz=1) == ("zzz: unknown option",)


def test_options_are_given_by_keyword():
    with pytest.raises(TypeError):
        Settings("/socket.io")


@pytest.mark.parametrize("name", ["ping_interval", "ping_timeout", "connect_timeout", "upgrade_timeout"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), 25_000, "25", None, True])
def test_durations_are_seconds_in_range(name, value):
    (line,) = problems(**{name: value})
    assert line.startswith(f"{name}: must be a number of seconds (not milliseconds) above 0")
    assert line.endswith(f"found {value!r}") or isinstance(value, int)


def test_a_whole_number_of_seconds_becomes_a_float():
    value = Settings(ping_interval=10).ping_interval
    assert value == 10.0
    assert type(value) is float


@pytest.mark.parametrize("value", [0, -1, 1.5, "1000", True, 2**31])
def test_sizes_are_whole_numbers_in_range(value):
    (line,) = problems(max_payload_bytes=value)
    assert line == (f"max_payload_bytes: must be a whole number from 1 to 1,073,741,824, found {value!r}")


@pytest.mark.parametrize("value", ["false", 0, 1, None])
def test_switches_are_true_or_false(value):
    assert problems(serve_client=value) == (f"serve_client: must be True or False, found {value!r}",)


def test_all_problems_are_told_at_once():
    lines = problems(ping_interval=0, overflow="block", path="chat", allow_upgrades=1)
    assert [line.partition(":")[0] for line in lines] == [
        "path",
        "ping_interval",
        "allow_upgrades",
        "overflow",
    ]
    assert lines[3] == (
        "overflow: must be one of disconnect, drop_oldest, drop_newest, keep_latest, wait, found 'block'"
    )


@pytest.mark.parametrize("path", ["/socket.io", "/socket.io/", "/a/b", "/a"])
def test_a_path_loses_its_last_slash(path):
    assert Settings(path=path).path == path.removesuffix("/")


@pytest.mark.parametrize("path", ["", "/", "chat", "/a b", "/a?b", "/a#b", "//a", "/a\r\n", "/a//", 3])
def test_a_path_that_cannot_be_matched_is_refused(path):
    (line,) = problems(path=path)
    assert line.startswith('path: must be a path like "/socket.io"')


def test_transports():
    assert Settings(transports="websocket").transports == ("websocket",)
    assert Settings(transports=["websocket", "polling"]).transports == ("websocket", "polling")
    assert problems(transports=[]) == ("transports: must be one or more of polling, websocket, found ()",)
    assert problems(transports=["polling", "webtransport"]) == (
        "transports: must be one of polling, websocket, found 'webtransport'",
    )
    (line,) = problems(transports=["polling", "polling"])
    assert "free of repeats" in line
    assert problems(transports=3)[0].startswith("transports: must be")


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("https://app.example", ("https://app.example",)),
        (["HTTPS://App.Example:443"], ("https://app.example",)),
        (["http://a:80", "https://a:80"], ("http://a", "https://a:80")),
        (
            ["http://[::1]:3000", "capacitor://localhost"],
            ("http://[::1]:3000", "capacitor://localhost"),
        ),
        (["null", "file://"], ("null", "file://")),
        ("*", "*"),
        (["*"], "*"),
        ([], ()),
    ],
)
def test_origins_are_kept_as_browsers_send_them(given_, kept):
    assert Settings(cors_allowed_origins=given_).cors_allowed_origins == kept


@pytest.mark.parametrize(
    "origin",
    [
        "app.example",
        "https://app.example/",
        "https://a/b",
        "https://a b",
        "https://*.a",
        "",
        "https://a\r\n",
        3,
    ],
)
def test_what_is_no_origin_is_refused(origin):
    (line,) = problems(cors_allowed_origins=[origin])
    assert line.startswith('cors_allowed_origins: must be "*" or origins like "https://app.example"')
    assert line.endswith(f"found {origin!r}")


def test_origins_that_are_no_list_are_refused():
    assert problems(cors_allowed_origins=3)[0].startswith("cors_allowed_origins: must be")


def test_credentials_need_named_origins():
    assert Settings(cors_credentials=True, cors_allowed_origins="https://a").cors_credentials
    (line,) = problems(cors_credentials=True, cors_allowed_origins="*")
    assert line.startswith("cors_credentials: cannot be True")


@pytest.mark.parametrize("name", ["cors_methods", "cors_allowed_headers"])
@pytest.mark.parametrize("value", [["GET\r\nX: y"], ["a b"], [""], [3], 3])
def test_header_tokens_cannot_break_out(name, value):
    assert problems(**{name: value})[0].startswith(f"{name}: must be a list of")


def test_cors_max_age():
    assert Settings(cors_max_age=600).cors_max_age == 600
    assert problems(cors_max_age=-1)[0].startswith("cors_max_age: must be a whole number from 0")


@pytest.mark.parametrize("name", ["allow_request", "generate_id"])
def test_hooks_are_callables(name):
    assert getattr(Settings(**{name: print}), name) is print
    assert problems(**{name: 3}) == (f"{name}: must be None or a callable, found 3",)


def test_groups_are_of_their_class():
    assert Settings(recovery=Recovery(window=3)).recovery == Recovery(window=3.0)
    assert problems(recovery=True) == ("recovery: must be None or an instance of Recovery, found True",)
    assert problems(limits=None) == ("limits: must be an instance of Limits, found None",)
    assert problems(call=Recovery, window=0)[0].startswith("recovery.window: must be a number")
    assert problems(call=Recovery, windw=1) == ("recovery.windw: unknown option; did you mean window?",)


# -- the cookie ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        (None, None),
        (False, None),
        (True, CookieOptions()),
        ("node", CookieOptions(name="node")),
        ({"name": "n", "path": None}, CookieOptions(name="n", path=None)),
        (CookieOptions(secure=True), CookieOptions(secure=True)),
    ],
)
def test_short_forms_of_the_cookie(given_, kept):
    assert Settings(cookie=given_).cookie == kept


def test_the_cookie_header():
    assert CookieOptions().render("abc") == "io=abc; Path=/; HttpOnly; SameSite=Lax"
    full = CookieOptions(
        name="n",
        path="/x",
        http_only=False,
        same_site="None",
        secure=True,
        domain="a.example",
        max_age=60,
    )
    assert full.render("abc") == ("n=abc; Max-Age=60; Domain=a.example; Path=/x; Secure; SameSite=None")
    assert CookieOptions(path=None, http_only=False, same_site=None).render("abc") == "io=abc"


@given(
    name=st.sampled_from(["name", "path", "domain"]),
    before=st.text("ab/", max_size=3),
    bad=st.sampled_from([*map(chr, range(33)), ";", "\x7f", "é", "\u2028"]),
    after=st.text("ab/", max_size=3),
)
def test_nothing_breaks_out_of_the_cookie_header(name, before, bad, after):
    (line,) = problems(call=CookieOptions, **{name: before + bad + after})
    assert line.startswith(f"cookie.{name}: must be")


def test_other_cookie_problems():
    assert problems(cookie=3) == ("cookie: must be None or an instance of CookieOptions, found 3",)
    assert problems(cookie={"nam": "x"}) == ("cookie.nam: unknown option; did you mean name?",)
    assert problems(call=CookieOptions, same_site="lax")[0].startswith("cookie.same_site: must be one of")
    assert "needs cookie.secure" in problems(call=CookieOptions, same_site="None")[0]
    assert problems(call=CookieOptions, max_age=-1)[0].startswith("cookie.max_age: must be a whole")


# -- copies and errors ---------------------------------------------------------


def test_replace_checks_the_whole():
    settings = Settings(cors_allowed_origins="*")
    assert settings.replace(ping_interval=3).ping_interval == 3.0
    assert settings.replace(ping_interval=3).cors_allowed_origins == "*"
    assert problems(call=settings.replace, cors_credentials=True)[0].startswith("cors_credentials")
    assert problems(call=settings.replace, pingInterval=3)[0].startswith("pingInterval: unknown")


def test_a_copy_is_equal():
    settings = Settings(cookie="io", recovery=Recovery())
    assert copy.deepcopy(settings) == settings
    assert settings.replace() == settings


def test_the_error_is_a_value_error_that_survives_pickling():
    error = ConfigError("a: wrong", "b: wrong")
    assert isinstance(error, ValueError)
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "a: wrong; b: wrong"


# -- TOML ----------------------------------------------------------------------

EVERYTHING = """
[broker]
path = "/live/"
transports = ["websocket"]
ping_interval = 10
cors_allowed_origins = "https://app.example"
cors_max_age = 600
serve_client = false
overflow = "drop_oldest"

[broker.cookie]
name = "node"
secure = true

[broker.recovery]
window = 60.0

[broker.limits]
max_attachments = 5
write_timeout = 3
"""


def test_a_file_sets_everything(tmp_path):
    assert load(tmp_path, EVERYTHING) == Settings(
        path="/live",
        transports="websocket",
        ping_interval=10.0,
        cors_allowed_origins=["https://app.example"],
        cors_max_age=600,
        serve_client=False,
        overflow="drop_oldest",
        cookie={"name": "node", "secure": True},
        recovery=Recovery(window=60.0),
        limits=Limits(max_attachments=5, write_timeout=3),
    )


def test_a_file_without_the_table_is_taken_whole(tmp_path):
    assert load(tmp_path, "ping_timeout = 5.0") == Settings(ping_timeout=5.0)


def test_tables_of_others_beside_ours_are_left_alone(tmp_path):
    assert load(tmp_path, "[app]\nx = 1\n[broker]\nping_timeout = 5.0") == Settings(ping_timeout=5.0)


def test_short_forms_work_in_a_file(tmp_path):
    assert load(tmp_path, 'cookie = "node"').cookie == CookieOptions(name="node")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "[limits]\nmax_attachments = 'ten'",
            ["limits.max_attachments: must be a whole number, found 'ten'"],
        ),
        (
            "[limits]\nmax_attachments = true",
            ["limits.max_attachments: must be a whole number, found True"],
        ),
        (
            "[limits]\nmax_attachments = 1.5",
            ["limits.max_attachments: must be a whole number, found 1.5"],
        ),
        (
            "[limits]\nmax_atachments = 5",
            ["limits.max_atachments: unknown option; did you mean max_attachments?"],
        ),
        (
            "[limits]\nmax_attachments = 0\njson_depth = -1",
            [
                "limits.max_attachments: limit max_attachments must be greater than 0, not 0",
                "limits.json_depth: limit json_depth must be greater than 0, not -1",
            ],
        ),
        ("limits = 3", ["limits: must be a table, found 3"]),
        ("ping_interval = '10'", ["ping_interval: must be a number, found '10'"]),
        ("serve_client = 1", ["serve_client: must be true or false, found 1"]),
        ("path = 1", ["path: must be a text, found 1"]),
        ("pingInterval = 1", ["pingInterval: unknown option; did you mean ping_interval?"]),
        (
            "adapter = 'redis'",
            ["adapter: must be set in code: a file cannot hold it, found 'redis'"],
        ),
        (
            "allow_request = 'a:b'",
            ["allow_request: must be set in code: a file cannot hold it, found 'a:b'"],
        ),
        ("cookie = 3", ["cookie: must be None or an instance of CookieOptions, found 3"]),
        ("[cookie]\nsecure = 'no'", ["cookie.secure: must be true or false, found 'no'"]),
        (
            "overflow = 'block'",
            [
                "overflow: must be one of disconnect, drop_oldest, drop_newest, keep_latest, wait, "
                "found 'block'"
            ],
        ),
        ("cors_max_age = 'x'", ["cors_max_age: must be a whole number, found 'x'"]),
    ],
)
def test_errors_in_a_file_give_their_path(tmp_path, text, lines):
    assert list(problems(tmp_path, text, call=load)) == [f"broker.{line}" for line in lines]


def test_the_name_of_the_table_is_not_for_a_value(tmp_path):
    assert problems(tmp_path, "broker = 3", call=load) == ("broker: must be a table, found 3",)


def test_all_errors_of_a_file_are_told_at_once(tmp_path):
    text = "ping_interval = 'x'\nfoo = 1\n[limits]\njson_depth = 'x'\n[recovery]\nwindow = 0"
    paths = {line.partition(":")[0] for line in problems(tmp_path, text, call=load)}
    assert paths == {
        "broker.ping_interval",
        "broker.foo",
        "broker.limits.json_depth",
        "broker.recovery.window",
    }


def test_files_that_cannot_be_read(tmp_path):
    (line,) = problems(tmp_path / "none.toml", {}, call=Settings.load)
    assert line == f"{tmp_path / 'none.toml'}: No such file or directory"
    (line,) = problems(tmp_path, "ping_interval = ", call=load)
    assert "broker.toml: is not TOML: Invalid value (at" in line
    (tmp_path / "latin.toml").write_bytes(b"path = '\xe9'")
    (line,) = problems(tmp_path / "latin.toml", {}, call=Settings.load)
    assert line.endswith("latin.toml: is not UTF-8 text")


# -- the environment -----------------------------------------------------------


def test_the_environment_wins_over_the_file(tmp_path):
    settings = load(
        tmp_path,
        EVERYTHING,
        BROKER_PING_INTERVAL="12.5",
        BROKER_LIMITS_MAX_ATTACHMENTS="7",
        BROKER_CORS_ALLOWED_ORIGINS="https://a.example, https://b.example",
        BROKER_SERVE_CLIENT="Yes",
        BROKER_COOKIE_SECURE="off",
        BROKER_CORS_MAX_AGE="none",
    )
    assert settings.ping_interval == 12.5
    assert settings.limits == Limits(max_attachments=7, write_timeout=3)
    assert settings.cors_allowed_origins == ("https://a.example", "https://b.example")
    assert settings.serve_client is True
    assert settings.cookie == CookieOptions(name="node", secure=False)
    assert settings.cors_max_age is None


def test_the_environment_alone():
    settings = Settings.from_environ(
        {
            "BROKER_RECOVERY_WINDOW": "30",
            "BROKER_COOKIE": "node",
            "BROKER_CORS_MAX_AGE": "5",
            "PATH": "/bin",
        }
    )
    assert settings == Settings(recovery=Recovery(window=30), cookie="node", cors_max_age=5)


def test_the_environment_of_the_process_is_the_default(monkeypatch):
    monkeypatch.setenv("BROKER_PING_TIMEOUT", "7")
    assert Settings.from_environ().ping_timeout == 7.0


def test_a_table_takes_the_place_of_a_short_form(tmp_path):
    assert load(tmp_path, "cookie = 'x'", BROKER_COOKIE_NAME="y").cookie == CookieOptions(name="y")


@pytest.mark.parametrize(
    ("variable", "line"),
    [
        ("BROKER_PING_TIMEOUT=soon", "BROKER_PING_TIMEOUT: must be a number, found 'soon'"),
        (
            "BROKER_LIMITS_JSON_DEPTH=1.5",
            "BROKER_LIMITS_JSON_DEPTH: must be a whole number, found '1.5'",
        ),
        (
            "BROKER_SERVE_CLIENT=maybe",
            "BROKER_SERVE_CLIENT: must be one of 1, true, yes, on, 0, false, no, off, found 'maybe'",
        ),
        (
            "BROKER_PING_INTERVALL=1",
            "BROKER_PING_INTERVALL: unknown option; did you mean BROKER_PING_INTERVAL?",
        ),
        (
            "BROKER_TRANSPORTS=pigeon",
            "broker.transports: must be one of polling, websocket, found 'pigeon'",
        ),
        (
            "BROKER_GENERATE_ID=x",
            "broker.generate_id: must be set in code: a file cannot hold it, found 'x'",
        ),
        ("BROKER_LIMITS=x", "broker.limits: must be a table, found 'x'"),
    ],
)
def test_errors_in_the_environment(variable, line):
    assert problems(dict([variable.split("=")]), call=Settings.from_environ) == (line,)


def test_variables_that_platforms_set_for_a_service_called_broker_are_passed_over():
    environ = {
        "BROKER_SERVICE_HOST": "10.0.0.1",
        "BROKER_PORT": "tcp://10.0.0.1:80",
        "BROKER_URL": "x",
    }
    assert Settings.from_environ(environ) == Settings()


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text("a/1", max_size=3)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=4,
)
NAMES = ["path", "ping_interval", "limits", "cookie", "recovery", "cors_methods", "x"]


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_tree_gives_settings_or_words(tree):
    try:
        settings = structure(Settings, tree)
    except ConfigError as error:
        lines = error.problems
    else:
        assert settings.replace() == settings
        return
    assert lines
    assert all(re.match(r"broker\.[a-z_.]+: .+", line) for line in lines)


# -- for people ----------------------------------------------------------------


class Anything:
    def bus(self, host: object) -> None: ...


def test_describe_aligns_names_values_and_units():
    lines = Settings(allow_request=print, adapter=Anything(), transports="websocket").describe()
    rows = dict(line.split(maxsplit=1) for line in lines)
    assert rows["ping_interval"] == "25 s"
    assert rows["max_payload_bytes"] == "1,000,000 bytes"
    assert rows["serve_client"] == "on"
    assert rows["cookie"] == rows["cors_allowed_origins"] == "none"
    assert rows["transports"] == "websocket"
    assert rows["allow_request"] == "print"
    assert rows["adapter"] == "Anything"
    assert rows["limits.max_attachments"] == "10"
    assert rows["limits.write_timeout"] == "10 s"
    assert len({line.index(line.split(maxsplit=1)[1]) for line in lines}) == 1


def test_describe_opens_the_groups():
    rows = dict(line.split(maxsplit=1) for line in Settings(cookie="n", recovery=Recovery()).describe())
    assert rows["cookie.name"] == "n"
    assert rows["recovery.window"] == "120 s"
