"""The comparison itself; what it compares is not installed where tests run."""

import argparse

import pytest

from .compare_peers import PeerError, Rates, compare, parse_peer, read_rates


def test_a_peer_is_a_name_and_a_command() -> None:
    peer = parse_peer("llama.cpp q4=python -c 'print(1 == 1)' model.gguf")
    assert (peer.name, peer.command) == ("llama.cpp q4", ("python", "-c", "print(1 == 1)", "model.gguf"))
    for text in ("llama.cpp", "=python", "name="):
        with pytest.raises(argparse.ArgumentTypeError, match="is not NAME=COMMAND"):
            parse_peer(text)


def test_rates_are_found_in_what_a_peer_prints() -> None:
    line = "llama.cpp x.gguf: load 0.42 s, prefill 148.8 tok/s, decode 33.80 tok/s\n"
    assert read_rates("loading\n" + line) == Rates(148.8, 33.8)
    assert read_rates("decode 2 tok/s\nprefill   10 tok/s") == Rates(10, 2)
    with pytest.raises(PeerError, match="no 'prefill X tok/s' and 'decode Y tok/s' in: 'prefill 3 s'"):
        read_rates("prefill 3 s")


def test_the_table_compares_medians() -> None:
    table = compare(
        {
            "ingot": [Rates(100, 40), Rates(1000, 4), Rates(200, 41)],
            "other": [Rates(50, 20), Rates(50, 80), Rates(1, 1)],
        }
    )
    assert "| ingot | 200.0 | 40.00 |  |  |" in table
    assert "| other | 50.0 | 20.00 | 4.00x | 2.00x |" in table
