"""Which engine arguments hal0 refuses in `extra_args`, and why: tables, one per provider.

Refused are flags that hal0 sets itself, that open files outside the model's own directory, that open the network,
that run programs, and that change the log hal0 reads. Everything else passes; a flag the image does not know is
named when the start fails. The llama-server table is read off the `--help` of build 11669.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

from hal0.vocab import ProviderName

# The model's own files inside the container; everything else there is the image.
MODEL_DIR: Final = PurePosixPath("/models")


@dataclass(frozen=True, slots=True)
class Refusal:
    flag: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Rules:
    """`never` gives the reason per flag; `model_files` pass when every path in their value is below MODEL_DIR.

    `abbreviates`: the engine takes the first letters of a long flag for the flag.
    """

    never: Mapping[str, str]
    model_files: frozenset[str] = frozenset()
    env_prefixes: tuple[str, ...] = ()
    abbreviates: bool = False

    def reason(self, flag: str) -> str | None:
        """Why a flag is refused; None for any other."""
        if (known := self.never.get(flag)) is not None or not self.abbreviates or not flag.startswith("--"):
            return known
        return next((reason for name, reason in self.never.items() if name.startswith(flag)), None)


def _never(*groups: tuple[str, str]) -> Mapping[str, str]:
    return MappingProxyType({flag: reason for flags, reason in groups for flag in flags.split()})


_NETWORK: Final = "opens the network: pull the model with hal0 instead"
_ADDRESS: Final = "hal0 chooses the address: use the field `port`"
_ROUTER: Final = "turns the server into a router: one slot serves one model"
_PROGRAMS: Final = "gives the model tools on this machine"
_FILES: Final = "opens files outside the model's own directory"
_LOG: Final = "hal0 reads the log to tell what went wrong"
_QUITS: Final = "makes the server print something and exit"

_LLAMA_SERVER: Final = _Rules(
    never=_never(
        ("--host --port --reuse-port --api-prefix --ssl-key-file --ssl-cert-file", _ADDRESS),
        ("-m --model", "use the field `model`"),
        ("-mm --mmproj --mmproj-auto", "hal0 adds the projector that belongs to the model"),
        ("-a --alias --tags", "hal0 names the model: use the fields `model` and `aliases`"),
        ("--api-key --api-key-file", "hal0 gives every container a key of its own"),
        ("-c --ctx-size", "use the field `context_size`"),
        ("-np --parallel", "use the field `parallel`"),
        ("--metrics --ui --webui --no-ui --no-webui --offline", "hal0 sets it for every slot"),
        ("-mu --model-url -dr --docker-repo -hf -hfr --hf-repo -hff --hf-file -hft --hf-token", _NETWORK),
        ("-mmu --mmproj-url --spec-draft-hf -hfd -hfrd --hf-repo-draft --embd-gemma-default --rpc", _NETWORK),
        ("--fim-qwen-1.5b-default --fim-qwen-3b-default --fim-qwen-7b-default --fim-qwen-7b-spec", _NETWORK),
        ("--fim-qwen-14b-spec --fim-qwen-30b-default --gpt-oss-20b-default --gpt-oss-120b-default", _NETWORK),
        ("--vision-gemma-4b-default --vision-gemma-12b-default", _NETWORK),
        ("--models-dir --models-preset --models-max --models-autoload --no-models-autoload", _ROUTER),
        ("--tools --tools-runtime --mcp-servers-config --mcp-servers-json -ag --agent", _PROGRAMS),
        ("--ui-mcp-proxy --webui-mcp-proxy", _PROGRAMS),
        ("--path --ui-config-file --webui-config-file --slot-save-path --media-path --video-ffmpeg-dir", _FILES),
        ("--log-prompts-dir --log-file -lcd --lookup-cache-dynamic", _FILES),
        ("--log-disable --log-jsonl --no-log-prefix --no-log-timestamps --log-colors", _LOG),
        ("-h --help --usage --version -cl --cache-list --completion-bash --list-devices", _QUITS),
    ),
    model_files=frozenset(
        {
            *("-md", "--model-draft", "--spec-draft-model", "--lora", "--lora-scaled"),
            *("--control-vector", "--control-vector-scaled", "--chat-template-file"),
            *("--grammar-file", "-jf", "--json-schema-file", "-lcs", "--lookup-cache-static"),
        }
    ),
    env_prefixes=("LLAMA_", "HF_", "MODEL_ENDPOINT"),
)

_FLM: Final = _Rules(
    never=_never(
        ("--host --port -p --cors --socket -s --q-len -q", "hal0 sets it for every slot"),
        ("--ctx-len -c", "use the field `context_size`"),
        ("--asr -a --embed -e", "they ride along when their weights are in the models folder"),
        ("--hf --hf-branch", _NETWORK),
    ),
    env_prefixes=("FLM_",),
)
_CODE: Final = "runs code that is not the engine's own"
_COMFYUI: Final = _Rules(
    never=_never(
        ("--listen --host --port --tls-keyfile --tls-certfile --enable-cors-header --auto-launch", _ADDRESS),
        ("--base-directory --output-directory --input-directory --temp-directory --user-directory", _FILES),
        ("--extra-model-paths-config --front-end-root", _FILES),
        ("--front-end-version --comfy-api-base", _NETWORK),
        (
            "--disable-metadata --disable-api-nodes --disable-all-custom-nodes --database-url",
            "hal0 sets it for every slot",
        ),
        ("--cuda-device --default-device", "use the field `gpu_index`"),
        ("--cpu", "use the field `device`"),
        ("--whitelist-custom-nodes", _CODE),
        ("--dont-print-server --verbose --log-stdout", _LOG),
        ("-h --help --quick-test-for-ci", _QUITS),
    ),
    abbreviates=True,
)

_OTHERS: Final = _Rules(never=_never(("--host --port", _ADDRESS), ("--model", "use the field `model`")))

_RULES: Final[Mapping[ProviderName, _Rules]] = MappingProxyType(
    {ProviderName.LLAMACPP: _LLAMA_SERVER, ProviderName.FLM: _FLM, ProviderName.COMFYUI: _COMFYUI}
)


def refused(provider: ProviderName, argv: Sequence[str]) -> list[Refusal]:
    """The arguments hal0 does not pass on, in their order; both `--flag value` and `--flag=value` are understood."""
    rules = _RULES.get(provider, _OTHERS)
    refusals = []
    for position, argument in enumerate(argv):
        name, has_value, value = argument.partition("=")
        flag = _canonical(name)
        if reason := rules.reason(flag):
            refusals.append(Refusal(name, reason))
        elif flag in rules.model_files:
            values = value if has_value else "".join(argv[position + 1 : position + 2])
            if not _all_below_model_dir(values.split(",")):
                refusals.append(Refusal(name, f"{_FILES}: give a path below {MODEL_DIR}"))
    return refusals


def refused_env(provider: ProviderName, names: Iterable[str]) -> list[Refusal]:
    """Environment variables that would do what a refused argument does."""
    prefixes = (*_RULES.get(provider, _OTHERS).env_prefixes, "HAL0_")
    reason = "is hal0's to set: use the slot's fields or `extra_args`"
    return [Refusal(name, reason) for name in names if name.startswith(prefixes)]


def _canonical(flag: str) -> str:
    """llama-server reads `--ctx_size` as `--ctx-size`."""
    return flag.replace("_", "-") if flag.startswith("--") else flag


def _all_below_model_dir(values: Iterable[str]) -> bool:
    paths = [PurePosixPath(value) for value in values]
    return all(path.is_relative_to(MODEL_DIR) and path != MODEL_DIR and ".." not in path.parts for path in paths)
