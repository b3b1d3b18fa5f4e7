"""Podman's refusals to hal0's, by the texts that versions 4.3 to 5.8 use."""

import pytest

from hal0.engine.errors import ContainerMissing, HostRefused, ImageMissing, NameTaken, PortTaken
from hal0.engine.translate import Subject, about, refusal
from hal0.errors import Hal0Error
from hal0.lib.jsonio import dumps

SUBJECT = Subject("start container c", container="c", image="i")


def podman(message: str, cause: str = "") -> bytes:
    return dumps({"cause": cause or message, "message": message, "response": 500})


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, 'no container with name or ID "c" found: no such container', ContainerMissing),
        (500, "cannot listen on the TCP port: listen tcp4 127.0.0.1:8081: bind: address already in use", PortTaken),
        (500, "rootlessport listen tcp 127.0.0.1:8081: bind: address already in use", PortTaken),
        (500, "Failed to bind port 8081 (Address already in use) for option '-t'", PortTaken),
        (500, 'creating container storage: the container name "c" is already in use by 41fd', NameTaken),
        (500, "nope: image not known", ImageMissing),
        (404, "No such image: nope", ImageMissing),
        (500, "stat /dev/kfd: no such file or directory", HostRefused),
        (500, "statfs /nope: no such file or directory", HostRefused),
        (500, 'runc: exec: "/x": OCI runtime attempted to invoke a command that was not found', HostRefused),
        (500, "crun: executable file `/x` not found in $PATH: No such file or directory", HostRefused),
        (500, "unresolvable CDI devices nvidia.com/gpu=all", HostRefused),
        (500, "unable to find network with name or ID x: network not found", HostRefused),
        (500, "something new", Hal0Error),
    ],
)
def test_a_refusal_has_the_type_that_callers_act_on(status: int, message: str, kind: type[Hal0Error]) -> None:
    error = refusal(status, podman(message), SUBJECT)
    assert type(error) is kind
    assert error.message.startswith("cannot ")


@pytest.mark.parametrize(
    "message",
    [
        "cannot listen on the TCP port: listen tcp4 127.0.0.1:8081: bind: address already in use",
        "Failed to bind port 8081 (Address already in use) for option '-t'",
    ],
)
def test_the_busy_port_is_read_from_the_text_unless_the_caller_knows_it(message: str) -> None:
    told = refusal(500, podman(message), SUBJECT)
    known = refusal(500, podman(message), Subject("start", port=8099))
    assert isinstance(told, PortTaken)
    assert isinstance(known, PortTaken)
    assert (told.port, known.port) == (8081, 8099)


def test_a_404_that_is_not_podmans_names_the_way_out() -> None:
    error = refusal(404, b'{"message":"page not found"}', SUBJECT)
    assert error.code == "engine.not_podman"
    assert "engine.socket" in error.hint


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"text"'])
def test_an_answer_without_words_still_says_what_failed(body: bytes) -> None:
    error = refusal(500, body, SUBJECT)
    assert error.code == "engine.failed"
    assert error.message.startswith("cannot start container c: ")


def test_long_texts_are_cut_to_one_line() -> None:
    error = refusal(500, podman("a\nb " * 1000), SUBJECT)
    assert "\n" not in error.message
    assert len(error.message) < 500


@pytest.mark.parametrize(("ref", "told"), [("c0" * 32, "c0" * 6), ("hal0-abc-primary-1", "hal0-abc-primary-1")])
def test_an_id_is_told_as_people_know_it(ref: str, told: str) -> None:
    assert about("inspect container", ref) == Subject(f"inspect container {told}", container=told)
