"""The cards: what people pick without thinking of slots, which slot each row stands for, what it may run on. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from hal0.engine.images import ImageState, Source, missing
from hal0.errors import Hal0Error
from hal0.hardware.survey import Survey
from hal0.providers.base import Provider
from hal0.slots.fitting import unfit, unready
from hal0.vocab import Capability, Device, ProviderName, SlotName

RERANKER: Final = "bge-reranker-v2-m3-q4_k_m"
NPU_SLOT: Final = SlotName("npu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One row of a card. `path` is the `/v1` path that answers for it.

    `rides`: it comes with another row's engine and has no switch of its own. `table` is what the first enable writes
    of a slot that is not configured yet, `model` the one that is chosen when nobody says.
    """

    card: str
    name: str
    slot: SlotName
    capability: Capability
    path: str
    npu: bool = False
    rides: bool = False
    table: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None

    @property
    def id(self) -> str:
        return f"{self.card}/{self.name}"


_EMBED: Final = Child(
    card="embed", name="embed", slot=SlotName("embed"), capability=Capability.EMBED, path="/v1/embeddings"
)
_RERANK: Final = Child(
    card="embed",
    name="rerank",
    slot=SlotName("embed-rerank"),
    capability=Capability.RERANK,
    path="/v1/rerankings",
    # llama-server does one of the two: with this flag it scores, without it it embeds.
    table=MappingProxyType({"provider": ProviderName.LLAMACPP.value, "extra_args": ["--reranking"]}),
    model=RERANKER,
)
_STT: Final = Child(
    card="voice", name="stt", slot=SlotName("stt"), capability=Capability.STT, path="/v1/audio/transcriptions"
)
_TTS: Final = Child(card="voice", name="tts", slot=SlotName("tts"), capability=Capability.TTS, path="/v1/audio/speech")
_IMG: Final = Child(
    card="img", name="img", slot=SlotName("img"), capability=Capability.IMAGE, path="/v1/images/generations"
)
_NPU_TABLE: Final = MappingProxyType({"provider": ProviderName.FLM.value, "device": Device.NPU.value})


def _npu(name: str, capability: Capability, path: str, *, rides: bool = True) -> Child:
    return Child(
        card="npu", name=name, slot=NPU_SLOT, capability=capability, path=path, npu=True, rides=rides, table=_NPU_TABLE
    )


CARDS: Final[Mapping[str, tuple[Child, ...]]] = MappingProxyType(
    {
        "embed": (_EMBED, _RERANK),
        "voice": (_STT, _TTS),
        "img": (_IMG,),
        "npu": (
            _npu("chat", Capability.CHAT, "/v1/chat/completions", rides=False),
            _npu("embed", Capability.EMBED, "/v1/embeddings"),
            _npu("asr", Capability.STT, "/v1/audio/transcriptions"),
        ),
    }
)
CHILDREN: Final = tuple(child for children in CARDS.values() for child in children)


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing to run a child on. `fault` is why this machine cannot; None where it can.

    `image` is the manifest's key.
    """

    provider: ProviderName
    device: Device
    image: str
    fault: Hal0Error | None


@dataclass(frozen=True, slots=True)
class Shelf:
    """What there is to choose from: providers, images (here or not), and the machine."""

    providers: Mapping[ProviderName, Provider]
    images: Mapping[str, ImageState]
    survey: Survey


def find(card: str, name: str) -> Child:
    """Raises capability.not_found, which names what there is."""
    for child in CHILDREN:
        if (child.card, child.name) == (card, name):
            return child
    known = ", ".join(child.id for child in CHILDREN)
    raise Hal0Error("capability.not_found", f"cannot find capability {card}/{name}: there are {known}")


def choices(child: Child, shelf: Shelf) -> tuple[Choice, ...]:
    """Every device that an image of a fitting provider declares, and nothing else; best first.

    The NPU is its own card's alone: one engine has it, and serves all of the card's rows.
    """
    return tuple(_choices(child, shelf))


def _choices(child: Child, shelf: Shelf) -> Iterator[Choice]:
    for provider in shelf.providers.values():
        if child.capability not in provider.capabilities or provider.name is ProviderName.UPSTREAM:
            continue
        for device in Device:
            if device is Device.AUTO or (device is Device.NPU) is not child.npu:
                continue
            state = shelf.images.get(_image_key(provider, device))
            if state is not None and device in state.entry.devices:
                yield Choice(provider.name, device, state.entry.key, _fault(state, device, shelf.survey))


def _image_key(provider: Provider, device: Device) -> str:
    try:
        return provider.image_key(device)
    except Hal0Error:  # it has none for this device
        return ""


def _fault(state: ImageState, device: Device, survey: Survey) -> Hal0Error | None:
    fault = unready(device, survey) or (None if state.own else unfit(state.entry, device, survey))
    if fault is None and state.choice.source is Source.NONE:
        return missing(state.entry)
    return fault


def npu_shown(shelf: Shelf) -> Hal0Error | None:
    """Why there is no NPU card: it takes XDNA hardware that slots may use, and FLM's image on this machine. Pure."""
    if (fault := unready(Device.NPU, shelf.survey)) is not None:
        return fault
    state = shelf.images.get(ProviderName.FLM)
    if state is None or state.choice.image is None:
        hint = "hal0ctl image build flm" if state is not None and state.choice.source is Source.BUILD else None
        return Hal0Error("image.missing", "cannot use the NPU: FLM's image is not on this machine", hint=hint)
    return None
