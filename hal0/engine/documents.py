"""Podman's JSON documents turned into hal0's values; pure, and forgiving of fields that a version leaves out."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from hal0.engine.base import ContainerInfo, ContainerStats, ContainerStatus, EngineEvent, EventKind, ImageInfo

_STATUS: Final = {
    "created": ContainerStatus.CREATED,
    "configured": ContainerStatus.CREATED,
    "initialized": ContainerStatus.CREATED,
    "running": ContainerStatus.RUNNING,
    "stopping": ContainerStatus.STOPPING,
    "exited": ContainerStatus.EXITED,
    "stopped": ContainerStatus.EXITED,
}
_KIND: Final = {
    "start": EventKind.STARTED,
    "died": EventKind.DIED,
    "remove": EventKind.REMOVED,
    "oom": EventKind.OOM,
}

_NO_LABELS: Final = ("image", "podId")  # podman's own attributes; the rest are the container's labels


def container_info(document: Mapping[str, Any]) -> ContainerInfo:
    """From GET containers/X/json."""
    state = document.get("State") or {}
    host = document.get("HostConfig") or {}
    status = _STATUS.get(str(state.get("Status", "")).lower(), ContainerStatus.OTHER)
    ended = status is ContainerStatus.EXITED
    return ContainerInfo(
        id=document["Id"],
        name=str(document.get("Name", "")).lstrip("/"),
        status=status,
        labels=(document.get("Config") or {}).get("Labels") or {},
        image_id=str(document.get("Image", "")).removeprefix("sha256:"),
        pid=state.get("Pid") or 0,
        conmon_pid=state.get("ConmonPid") or 0,
        exit_code=state.get("ExitCode") if ended else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        started_at=seconds(state.get("StartedAt")),
        finished_at=seconds(state.get("FinishedAt")) if ended else None,
        ip=_ip(document.get("NetworkSettings") or {}),
        host_port=_host_port(host.get("PortBindings") or {}),
        memory_limit_bytes=host.get("Memory") or None,
    )


def listed_container(document: Mapping[str, Any]) -> ContainerInfo:
    """From an entry of GET containers/json: less than an inspect tells, and nobody asks the container."""
    status = _STATUS.get(str(document.get("State", "")).lower(), ContainerStatus.OTHER)
    ended = status is ContainerStatus.EXITED
    ports = (port.get("host_port") for port in document.get("Ports") or ())
    return ContainerInfo(
        id=document["Id"],
        name=next(iter(document.get("Names") or ()), ""),
        status=status,
        labels=document.get("Labels") or {},
        image_id=str(document.get("ImageID", "")).removeprefix("sha256:"),
        pid=document.get("Pid") or 0,
        exit_code=document.get("ExitCode") if ended else None,
        started_at=_positive(document.get("StartedAt")),
        finished_at=_positive(document.get("ExitedAt")) if ended else None,
        host_port=next((int(port) for port in ports if port), None),
    )


def container_stats(document: Mapping[str, Any]) -> ContainerStats | None:
    """From GET containers/stats for one container; None when it does not run (podman then tells zeros)."""
    samples = document.get("Stats") or []
    if not samples or not samples[0].get("MemLimit"):
        return None
    sample = samples[0]
    return ContainerStats(
        cpu_s=sample.get("CPUNano", 0) / 1e9,
        memory_bytes=sample.get("MemUsage", 0),
        memory_limit_bytes=sample["MemLimit"],
    )


def image_info(document: Mapping[str, Any]) -> ImageInfo:
    """From GET images/X/json or an entry of images/json."""
    config = document.get("Config") or {}
    created = document.get("Created")
    return ImageInfo(
        id=str(document["Id"]).removeprefix("sha256:"),
        tags=tuple(document.get("RepoTags") or ()),
        digests=tuple(document.get("RepoDigests") or ()),
        size_bytes=document.get("Size") or 0,
        labels=document.get("Labels") or config.get("Labels") or {},
        created=float(created) if isinstance(created, int | float) else seconds(created),
    )


def engine_event(document: Mapping[str, Any]) -> EngineEvent | None:
    """From a line of GET events; None for what hal0 does not follow."""
    kind = _KIND.get(str(document.get("Action", "")))
    if kind is None or document.get("Type", "container") != "container":
        return None
    actor = document.get("Actor") or {}
    attributes = dict(actor.get("Attributes") or {})
    exit_code = attributes.pop("containerExitCode", None)
    return EngineEvent(
        kind=kind,
        container_id=actor.get("ID", ""),
        name=attributes.pop("name", ""),
        labels={key: value for key, value in attributes.items() if key not in _NO_LABELS},
        exit_code=int(exit_code) if exit_code is not None and kind is EventKind.DIED else None,
        at=event_time(document),
    )


def event_key(document: Mapping[str, Any]) -> tuple[str, str, int]:
    """What makes an event the same event when podman replays it."""
    actor = document.get("Actor") or {}
    return (actor.get("ID", ""), str(document.get("Action", "")), document.get("timeNano") or 0)


def event_time(document: Mapping[str, Any]) -> float:
    """Seconds since the epoch."""
    return (document.get("timeNano") or 0) / 1e9 or float(document.get("time") or 0)


def seconds(text: object) -> float | None:
    """RFC 3339 with nanoseconds to seconds since the epoch; None for Go's zero time and for what is no time."""
    if not isinstance(text, str) or text.startswith("0001-"):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _positive(value: object) -> float | None:
    """Seconds since the epoch; a list tells Go's zero time as a large negative number."""
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _ip(network: Mapping[str, Any]) -> str | None:
    if network.get("IPAddress"):
        return str(network["IPAddress"])
    joined = (network.get("Networks") or {}).values()
    return next((str(one["IPAddress"]) for one in joined if one and one.get("IPAddress")), None)


def _host_port(bindings: Mapping[str, Any]) -> int | None:
    ports = (one.get("HostPort") for binding in bindings.values() for one in binding or ())
    return next((int(port) for port in ports if port), None)
