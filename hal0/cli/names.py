"""The command table: each word of `hal0ctl` and where its code is, importable at no cost."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# word -> module below hal0.cli and the click command in it; imported when the word is used
MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "status": "overview:status",
        "ps": "overview:ps",
        "top": "top:top",
        "chat": "chat:chat",
        "logs": "logs:logs",
        "why": "why:why",
        "activity": "activity:activity",
        "slot": "slot:slot",
        "job": "job:job",
        "model": "model:model",
        "pull": "model_pull:pull_",
        "image": "image:image",
        "setup": "setup:setup",
        "cap": "cap:cap",
        "hw": "hw:hw",
        "upstream": "upstream:upstream",
        "profile": "profile:profile",
        "provider": "provider:provider",
        "key": "key:key",
        "open": "open:open_",
        "doctor": "doctor:doctor",
        "drill": "drill:drill",
        "up": "updown:up",
        "down": "updown:down",
        "serve": "updown:serve",
        "context": "context:context",
        "version": "about:version",
        "completion": "completion:completion",
        "help": "about:help_",
    }
)

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "slots": "slot",
        "models": "model",
        "jobs": "job",
        "op": "job",
        "images": "image",
        "upstreams": "upstream",
        "keys": "key",
        "profiles": "profile",
        "providers": "provider",
    }
)

# What `hal0 WORD ...` hands on to the command line; `hal0 serve` is the daemon itself.
COMMANDS: Final = (frozenset(MODULES) | frozenset(ALIASES)) - {"serve"}
