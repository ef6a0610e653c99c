"""What cannot work is said in one line, with its cause and its cure, and without a traceback."""

from __future__ import annotations

import pytest

from testbed.hosts import Bed, eventually
from testbed.program import Program


def refused(bed: Bed, *arguments: str, user: str | None = None) -> str:
    """Run vknet, which must end by itself with status 1; the line that says why."""
    vknet = Program(bed.here, "vknet", *arguments, user=user)
    assert vknet.status(30) == 1, vknet.log
    assert "Traceback" not in vknet.log
    said = [
        s for s in vknet.log.splitlines() if s.startswith(("vknet: no link", "vknet: link lost"))
    ]
    (line,) = said
    return line


def test_no_vknet_on_the_remote_side(bed: Bed) -> None:
    line = refused(bed, "--remote-command", "no-such-vknet", "auto", "there:auto")
    assert '"no-such-vknet" was not found on there' in line
    assert "--remote-command" in line
    assert bed.here.interfaces() == ["lo", "wan0"]


def test_a_remote_user_without_the_right_to_a_tap(bed: Bed) -> None:
    line = refused(bed, "auto", "alice@there:tap5")
    assert "no right to make the TAP tap5" in line
    assert "ip tuntap add dev tap5 mode tap user alice" in line


def test_a_local_user_without_the_right_to_a_tap(bed: Bed) -> None:
    line = refused(bed, "-b", "br3", "auto", "there:auto", user="alice")
    assert not bed.there.processes("vknet -S"), "nothing was started"

    (_, cure) = line.split("as root, once: ")
    bed.here.run("bash", "-c", cure)
    vknet = Program(bed.here, "vknet", "-b", "br3", "auto", "root@there:auto", user="alice")
    vknet.says("link up: tap0 to there tap0")
    line = refused(bed, "-b", "br3", "auto", "there:auto", user="alice")
    assert "every TAP made for alice is in use or in another bridge (tap0)" in line
    assert "ip tuntap add dev tap1 mode tap user alice && ip link set tap1 up master br3" in line


def test_a_user_who_may_not_change_bridges(bed: Bed) -> None:
    bed.here.ip("tuntap", "add", "dev", "tap1", "mode", "tap", "user", "alice")
    bed.here.ip("link", "add", "br3", "type", "bridge")
    line = refused(bed, "-b", "br3", "tap1", "there:auto", user="alice")
    assert "ip link set tap1 up master br3" in line
    line = refused(bed, "tap1", "there:auto", user="alice")
    assert "ip link set tap1 up" in line


def test_a_tap_that_was_made_for_another_user(bed: Bed) -> None:
    bed.here.ip("tuntap", "add", "dev", "tap9", "mode", "tap", "user", "4242")
    line = refused(bed, "tap9", "there:auto", user="alice")
    assert "the TAP tap9 was made for another user" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "NoSuchOption=1"), "ssh refuses its options"),
        (("-F", "/nonexistent"), "ssh refuses its options"),
        (("-J", "there"), "ssh refuses its options"),
        (("-p", "99999"), "is no port from 1 to 65535"),
    ],
)
def test_options_that_ssh_cannot_use_are_wrong_arguments_and_not_retried(
    bed: Bed, options: tuple[str, ...], message: str
) -> None:
    vknet = Program(bed.here, "vknet", "-r", "0.1", *options, "auto", "there:auto")
    assert vknet.status() == 2
    assert message in vknet.log
    assert "next try" not in vknet.log
    assert bed.here.interfaces() == ["lo", "wan0"]


def test_the_command_to_try_by_hand_has_the_options_that_were_given(bed: Bed) -> None:
    (bed.there.home / ".ssh/authorized_keys").unlink()
    line = refused(bed, "-p", "22", "-4", "auto", "root@there:auto")
    assert "ssh -p 22 -4 root@there true" in line


def test_a_tap_in_use_by_another_program(bed: Bed) -> None:
    Program(bed.here, "vknet", "tap0", "there:auto").says("link up")
    assert "tap0 is in use by another program" in refused(bed, "tap0", "there:auto")


def test_an_interface_that_is_not_a_tap(bed: Bed) -> None:
    assert "wan0 is an interface, but not a TAP" in refused(bed, "tap:wan0", "there:auto")


def test_a_bridge_that_is_not_a_bridge(bed: Bed) -> None:
    line = refused(bed, "-b", "wan0", "auto", "there:auto")
    assert "wan0 is an interface, but not a bridge" in line
    assert bed.here.interfaces() == ["lo", "wan0"]


def test_a_tap_that_is_in_another_bridge(bed: Bed) -> None:
    for arguments in ("link add br1 type bridge", "tuntap add dev tap1 mode tap"):
        bed.here.ip(*arguments.split())
    bed.here.ip("link", "set", "tap1", "master", "br1")
    assert "already a port of another bridge" in refused(bed, "-b", "br2", "tap1", "there:auto")
    assert bed.here.link("tap1")["master"] == "br1"


def test_a_login_that_is_refused(bed: Bed) -> None:
    (bed.there.home / ".ssh/authorized_keys").unlink()
    line = refused(bed, "auto", "there:auto")
    assert "login refused" in line
    assert "Permission denied" in line
    assert "ssh there true" in line


def test_a_host_that_is_unknown(bed: Bed) -> None:
    line = refused(bed, "auto", "nosuchhost:auto")
    assert "host nosuchhost is unknown" in line
    assert "check the name" in line


def test_a_host_key_that_is_unknown(bed: Bed) -> None:
    (bed.here.home / ".ssh/known_hosts").unlink()
    line = refused(bed, "-o", "BatchMode=yes", "auto", "there:auto")
    assert "host key of there is not known" in line
    assert "ssh -o BatchMode=yes there true" in line


def test_no_sshd_on_the_port(bed: Bed) -> None:
    assert "no sshd answers on there" in refused(bed, "-p", "23", "auto", "there:auto")


def test_a_host_that_cannot_be_reached(bed: Bed) -> None:
    bed.black_hole(on=True)
    assert "there cannot be reached" in refused(bed, "--timeout", "1", "auto", "there:auto")


def test_sudo_that_wants_a_password(bed: Bed) -> None:
    sudo = bed.there.script("sudo", 'echo "sudo: a password is required" >&2; exit 1')
    line = refused(bed, "--remote-command", f"{sudo} -n vknet", "auto", "there:auto")
    assert "vknet on there ended with status 1: sudo: a password is required" in line


def test_an_ssh_that_is_not_there(bed: Bed) -> None:
    assert "cannot run no-such-ssh" in refused(bed, "-e", "no-such-ssh -x", "auto", "there:auto")


def test_a_switch_that_is_not_there(bed: Bed) -> None:
    assert "is vknetd running?" in refused(bed, "/tmp/no-such-socket", "there:auto")
    line = refused(bed, "auto", "there")
    assert "/var/run/vknet: no such socket" in line, "the default remote-spec"
    assert "is a directory" in refused(bed, "/tmp/", "there:auto")


def test_a_chatty_start_up_file_of_the_remote_shell(bed: Bed) -> None:
    (bed.there.home / ".bashrc").write_text("echo Welcome home, dear user\n")
    line = refused(bed, "auto", "there:auto")
    assert '"Welcome home, dear user' in line
    assert ".bashrc" in line
    assert "interactive" in line


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("printf '+xiZ\\000\\000\\000\\000'; cat", "block of 0 bytes"),
        ("printf '+xiZ\\377\\377\\377\\377'; cat", "block of 4294967295 bytes"),
        ("printf '+xiZ\\004\\000\\000\\000abcd'; printf 'what is this'; cat", '"what is this"'),
        ("printf '+xiZ\\004\\000\\000\\000ab'", "ended inside a block, 10 bytes into it"),
    ],
    ids=["no-length", "oversize", "bad-magic", "cut-off"],
)
def test_a_peer_that_breaks_the_protocol(bed: Bed, body: str, message: str) -> None:
    fake = bed.there.script("fake", body)
    line = refused(bed, "--remote-command", fake, "auto", "there:auto")
    assert message in line
    assert bed.here.interfaces() == ["lo", "wan0"]


@pytest.mark.parametrize(
    "target",
    [
        "-oProxyCommand=touch${IFS}PWNED",
        "there;touch PWNED",
        "$(touch PWNED)",
        "`touch PWNED`",
        "-lroot@there:auto",
        "ro;ot@there:auto",
        "there\ntouch PWNED:auto",
        "there:auto\ntouch PWNED",
        "[fd00::2;x]:auto",
        "",
        ":auto",
        "there:",
    ],
)
def test_a_target_that_smells_of_a_shell_is_a_usage_error(bed: Bed, target: str) -> None:
    vknet = Program(bed.here, "vknet", "auto", "--", target)
    assert vknet.status() == 2
    assert len(vknet.log.splitlines()) == 1
    assert "Traceback" not in vknet.log
    assert bed.here.interfaces() == ["lo", "wan0"], "nothing was started"


def test_a_remote_path_full_of_shell_is_only_a_path(bed: Bed) -> None:
    pwned = bed.directory / "pwned"
    for trap in (f"/x;touch {pwned}", f"/x$(touch {pwned})", f"/x`touch {pwned}`", f"/x' >{pwned}"):
        line = refused(bed, "auto", f"there:{trap}")
        assert f"{trap}: no such socket" in line
    assert not pwned.exists()


def test_a_bridge_name_full_of_shell_is_a_usage_error(bed: Bed) -> None:
    for bridge in ("br;reboot", "$(id)", "br 0", "-x", "a/b", "0123456789abcdef", ""):
        vknet = Program(bed.here, "vknet", "-B", bridge, "auto", "there:auto")
        assert vknet.status() == 2, bridge
        assert len(vknet.log.splitlines()) == 1


def test_what_fails_is_retried_only_when_asked_and_as_often(bed: Bed) -> None:
    arguments = ("--remote-command", "nosuch", "auto", "there:auto")
    once = Program(bed.here, "vknet", *arguments)
    assert once.status() == 1
    assert "next try" not in once.log

    thrice = Program(bed.here, "vknet", "-r", "0.05:2", *arguments)
    assert thrice.status() == 1
    assert thrice.log.count("next try") == 2
    assert thrice.log.count("was not found on there") == 3
    eventually(lambda: not bed.here.processes("ssh"), "every ssh gone")
