"""Fuzzers: ``python -m fuzz --help``.

Each module in `fuzz.targets` is one target: it takes any bytes, runs a part of vknet on them, and
asserts what has to hold.  `fuzz.engine` runs a target under atheris, which mutates inputs and keeps
those that reach new code.  Inputs that are found and inputs that fail are files in ``.fuzz``.
"""
