"""What this host refuses to containers, found out once with a throw-away container and remembered until it changes.

The container names a program that no image has: everything is set up (limits, capabilities, profiles, network),
and then there is nothing to run. So any local image will do, and nothing needs to be stopped.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from hal0.engine.base import LABEL_PREFIX, ContainerSpec
from hal0.engine.errors import ContainerMissing
from hal0.engine.host import HostFacts
from hal0.engine.payload import Feature, HostProfile, create_body
from hal0.engine.translate import Subject
from hal0.engine.transport import Transport, json_filters
from hal0.errors import Hal0Error
from hal0.lib.atomic import write_atomic
from hal0.lib.jsonio import JSONDecodeError, dumps_pretty, loads

_SCHEMA: Final = 1
_PROGRAM: Final = "/.hal0-probe"
_PROBED: Final = tuple(feature for feature in Feature if feature is not Feature.SELINUX)  # that one is read, not tried
_MEMORY_BYTES: Final = 64 * 1024 * 1024
_TRY_S: Final = 30.0  # the first bridge after a boot takes seconds on slow machines
_INFO_S: Final = 10.0
_SELINUX_REASON: Final = "model files keep their own labels; a confined slot could not read them"
_INFO_HOST: Final = ("cgroupVersion", "cgroupManager", "networkBackend", "logDriver", "eventLogger", "memTotal")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`engine` is what podman says of itself, empty until `warm`; `problem` is set when no container starts at all."""

    key: str
    profile: HostProfile
    engine: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


class HostProbe:
    """The profile of the host behind one podman service. Probes at the first create, or earlier by `warm`."""

    def __init__(self, facts: HostFacts, cache: Path, *, instance: str = "host") -> None:
        self._facts = facts
        self._label = {f"{LABEL_PREFIX}probe": instance}  # not the instance label: no slot's container is a probe
        self._cache = cache
        self._lock = asyncio.Lock()
        self.result: ProbeResult | None = None

    async def profile(self, transport: Transport, image: str) -> HostProfile:
        """The host's profile, known or found out now with `image` (about 0.3 s, once)."""
        async with self._lock:
            if self.result is None or self.result.problem is not None:  # a broken host may have been mended
                self.result = await self._find(transport, image)
            return self.result.profile

    async def warm(self, transport: Transport) -> None:
        """Find out ahead of the first start, with any local image. What fails now is found out then."""
        with contextlib.suppress(Hal0Error):
            images = await transport.json("/images/json", Subject("list the images"))
            names = [str(image["Id"]) for image in sorted(images, key=_not_ours)]
            if not names:
                return
            await self.profile(transport, names[0])
            if self.result is not None and not self.result.engine:
                self.result = replace(self.result, engine=await _engine_facts(transport))
                await self._keep(self.result)

    async def _find(self, transport: Transport, image: str) -> ProbeResult:
        version = await transport.ping()
        key = f"{self._facts.boot_id} {self._facts.kernel} podman {version} uid {self._facts.uid} {transport.socket}"
        cached = await asyncio.to_thread(_load, self._cache, key, self._facts)
        if cached is not None:
            return cached
        await self._sweep(transport)
        profile, problem = await _search(_Trial(transport, image, self._label), self._facts)
        result = ProbeResult(key, profile, problem=problem)
        await self._keep(result)
        return result

    async def _sweep(self, transport: Transport) -> None:
        """Remove what a hal0 that was killed while it probed left behind."""
        params = {
            "all": "true",
            "filters": json_filters(label=[f"{key}={value}" for key, value in self._label.items()]),
        }
        for left in await transport.json("/containers/json", Subject("list the containers"), params=params):
            await _remove(transport, left["Id"])

    async def _keep(self, result: ProbeResult) -> None:
        if result.problem is None:
            with contextlib.suppress(OSError):  # only the next start is slower for it
                await asyncio.to_thread(_save, self._cache, result)


def static_profile(facts: HostFacts) -> HostProfile:
    """What can be said without trying."""
    left_out = {Feature.SELINUX: _SELINUX_REASON} if facts.selinux_enforcing else {}
    return HostProfile(left_out, memlock=facts.memlock, rootless=facts.uid != 0)


async def _search(trial: "_Trial", facts: HostFacts) -> tuple[HostProfile, str | None]:
    """Everything at once first, as that works on most hosts; else one feature at a time above the bare minimum."""
    base = static_profile(facts)
    refused = await trial.attempt(base)
    if refused is not None and "rlimit" in refused:  # a service that was started without hal0's containers.conf
        base = replace(base, nofile=facts.nofile, nproc=facts.nproc)
        refused = await trial.attempt(base)
    if refused is None:
        return base, None
    bare: dict[Feature, str] = {**base.left_out, **dict.fromkeys(_PROBED, "")}
    if await trial.attempt(replace(base, left_out=bare)) is not None:
        return base, refused
    left_out = dict(base.left_out)
    for feature in _PROBED:
        alone = {name: why for name, why in bare.items() if name is not feature}
        reason = await trial.attempt(replace(base, left_out=alone))
        if reason is not None:
            left_out[feature] = reason
    return replace(base, left_out=left_out), None


@dataclass(frozen=True, slots=True)
class _Trial:
    """Throw-away containers of one image."""

    transport: Transport
    image: str
    labels: Mapping[str, str]

    async def attempt(self, profile: HostProfile) -> str | None:
        """None when a container of this profile starts; else podman's reason."""
        name = f"hal0-probe-{secrets.token_hex(4)}"
        spec = ContainerSpec(name=name, image=self.image, argv=(), labels=self.labels, memory_bytes=_MEMORY_BYTES)
        body = {**create_body(spec, profile), "entrypoint": [_PROGRAM]}
        subject = Subject("try a container", container=name, image=self.image)
        try:
            await self.transport.call("POST", "/containers/create", subject, json=body, timeout_s=_TRY_S)
            await self.transport.call("POST", f"/containers/{name}/start", subject, timeout_s=_TRY_S)
        except Hal0Error as error:
            if error.code != "engine.failed" or isinstance(error, ContainerMissing):
                raise  # says nothing about the host
            return None if _PROGRAM in error.message else error.message
        finally:
            await _remove(self.transport, name)
        return None


async def _remove(transport: Transport, name: str) -> None:
    """Twice, since it may be ending by itself just now; what is left then is swept by the next probe."""
    params = {"force": "true", "timeout": "0"}
    for _ in range(2):
        try:
            await transport.call(
                "DELETE", f"/containers/{name}", Subject("remove the trial", container=name), params=params
            )
        except ContainerMissing:
            return
        except Hal0Error:
            continue
        return


async def _engine_facts(transport: Transport) -> dict[str, Any]:
    """What /info tells; it takes podman 0.2 s, so it is asked once and kept."""
    info = await transport.json("/info", Subject("ask podman about itself"), timeout_s=_INFO_S)
    host, store = info.get("host") or {}, info.get("store") or {}
    security = host.get("security") or {}
    facts = {key: host.get(key) for key in _INFO_HOST}
    return {
        **facts,
        "runtime": (host.get("ociRuntime") or {}).get("name"),
        "storage": store.get("graphDriverName"),
        "graphroot": store.get("graphRoot"),
        "rootless": bool(security.get("rootless")),
        "apparmor": bool(security.get("apparmorEnabled")),
        "selinux": bool(security.get("selinuxEnabled")),
    }


def _not_ours(image: Mapping[str, Any]) -> bool:
    return not any("hal0" in str(name) for name in image.get("Names") or ())


def _load(cache: Path, key: str, facts: HostFacts) -> ProbeResult | None:
    try:
        document = loads(cache.read_bytes())
        if document["schema"] != _SCHEMA or document["key"] != key:
            return None
        left_out = {Feature(name): str(why) for name, why in document["left_out"].items()}
        found = static_profile(facts)
        profile = replace(found, left_out=left_out, nofile=document["nofile"], nproc=document["nproc"])
        return ProbeResult(key, profile, document["engine"])
    except (OSError, JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None  # a cache: a damaged one is found out again


def _save(cache: Path, result: ProbeResult) -> None:
    document = {
        "schema": _SCHEMA,
        "key": result.key,
        "left_out": {feature.value: why for feature, why in result.profile.left_out.items()},
        "nofile": result.profile.nofile,
        "nproc": result.profile.nproc,
        "engine": dict(result.engine),
    }
    write_atomic(cache, dumps_pretty(document))
