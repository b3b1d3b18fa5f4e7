"""`/api/keys`: make, list, rotate and revoke keys."""

from aiohttp import web

from hal0.access.keyring import KeyDraft
from hal0.access.keys import KeyRecord
from hal0.api.exchange import answer, body_as
from hal0.errors import Hal0Error
from hal0.services import SERVICES, Services
from hal0.vocab import SlotName
from hal0.wire.keys import CreateKeyRequest, KeysView, KeyView, MadeKeyView, RotateKeyRequest


async def list_keys(request: web.Request) -> web.Response:
    return answer(KeysView(items=[view(record) for record in request.app[SERVICES].access.keyring.records()]))


async def create(request: web.Request) -> web.Response:
    body, services = await body_as(request, CreateKeyRequest), request.app[SERVICES]
    draft = KeyDraft(
        label=body.label,
        scopes=tuple(dict.fromkeys(body.scopes)),
        slots=None if body.slots is None else tuple(_slot(services, name) for name in dict.fromkeys(body.slots)),
        rate_per_minute=body.rate_per_minute,
        expires_in_s=body.expires_in_s,
    )
    return answer(_made(*await services.access.keyring.create(draft)), status=201)


async def rotate(request: web.Request) -> web.Response:
    body, keyring = await body_as(request, RotateKeyRequest), request.app[SERVICES].access.keyring
    return answer(_made(*await keyring.rotate(request.match_info["id"], grace_s=body.grace_s)))


async def revoke(request: web.Request) -> web.Response:
    return answer(view(await request.app[SERVICES].access.keyring.revoke(request.match_info["id"])))


def view(record: KeyRecord) -> KeyView:
    return KeyView(
        id=record.id,
        label=record.label,
        scopes=list(record.scopes),
        slots=None if record.slots is None else list(record.slots),
        rate_per_minute=record.rate_per_minute,
        created_at=record.created_at,
        expires_at=record.expires_at,
        last_used=record.last_used,
        rotated_at=record.rotated_at,
        old_until=record.old_until,
    )


def _made(record: KeyRecord, text: str) -> MadeKeyView:
    return MadeKeyView(**view(record).model_dump(), key=text)


def _slot(services: Services, name: str) -> SlotName:
    """A slot that is there. Raises slot.not_found: a limit to a misspelt slot would be a key for nothing."""
    found = next((slot.name for slot in services.supervisor.all() if slot.name == name), None)
    if found is None:
        raise Hal0Error("slot.not_found", f"cannot limit a key to slot {name!r}: there is none", param="slots")
    return found
