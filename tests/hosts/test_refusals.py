"""Set-ups that cannot work: one line says why and what to do, without a traceback."""

from __future__ import annotations

import pytest

from testbed.hosts import Bed, eventually
from testbed.program import Program


def refused(bed: Bed, *arguments: str, user: str | None = None) -> str:
    """Run vknet, which must exit with status 1; return the line that says why."""
    vknet = Program(bed.here, "vknet", *arguments, user=user)
    assert vknet.status(30) == 1, vknet.log
    assert "Traceback" not in vknet.log
    causes = ("vknet: no link", "vknet: link lost")
    (line,) = [line for line in vknet.log.splitlines() if line.startswith(causes)]
    return line


def test_remote_side_without_vknet_is_reported(bed: Bed) -> None:
    line = refused(bed, "--remote-command", "no-such-vknet", "auto", "there:auto")
    assert '"no-such-vknet" was not found on there' in line
    assert "--remote-command" in line
    assert bed.here.interfaces() == ["lo", "wan0"]


def test_remote_user_without_permission_to_create_a_tap_is_told_the_command(bed: Bed) -> None:
    line = refused(bed, "auto", "alice@there:tap5")
    assert "no permission to create the TAP tap5" in line
    assert "ip tuntap add dev tap5 mode tap user alice" in line


def test_local_user_without_permission_to_create_a_tap_is_told_the_command(bed: Bed) -> None:
    line = refused(bed, "-b", "br3", "auto", "there:auto", user="alice")
    assert not bed.there.processes("vknet -S"), "nothing was started"

    (_, remedy) = line.split("as root, once: ")
    bed.here.run("bash", "-c", remedy)
    vknet = Program(bed.here, "vknet", "-b", "br3", "auto", "root@there:auto", user="alice")
    vknet.says("link up: tap0 to there tap0")
    line = refused(bed, "-b", "br3", "auto", "there:auto", user="alice")
    assert "every TAP created for alice is in use or in another bridge (tap0)" in line
    assert "ip tuntap add dev tap1 mode tap user alice && ip link set tap1 up master br3" in line


def test_commands_for_both_sides_are_told_at_once(bed: Bed) -> None:
    bed.there.ip("link", "add", "br4", "type", "bridge")
    arguments = ("vknet", "-b", "br3", "-B", "br4", "auto", "there:auto")
    vknet = Program(bed.here, *arguments, user="alice")
    assert vknet.status(30) == 1
    here, there = (
        next(line for line in vknet.log.splitlines() if text in line).split("once: ")[1]
        for text in ("no permission to create the TAP", "there may need a TAP, too")
    )
    bed.here.run("bash", "-c", here)
    bed.there.run("bash", "-c", there)
    vknet = Program(bed.here, *arguments, user="alice")
    vknet.says("link up: tap0 to there tap0")
    for host in (bed.here, bed.there):
        port = host.link("tap0")["linkinfo"]["info_slave_data"]
        assert port["multicast_router"] == 2, "the user may not change it when a link comes up"


def test_user_without_permission_to_change_bridges_is_told_the_command(bed: Bed) -> None:
    bed.here.ip("tuntap", "add", "dev", "tap1", "mode", "tap", "user", "alice")
    bed.here.ip("link", "add", "br3", "type", "bridge")
    line = refused(bed, "-b", "br3", "tap1", "there:auto", user="alice")
    assert "ip link set tap1 up master br3" in line
    line = refused(bed, "tap1", "there:auto", user="alice")
    assert "ip link set tap1 up" in line


def test_tap_of_another_user_is_refused(bed: Bed) -> None:
    bed.here.ip("tuntap", "add", "dev", "tap9", "mode", "tap", "user", "4242")
    line = refused(bed, "tap9", "there:auto", user="alice")
    assert "the TAP tap9 was created for another user" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "NoSuchOption=1"), "ssh refuses its options"),
        (("-F", "/nonexistent"), "ssh refuses its options"),
        (("-J", "there"), "ssh refuses its options"),
        (("-p", "99999"), "is not a port from 1 to 65535"),
    ],
)
def test_option_that_ssh_refuses_is_a_usage_error_and_not_retried(
    bed: Bed, options: tuple[str, ...], message: str
) -> None:
    vknet = Program(bed.here, "vknet", "-r", "0.1", *options, "auto", "there:auto")
    assert vknet.status() == 2
    assert message in vknet.log
    assert "next try" not in vknet.log
    assert bed.here.interfaces() == ["lo", "wan0"]


def test_command_to_try_by_hand_has_the_options_for_ssh(bed: Bed) -> None:
    (bed.there.home / ".ssh/authorized_keys").unlink()
    line = refused(bed, "-p", "22", "-4", "auto", "root@there:auto")
    assert "ssh -p 22 -4 root@there true" in line


def test_tap_in_use_by_another_program_is_refused(bed: Bed) -> None:
    Program(bed.here, "vknet", "tap0", "there:auto").says("link up")
    assert "tap0 is in use by another program" in refused(bed, "tap0", "there:auto")


def test_interface_that_is_not_a_tap_is_refused(bed: Bed) -> None:
    assert "wan0 is an interface, but not a TAP" in refused(bed, "tap:wan0", "there:auto")


def test_interface_that_is_not_a_bridge_is_refused(bed: Bed) -> None:
    line = refused(bed, "-b", "wan0", "auto", "there:auto")
    assert "wan0 is an interface, but not a bridge" in line
    assert bed.here.interfaces() == ["lo", "wan0"]


def test_tap_in_another_bridge_is_refused(bed: Bed) -> None:
    for arguments in ("link add br1 type bridge", "tuntap add dev tap1 mode tap"):
        bed.here.ip(*arguments.split())
    bed.here.ip("link", "set", "tap1", "master", "br1")
    assert "tap1 is already a port of br1; give" in refused(bed, "-b", "br2", "tap1", "there:auto")
    assert bed.here.link("tap1")["master"] == "br1"


def test_refused_login_is_explained(bed: Bed) -> None:
    (bed.there.home / ".ssh/authorized_keys").unlink()
    line = refused(bed, "auto", "there:auto")
    assert "login refused" in line
    assert "Permission denied" in line
    assert "ssh there true" in line


def test_unknown_host_is_explained(bed: Bed) -> None:
    line = refused(bed, "auto", "nosuchhost:auto")
    assert "unknown host name" in line
    assert "check nosuchhost" in line


def test_unknown_host_key_is_explained(bed: Bed) -> None:
    (bed.here.home / ".ssh/known_hosts").unlink()
    line = refused(bed, "-o", "BatchMode=yes", "auto", "there:auto")
    assert "host key of there is not known" in line
    assert "ssh -o BatchMode=yes there true" in line


def test_port_without_an_sshd_is_explained(bed: Bed) -> None:
    assert "no sshd answers on there" in refused(bed, "-p", "23", "auto", "there:auto")


def test_unreachable_host_is_explained(bed: Bed) -> None:
    bed.black_hole(on=True)
    assert "there cannot be reached" in refused(bed, "--timeout", "1", "auto", "there:auto")


def test_sudo_that_needs_a_password_is_explained(bed: Bed) -> None:
    sudo = bed.there.script("sudo", 'echo "sudo: a password is required" >&2; exit 1')
    line = refused(bed, "--remote-command", f"{sudo} -n vknet", "auto", "there:auto")
    assert "sudo on there wants a password" in line
    assert r"NOPASSWD: /usr/local/bin/vknet -S -B wire\=2 auto" in line


def test_missing_ssh_command_is_explained(bed: Bed) -> None:
    assert "cannot run no-such-ssh" in refused(bed, "-e", "no-such-ssh -x", "auto", "there:auto")


def test_missing_switch_is_explained(bed: Bed) -> None:
    assert "is vknetd running?" in refused(bed, "/tmp/no-such-socket", "there:auto")
    line = refused(bed, "auto", "there")
    assert "/var/run/vknet: no such socket" in line, "the default remote-spec"
    assert "is a directory" in refused(bed, "/tmp/", "there:auto")


def test_output_of_a_remote_start_up_file_is_explained(bed: Bed) -> None:
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
        ("printf '+xiZ\\004\\000\\000\\000abcd'; printf 'what is this'; cat", '"what is this'),
        ("printf '+xiZ\\004\\000\\000\\000ab'", "ended inside a block, 10 bytes into it"),
    ],
    ids=["no-length", "oversize", "bad-magic", "cut-off"],
)
def test_peer_that_breaks_the_protocol_is_reported(bed: Bed, body: str, message: str) -> None:
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
def test_target_with_shell_syntax_is_a_usage_error(bed: Bed, target: str) -> None:
    vknet = Program(bed.here, "vknet", "auto", "--", target)
    assert vknet.status() == 2
    assert len(vknet.log.splitlines()) == 1
    assert "Traceback" not in vknet.log
    assert bed.here.interfaces() == ["lo", "wan0"], "nothing was started"


def test_remote_path_with_shell_syntax_is_only_a_path(bed: Bed) -> None:
    pwned = bed.directory / "pwned"
    for name in (f"/x;touch {pwned}", f"/x$(touch {pwned})", f"/x`touch {pwned}`", f"/x' >{pwned}"):
        line = refused(bed, "auto", f"there:{name}")
        assert f"{name}: no such socket" in line
    assert not pwned.exists()


def test_bridge_name_with_shell_syntax_is_a_usage_error(bed: Bed) -> None:
    for bridge in ("br;reboot", "$(id)", "br 0", "-x", "a/b", "a" * 128, ""):
        vknet = Program(bed.here, "vknet", "-B", bridge, "auto", "there:auto")
        assert vknet.status() == 2, bridge
        assert len(vknet.log.splitlines()) == 1


def test_failure_is_retried_only_on_request_and_as_often(bed: Bed) -> None:
    arguments = ("--remote-command", "nosuch", "auto", "there:auto")
    once = Program(bed.here, "vknet", *arguments)
    assert once.status() == 1
    assert "next try" not in once.log

    thrice = Program(bed.here, "vknet", "-v", "-r", "0.05:2", *arguments)
    assert thrice.status() == 1
    assert thrice.log.count("next try") == 2
    assert thrice.log.count("was not found on there") == 3

    quiet = Program(bed.here, "vknet", "-r", "0.05:2", *arguments)
    assert quiet.status() == 1
    # The cause is logged at its first occurrence and at the end.
    assert quiet.log.count("no link") == quiet.log.count("was not found on there") == 2
    eventually(lambda: not bed.here.processes("ssh"), "the end of every ssh")
