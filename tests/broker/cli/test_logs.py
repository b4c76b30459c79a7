"""Log records as people and machines read them."""

import io
import json
import logging
import re

import pytest

from broker.cli.logs import configure


@pytest.fixture(autouse=True)
def _root_logger():
    """Put back the handlers that pytest has on the root logger."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_text_is_aligned():
    stream = io.StringIO()
    configure("info", "text", stream)
    logging.getLogger("broker").info("one %d", 1)
    logging.getLogger("broker.server").warning("two")
    logging.getLogger("broker").debug("not shown")
    lines = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  INFO     broker            one 1", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  WARNING  broker\.server     two", lines[1])
    assert len(lines) == 2


def test_json_is_one_object_a_line():
    stream = io.StringIO()
    configure("debug", "json", stream)
    try:
        raise ValueError("x\ny")
    except ValueError:
        logging.getLogger("broker").exception("failed:\n%s", "é")
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record["level"] == "error"
    assert record["logger"] == "broker"
    assert record["message"] == "failed:\né"
    assert "ValueError: x\ny" in record["error"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", record["time"])


def test_json_holds_what_utf_8_cannot():
    stream = io.StringIO()
    configure("info", "json", stream)
    logging.getLogger("broker").info("%s", "\udcff")
    assert json.loads(stream.getvalue())["message"] == "\udcff"


def test_a_second_call_takes_the_place_of_the_first():
    first, second = io.StringIO(), io.StringIO()
    configure("info", "text", first)
    configure("info", "text", second)
    logging.getLogger("broker").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
