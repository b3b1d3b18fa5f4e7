"""`/api/profiles`: named sets of slot fields, those of hal0 and the operator's own."""

import functools

from aiohttp import web

from hal0.api.exchange import answer, body_as
from hal0.config import profile_tables
from hal0.config.profiles import BUILTIN_PROFILES, ProfileConfig
from hal0.config.root import RootConfig
from hal0.services import SERVICES
from hal0.wire.profiles import ProfileChange, ProfileGoneView, ProfilesView, ProfileView


async def list_profiles(request: web.Request) -> web.Response:
    root = request.app[SERVICES].config()
    profiles = {**BUILTIN_PROFILES, **root.profiles}
    return answer(ProfilesView(items=[_view(name, profile, root) for name, profile in profiles.items()]))


async def get_profile(request: web.Request) -> web.Response:
    return answer(_named(request))


async def put(request: web.Request) -> web.Response:
    """Makes it, or changes what the body names of it; slots that are started by it notice."""
    body, name = await body_as(request, ProfileChange), request.match_info["name"]
    write = functools.partial(profile_tables.put, name=name, fields=body.model_extra or {}, like=body.like)
    await request.app[SERVICES].custom.edit(write)
    return answer(_named(request))


async def delete(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    await request.app[SERVICES].custom.edit(functools.partial(profile_tables.take_away, name=name))
    return answer(ProfileGoneView(name=name))


def _named(request: web.Request) -> ProfileView:
    root, name = request.app[SERVICES].config(), request.match_info["name"]
    profile = root.profile(name)
    if profile is None:
        raise profile_tables.unknown(name, root)
    return _view(name, profile, root)


def _view(name: str, profile: ProfileConfig, root: RootConfig) -> ProfileView:
    return ProfileView(
        name=name,
        builtin=name in BUILTIN_PROFILES,
        used_by=profile_tables.users_of(root, name),
        **{**profile.model_dump(), "extra_args": list(profile.extra_args)},
    )
