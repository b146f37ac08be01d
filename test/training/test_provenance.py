# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from training.loop import provenance


def test_a_copy_without_its_repository_notes_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "COMMIT", tmp_path / ".commit")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.source_commit() == ""
    (tmp_path / ".commit").write_text("0123abcd\n")
    assert provenance.provenance()["commit"] == "0123abcd"
