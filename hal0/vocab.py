"""The words every part of hal0 shares; values only, no behaviour that could depend on anything."""

import re
from enum import StrEnum
from typing import Final, NewType

SlotName = NewType("SlotName", str)
ModelId = NewType("ModelId", str)

SLOT_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")
MODEL_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}\Z")
# As `hal0ctl pull` takes it: OWNER/REPOSITORY[:QUANTISATION].
HUB_PLACE: Final = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<quantisation>[\w.-]+))?\Z", re.ASCII
)
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")

# The seeds' five: always present, never deletable.
BUILTIN_SLOTS: Final = (
    SlotName("primary"),
    SlotName("embed"),
    SlotName("stt"),
    SlotName("tts"),
    SlotName("img"),
)
RESERVED_SLOTS: Final = (*BUILTIN_SLOTS, SlotName("embed-rerank"))

# Nineteen container slots at most: the range is the seeds'.
SLOT_PORTS: Final = range(8081, 8100)
PRIMARY_PORT: Final = 8081


class Phase(StrEnum):
    """Stored phase of a slot; what is shown on the wire is derived (see SlotState)."""

    OFFLINE = "offline"
    PULLING = "pulling"
    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    UNLOADING = "unloading"
    ERROR = "error"


class SlotState(StrEnum):
    """The nine states on the wire: the phases, with `ready` split by what the slot is doing."""

    OFFLINE = "offline"
    PULLING = "pulling"
    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    SERVING = "serving"
    IDLE = "idle"
    UNLOADING = "unloading"
    ERROR = "error"


class Want(StrEnum):
    LOADED = "loaded"
    UNLOADED = "unloaded"


class By(StrEnum):
    """Who asked for the desired state."""

    OPERATOR = "operator"
    REQUEST = "request"
    CONFIG = "config"
    IDLE = "idle"
    EVICTED = "evicted"
    ARBITER = "arbiter"


class ProgressSource(StrEnum):
    """Where the fraction of a load comes from."""

    ENGINE = "engine"  # it tells
    READ = "read"  # bytes of the model that it has read
    ESTIMATE = "estimate"  # what this slot's earlier loads took


class ProviderName(StrEnum):
    """The engines that a slot may have. One more is a line here, and the module of that name in `hal0/providers`."""

    LLAMACPP = "llama.cpp"
    FLM = "flm"
    MOONSHINE = "moonshine"
    KOKORO = "kokoro"
    COMFYUI = "comfyui"
    UPSTREAM = "upstream"

    @property
    def module(self) -> str:
        """Where its `PROVIDER` is."""
        return self.name.lower()


class Device(StrEnum):
    AUTO = "auto"
    VULKAN = "vulkan"
    ROCM = "rocm"
    CUDA = "cuda"
    CPU = "cpu"
    NPU = "npu"


class Capability(StrEnum):
    """What a model can answer; a `/v1` path needs one of these at most."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBED = "embed"
    RERANK = "rerank"
    VISION = "vision"
    STT = "stt"
    TTS = "tts"
    IMAGE = "image"


class FailureClass(StrEnum):
    """Permanent rests until somebody changes something; transient is tried again on the restart curve."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"


class Role(StrEnum):
    """What a container is to its slot."""

    CURRENT = "current"
    NEXT = "next"
    LEAVING = "leaving"


class SwapMode(StrEnum):
    REPLACE = "replace"
    OVERLAP = "overlap"


class OnClientGone(StrEnum):
    CANCEL = "cancel"
    DRAIN = "drain"


class Rule(StrEnum):
    """The dispatcher's rules in the order they are tried (`X-Hal0-Rule`)."""

    ADDRESS = "address"
    PREEMPTION = "preemption"
    REGISTRY = "registry"
    PASSTHROUGH = "passthrough"
    PREFETCH = "prefetch"
    CAPABILITY = "capability"


class Access(StrEnum):
    """What a route asks of its caller; every route has exactly one."""

    OPEN = "open"  # nobody is asked
    INFERENCE = "inference"  # local peers, or a key with this scope
    OWN = "own"  # a key that may infer, and then sees what is its own; or one that may read
    READ = "read"
    ADMIN = "admin"


class Scope(StrEnum):
    """What a key allows; `admin` includes the others."""

    INFERENCE = "inference"
    READ = "read"
    ADMIN = "admin"
