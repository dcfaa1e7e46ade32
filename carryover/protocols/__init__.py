"""What is learnt and scored when: one file a protocol, which makes rows and nothing else.

A protocol has `VERSION` (its name first), `scenario`, `unchosen`, `validation_runs` and `run`, as
`work.Protocol` says; what is read from its rows is said in `metrics/`, under the same name.
"""
