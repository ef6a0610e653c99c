"""The grammar of the command line under any text, and its results in a real shell."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vknet.errors import UsageError
from vknet.spec import (
    RetryPolicy,
    SocketSpec,
    TapSpec,
    Target,
    parse_bridge,
    parse_retry,
    parse_spec,
    parse_target,
)
from vknet.transport.ssh_command import SshSettings, remote_command, ssh_argv

if TYPE_CHECKING:
    from collections.abc import Callable

thoroughly = settings(deadline=None, max_examples=300)

# Prints each argument and a NUL, which no argument can contain.
SHOW_ARGUMENTS: Final = r"printf '%s\0'"

NASTY: Final = "abz09:@[]/.-_+%$;|&`'\"\\ \t\n(){}<>*?!#~=^\x00\x1b\x7f\x9b\u2028ä\udc80"

anything = st.one_of(
    st.text(st.characters(codec=None), max_size=40),
    st.text(st.sampled_from(NASTY), max_size=25),
    st.from_regex(r"(auto|tap[0-9]{1,3}|/dev/tap[0-9]|tap:.{0,20}|/.{0,20})", fullmatch=True),
)
names = st.text(st.sampled_from("abz09.-_@+$"), min_size=1, max_size=12)
addresses = st.text(st.sampled_from("0f:.%"), max_size=10).map("[{}]".format)
# Mostly targets with an error in one part.
targets = st.one_of(
    anything,
    st.builds(
        lambda user, host, spec: user + host + spec,
        st.just("") | (names | anything).map("{}@".format),
        names | addresses | anything,
        st.just("") | anything.map(":{}".format),
    ),
)
nasty_paths = st.text(
    st.sampled_from("abc;$()`'\"\\ &|<>*?!#~={}[]^-ä").filter(str.isprintable), max_size=30
).map("/{}".format)


def accepted(parse: Callable[..., Any], *args: object) -> Any:
    """Return the result of the parser; None after a usage error of one printable line."""
    message = ""
    try:
        return parse(*args)
    except UsageError as exc:
        message = str(exc)
    assert message.isprintable()
    assert message
    return None


@thoroughly
@given(anything)
@example("\x9b2J/")
@example("\u2028")
@example("-\udc80")
def test_any_spec_is_parsed_or_refused_in_one_line(text: str) -> None:
    match accepted(parse_spec, text):
        case None:
            pass
        case SocketSpec(path):
            assert path == text
            assert "/" in path
            assert not path.startswith("-")
            assert not re.search(r"[\x00-\x1f\x7f]", path)
        case TapSpec(None):
            assert text == "auto"
        case TapSpec(str(name)):
            assert text in (name, f"/dev/{name}", f"tap:{name}")
            assert re.fullmatch(r"[A-Za-z0-9_.+@][A-Za-z0-9_.+@-]{0,14}", name)


@thoroughly
@given(anything, anything | names)
@example("/a\u2028", "br0")
def test_any_bridge_is_parsed_or_refused_in_one_line(spec: str, bridge: str) -> None:
    parsed = accepted(parse_spec, spec)
    for endpoint in (TapSpec(None), parsed or TapSpec("tap0")):
        name = accepted(parse_bridge, bridge, endpoint, "local")
        assert name in (None, bridge)
        if name is not None:
            assert isinstance(endpoint, TapSpec)
            assert re.fullmatch(r"[A-Za-z0-9_.+@][A-Za-z0-9_.+@-]{0,14}", name)


@thoroughly
@given(anything | st.from_regex(r"[0-9.]{0,6}(:[0-9]{0,12})?", fullmatch=True))
@example("1e5")
@example("infinity")
@example("5:\u0661")
@example("1\n")
def test_any_retry_is_parsed_or_refused_in_one_line(text: str) -> None:
    policy = accepted(parse_retry, text)
    if policy is not None:
        assert isinstance(policy, RetryPolicy)
        assert re.fullmatch(r"[0-9.]+(:[0-9]+)?", text)
        assert 0 <= policy.delay <= 86400 * 365
        assert (policy.retries is None) == (":" not in text)


@thoroughly
@given(targets)
@example("-oProxyCommand=x")
@example("-l@host")
@example("user@-host")
@example("host\n")
@example("host:-x")
@example("[::1%-x]:/s")
@example("a@b@host:tap0")
def test_any_target_is_refused_or_becomes_a_host_and_never_an_option_of_ssh(text: str) -> None:
    target = accepted(parse_target, text)
    if target is None:
        return
    argv = ssh_argv(SshSettings(target))
    assert argv.count("--") == 1
    login, command = argv[argv.index("--") + 1 :]
    assert login == target.login
    assert not login.startswith("-")
    assert not target.host.startswith("-")
    # No character that a shell or ssh reads as more than itself.
    user = r"[\w.][^\x00-\x20!\"#$&'()*,:;<=>?\[\\\]^`{|}~\x7f]*\$?@"
    host = r"[\w.:][^\x00-\x20!\"#$&'()*,;<=>?@\[\\\]^`{|}~\x7f]*"
    assert re.fullmatch(f"({user})?{host}", login)
    assert ".." not in login.split("/")
    assert command.startswith("vknet -S -B wire=2 ")
    assert not re.search(r"[\x00-\x1f\x7f]", command)


@thoroughly
@given(
    st.none() | st.from_regex(r"[a-z0-9_][a-z0-9_@+.-]{0,8}\$?", fullmatch=True),
    st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,8}", fullmatch=True),
    nasty_paths,
)
def test_target_is_split_into_user_host_and_path(user: str | None, host: str, path: str) -> None:
    login = host if user is None else f"{user}@{host}"
    target = parse_target(f"{login}:{path}")
    assert target == Target(user, host, path)
    assert target.login == login


def arguments_in_the_shell(command: str) -> list[str]:
    """Run a command as sshd does, with a POSIX shell, and return the arguments that arrive."""
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, check=True, cwd="/", timeout=30
    )
    assert done.stderr == b""
    *arguments, rest = done.stdout.split(b"\0")
    assert rest == b""
    return [argument.decode() for argument in arguments]


@settings(deadline=None, max_examples=25)
@given(nasty_paths, st.none() | st.sampled_from(["br0", "a-b", "x+y@z"]))
@example("/tmp/a; touch /tmp/b", "br0")
@example("/$(id)`id`${HOME}$HOME", None)
@example('/it\'s "quoted" \\ twice\\', None)
@example("/a b  c", "br0")
@example("/*?[a-z]~#!", None)
@example("./-x && reboot | cat > y < z &", None)
def test_real_shell_passes_the_arguments_unchanged(path: str, bridge: str | None) -> None:
    target = parse_target(f"user@host:{path}")
    ssh_settings = SshSettings(target, remote_bridge=bridge, remote_vknet=SHOW_ARGUMENTS)
    command = remote_command(ssh_settings)
    assert ssh_argv(ssh_settings)[-1] == command
    expected = ["-S", "-B", "wire=2", *(() if bridge is None else ("-b", bridge)), path]
    assert arguments_in_the_shell(command) == expected


@settings(deadline=None, max_examples=25)
@given(st.text(st.characters(codec="utf-8"), max_size=20), st.sampled_from(NASTY))
def test_remote_spec_is_refused_or_reaches_the_shell_as_one_argument(text: str, nasty: str) -> None:
    target = accepted(parse_target, f"host:{text}/{nasty.encode(errors='replace').decode()}")
    if target is not None:
        command = remote_command(SshSettings(target, remote_vknet=SHOW_ARGUMENTS))
        assert arguments_in_the_shell(command) == ["-S", "-B", "wire=2", target.spec]
