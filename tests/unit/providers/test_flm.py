"""The FLM provider: its command line, its probe, its list of tags, and why it ended."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from hal0.config import arguments
from hal0.errors import Hal0Error
from hal0.models.tags import tagged
from hal0.providers.base import Endpoint, Exit, HealthState, InferRequest, Launch, Trial
from hal0.providers.catalog import PROVIDERS
from hal0.providers.flm import Flm, offered
from hal0.providers.flm_tags import EMBEDDER, LISTENER, NotAList, parse
from hal0.vocab import Capability, Device, FailureClass, ProviderName, SlotName
from tests.fakes.flm import FakeFlm, listing, running

PROVIDER = Flm()
CHAT = frozenset({Capability.CHAT, Capability.COMPLETION})
ALL = CHAT | {Capability.EMBED, Capability.STT}
QWEN = {"name": "qwen3:4b", "folder": "Qwen3-4B-NPU2"}
GEMMA = {"name": EMBEDDER, "folder": "Embedding-Gemma-300M-NPU2", "default_context_length": 2048}
WHISPER = {"name": LISTENER, "folder": "Whisper-V3-Turbo-NPU2", "asr": True}


def launch(**changes: Any) -> Launch:
    fields: dict[str, Any] = {
        "slot": SlotName("npu"),
        "model": "qwen3:4b",
        "files": (Path("/store/Qwen3-4B-NPU2/config.json"), Path("/store/Qwen3-4B-NPU2/model.q4nx")),
        "mmproj": None,
        "capabilities": CHAT,
        "device": Device.NPU,
        "gpu_index": None,
        "context_size": 8192,
        "parallel": None,
        "extra_args": (),
        "env": {},
        "port": 8086,
    }
    return Launch(**(fields | changes))


def argv(**changes: Any) -> str:
    return " ".join(PROVIDER.start_cmd(launch(**changes)))


def test_it_is_the_one_in_the_catalogue() -> None:
    assert isinstance(PROVIDERS[ProviderName.FLM], Flm)


def test_the_whole_command_line() -> None:
    assert argv() == "serve qwen3:4b --host 0.0.0.0 --port 8086 --cors 0 --ctx-len 8192 --embed 0 --asr 0"


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({"capabilities": ALL}, "--embed 1 --asr 1", "--embed 0"),
        ({"capabilities": CHAT | {Capability.STT}}, "--embed 0 --asr 1", "--embed 1"),
        ({"context_size": 128}, "--ctx-len 512", "--ctx-len 128"),
        ({"model": LISTENER, "capabilities": {Capability.STT}}, "serve --host", "--ctx-len"),
        ({"model": EMBEDDER, "capabilities": {Capability.EMBED}}, "--embed 1 --asr 0", EMBEDDER),
        ({"extra_args": ("--pmode", "turbo")}, "--asr 0 --pmode turbo", "--tags"),
    ],
)
def test_what_a_launch_adds(changes: dict[str, Any], present: str, absent: str) -> None:
    assert present in argv(**changes)
    assert absent not in argv(**changes)


def test_weights_are_where_flm_looks_for_them_and_read_only() -> None:
    folder, rider = Path("/store/Qwen3-4B-NPU2"), Path("/other/Whisper-V3-Turbo-NPU2")
    mounts = PROVIDER.mounts(launch(files=(folder / "config.json", folder / "model.q4nx", rider / "model.q4nx")))
    assert [(mount.source, mount.target, mount.read_only) for mount in mounts] == [
        (folder, "/flm/models/Qwen3-4B-NPU2", True),
        (rider, "/flm/models/Whisper-V3-Turbo-NPU2", True),
    ]
    env = PROVIDER.build_env(launch(env={"A": "1"}))
    assert env == {
        "HAL0_SLOT": "npu", "HAL0_MODEL": "qwen3:4b", "FLM_MODEL_PATH": "/flm", "FLM_DISABLE_UPDATE_CHECK": "1",
        "HOME": "/tmp", "A": "1",
    }  # fmt: skip


def test_it_is_for_the_npu_alone() -> None:
    assert PROVIDER.image_key(Device.NPU) == "flm"
    with pytest.raises(Hal0Error, match="set device to npu"):
        PROVIDER.image_key(Device.CPU)


@pytest.mark.parametrize(("xdna", "here", "shown"), [(True, True, True), (True, False, False), (False, True, False)])
def test_it_is_offered_where_it_can_be_had(*, xdna: bool, here: bool, shown: bool) -> None:
    assert offered(xdna=xdna, image_here=here) is shown


@pytest.mark.parametrize("flag", ["--host", "--ctx-len=4096", "-a", "--embed", "--hf", "--cors"])
def test_flags_that_are_hal0s_are_refused(flag: str) -> None:
    assert [refusal.flag for refusal in arguments.refused(ProviderName.FLM, (flag,))] == [flag.partition("=")[0]]


def test_the_list_of_tags() -> None:
    vision = {"name": "qwen3vl-it:4b", "folder": "Qwen3-VL-4B-NPU2", "vlm": True}
    found = {tag.name: tag for tag in parse(listing(QWEN, vision, GEMMA, WHISPER))}
    assert found["qwen3:4b"].folder == "Qwen3-4B-NPU2"
    assert found["qwen3:4b"].files == ("config.json", "model.q4nx", "tokenizer.json")
    assert found["qwen3:4b"].context_length == 32768
    assert found["qwen3:4b"].capabilities == CHAT
    assert found["qwen3vl-it:4b"].capabilities == CHAT | {Capability.VISION}
    assert found[EMBEDDER].capabilities == {Capability.EMBED}
    assert found[LISTENER].capabilities == {Capability.STT}


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": None},
        {"url": "https://hub.example/nothing"},
        {"files": []},
        {"files": ["../../etc/passwd"]},
        {"files": ["a/b"]},
        {"model": 7, "name": 7},
    ],
)
def test_an_entry_that_cannot_be_used_is_left_out(wrong: dict[str, Any]) -> None:
    assert [tag.name for tag in parse(listing({**QWEN, **wrong}, WHISPER))] == [LISTENER]


@pytest.mark.parametrize("printed", ["", "no list here", '{"models": 1}', '{"models": ["qwen3:4b"]}', "{"])
def test_what_is_no_list_is_not_taken_for_an_empty_one(printed: str) -> None:
    with pytest.raises(NotAList):
        parse(printed)


def test_a_tag_is_a_model_when_all_its_files_are_there_and_takes_along_who_rides(tmp_path: Path) -> None:
    tags = parse(listing(QWEN, GEMMA, WHISPER, {"name": "gemma3:4b", "folder": "Gemma3-4B-NPU2"}))
    for folder in ("Qwen3-4B-NPU2", "Whisper-V3-Turbo-NPU2", "Gemma3-4B-NPU2"):
        (tmp_path / folder).mkdir()
        for name in ("config.json", "model.q4nx", "tokenizer.json"):
            (tmp_path / folder / name).write_bytes(b"12345")
    (tmp_path / "Gemma3-4B-NPU2/model.q4nx").unlink()
    found = tagged(tags, (tmp_path / "none", tmp_path))
    assert set(found) == {"qwen3:4b", LISTENER}
    entry = found[next(model for model in found if model == "qwen3:4b")]
    assert entry.size_bytes == 30
    assert entry.capabilities == CHAT | {Capability.STT}
    assert dict(entry.riders) == {Capability.STT: LISTENER}
    assert entry.files[0] == tmp_path / "Qwen3-4B-NPU2/config.json"


async def test_it_is_ready_when_it_names_the_slots_tag() -> None:
    async with running(FakeFlm()) as port, ClientSession() as session:
        endpoint = Endpoint("127.0.0.1", port, "s")
        assert (await PROVIDER.health(endpoint, "qwen3:4b", session)).state is HealthState.READY
        other = await PROVIDER.health(endpoint, "gemma3:4b", session)
        assert (other.state, other.evidence) == (HealthState.BROKEN, "/api/ps names qwen3:4b, not gemma3:4b")
        assert (await PROVIDER.health(endpoint, LISTENER, session)).state is HealthState.READY


async def test_before_its_models_are_loaded_nobody_listens() -> None:
    async with running(FakeFlm()) as port:
        pass
    async with ClientSession() as session:
        health = await PROVIDER.health(Endpoint("127.0.0.1", port, "s"), "qwen3:4b", session)
    assert health.state is HealthState.NOT_LISTENING


async def test_a_verified_flm_has_done_a_piece_of_work() -> None:
    async with running(FakeFlm(embed=False)) as port, ClientSession() as session:
        endpoint = Endpoint("127.0.0.1", port, "s")
        assert await PROVIDER.verify(endpoint, Trial("qwen3:4b", CHAT), session) is None
        wrong = await PROVIDER.verify(endpoint, Trial(EMBEDDER, frozenset({Capability.EMBED})), session)
    assert wrong is not None
    assert wrong.startswith("/v1/embeddings answers 503")


@pytest.mark.parametrize(
    ("line", "failure_class", "code"),
    [
        ("Model not found: qwen9:1b", FailureClass.PERMANENT, "slot.load_failed"),
        ("flm: error while loading shared libraries: libxrt.so.2: x", FailureClass.PERMANENT, "slot.load_failed"),
        ("terminate called: std::bad_alloc", FailureClass.TRANSIENT, "slot.memory_budget"),
        ("bind: Address already in use [system:98]", FailureClass.TRANSIENT, "slot.port_taken"),
        ("unrecognised option '--nonsense'", FailureClass.PERMANENT, "slot.load_failed"),
        ("open /dev/accel/accel0: Permission denied", FailureClass.PERMANENT, "device.permission"),
        ("something new", FailureClass.TRANSIENT, "slot.load_failed"),
    ],
)  # fmt: skip
def test_why_it_ended(line: str, failure_class: FailureClass, code: str) -> None:
    verdict = PROVIDER.classify(Exit(1, oom_killed=False, wanted=False, warmed=False, log_tail=("loading", line)))
    assert (verdict.failure_class, verdict.code, verdict.line) == (failure_class, code, line)


def test_a_path_that_it_has_not_is_refused() -> None:
    with pytest.raises(Hal0Error, match="FLM has no such path"):
        PROVIDER.infer(InferRequest("/messages", Capability.CHAT, "qwen3:4b", stream=False))
