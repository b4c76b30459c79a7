"""The command line as it is read: addresses, ports, options, and what is refused."""

import argparse

import pytest

from broker.cli.arguments import Address, build_parser, parse_address, parse_port


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:3000", "127.0.0.1", 3000),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
        ("unix:/run/broker.sock", None, 0),
    ],
)
def test_addresses(text, host, port):
    assert parse_address(text) == Address(text, host, port)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3000", "is not HOST:PORT"),
        (":3000", "is not HOST:PORT"),
        ("::1:3000", "in brackets, as in [::1]:3000"),
        ("unix:", "lacks the path"),
        ("a:", "the port must be a whole number from 0 to 65535, found ''"),
        ("a:65536", "found '65536'"),
        ("a:-1", "found '-1'"),
        ("a:http", "found 'http'"),
        ("a:٣", "found '٣'"),
    ],
)
def test_what_is_no_address_is_refused_in_words(text, said):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse_address(text)
    assert said in str(caught.value)


def test_ports():
    assert parse_port("0") == 0
    assert parse_port("65535") == 65535


def test_serve_has_defaults():
    arguments = build_parser().parse_args(["serve", "app:broker"])
    assert (arguments.target, arguments.bind, arguments.config, arguments.app) == (
        "app:broker",
        None,
        None,
        None,
    )
    assert (arguments.drain_timeout, arguments.log_level, arguments.log_format) == (30.0, "info", "text")
    assert arguments.worker_timeout == 60.0


def test_bind_may_be_repeated():
    arguments = build_parser().parse_args(["serve", "a:b", "--bind", "a:1", "--bind", "unix:/x"])
    assert [address.text for address in arguments.bind] == ["a:1", "unix:/x"]


def test_demo_has_the_documented_address():
    arguments = build_parser().parse_args(["demo"])
    assert (arguments.host, arguments.port) == ("127.0.0.1", 3000)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("serve", "the following arguments are required: MODULE:ATTRIBUTE"),
        ("serve a:b --bind 3000", "argument --bind: '3000' is not HOST:PORT"),
        ("serve a:b --drain-timeout soon", "must be a number of seconds, 0 or more, found 'soon'"),
        ("serve a:b --drain-timeout=-1", "found '-1'"),
        ("serve a:b --drain-timeout inf", "found 'inf'"),
        ("serve a:b --worker-timeout=-1", "found '-1'"),
        ("serve a:b --drain-timeout 5 --log-level loud", "invalid choice: 'loud'"),
        ("demo --port 70000", "the port must be a whole number"),
        ("check-config", "the following arguments are required: FILE"),
        ("restart", "invalid choice: 'restart'"),
    ],
)
def test_wrong_usage_ends_with_code_2_and_a_sentence(line, said, capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(line.split())
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
