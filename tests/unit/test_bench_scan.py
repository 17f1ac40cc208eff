"""The scan benchmark at toy size finds exactly those that are unsafe."""

from __future__ import annotations

import json

import pytest

from bench import scan


def test_smoke(capsys: pytest.CaptureFixture[str]) -> None:
    scan.main(["--smoke", "--json"])
    tables = json.loads(capsys.readouterr().out)["tables"]
    (rows,) = tables.values()
    assert [row["case"] for row in rows] == ["sweep"] and rows[0]["ns_an_account"] > 0
