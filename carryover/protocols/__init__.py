"""Protocols: what is learnt and scored, and when; one file per protocol, which only makes rows.

A protocol has `VERSION` (its name first), `scenario`, `unchosen`, `validation_runs` and `run`, as in
`work.Protocol`; the file in `metrics/` with the same name reads its rows.
"""
