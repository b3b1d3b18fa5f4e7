"""Engine arguments that hal0 keeps to itself."""

import pytest

from hal0.config.arguments import MODEL_DIR, refused, refused_env
from hal0.providers import base
from hal0.vocab import ProviderName

LLAMACPP = ProviderName.LLAMACPP


@pytest.mark.parametrize(
    "text",
    [
        *("--host 1.2.3.4", "--host=1.2.3.4", "--port 1", "--port=1", "--reuse-port", "--api-prefix /x"),
        *("-m x", "--model x", "--model=x", "-a x", "--alias x", "-c 1", "--ctx-size 1", "--ctx_size 1", "-np 2"),
        *("--api-key x", "--api-key=x", "--api-key-file /x", "--api_key x", "--ssl-key-file x"),
        *("-hf a/b", "--hf-repo a/b", "-hft x", "--model-url http://x", "-mu http://x", "--rpc h:1"),
        *("--fim-qwen-3b-default", "--gpt-oss-20b-default", "--embd-gemma-default", "-mmu http://x"),
        *("--path /", "--media-path /", "--slot-save-path /tmp", "--log-file /x", "-lcd /x", "--video-ffmpeg-dir /x"),
        *("--tools all", "--agent", "-ag", "--mcp-servers-json {}", "--ui-mcp-proxy", "--models-dir /", "--mmproj /x"),
        *("--log-disable", "--log-jsonl", "--no-log-timestamps", "--version", "-h", "--list-devices", "--no-ui"),
    ],
)
def test_owned_dangerous_and_useless_flags_are_refused(text: str) -> None:
    [refusal] = refused(LLAMACPP, text.split())
    assert refusal.flag == text.split(maxsplit=1)[0].partition("=")[0]
    assert refusal.reason


@pytest.mark.parametrize(
    "text",
    [
        *("-t 4", "--reranking", "--embeddings", "--pooling mean", "-fa on", "-ngl 20", "--cpu-moe", "-C 0xf"),
        *("--chat-template chatml", "--cache-type-k q8_0", "--device Vulkan0", "--unknown-to-everyone 1"),
        *("--lora /models/a.gguf", "--lora=/models/a.gguf,/models/b.gguf", "--chat-template-file /models/t.jinja"),
        *("-md /models/draft.gguf", "--override-kv a=int:1"),
    ],
)
def test_everything_else_passes(text: str) -> None:
    assert refused(LLAMACPP, text.split()) == []


@pytest.mark.parametrize(
    "text",
    [
        *("--lora /etc/passwd", "--lora=/etc/passwd", "--lora a.gguf", "--lora /models", "--lora"),
        *("--lora /models/../etc/passwd", "--lora /models/a.gguf,/etc/passwd", "-jf /etc/x", "--grammar-file /x"),
        *("--chat_template_file /x", "-md /run/hal0/secret", "--control-vector-scaled /x:1"),
    ],
)
def test_files_are_opened_only_in_the_models_own_directory(text: str) -> None:
    [refusal] = refused(LLAMACPP, text.split())
    assert "/models" in refusal.reason


def test_every_refusal_is_reported_in_order() -> None:
    assert [refusal.flag for refusal in refused(LLAMACPP, ["--port", "1", "-t", "2", "--host=x"])] == [
        "--port",
        "--host",
    ]


@pytest.mark.parametrize("provider", list(ProviderName))
def test_no_provider_lets_the_address_be_chosen(provider: ProviderName) -> None:
    assert len(refused(provider, ["--host", "x", "--port", "1"])) == 2
    assert [refusal.flag for refusal in refused_env(provider, ["HAL0_SECRET", "OMP_NUM_THREADS"])] == ["HAL0_SECRET"]


def test_the_environment_is_no_way_around() -> None:
    names = ["LLAMA_ARG_HOST", "LLAMA_API_KEY", "LLAMA_LOG_FILE", "HF_TOKEN", "GGML_VK_VISIBLE_DEVICES"]
    assert [refusal.flag for refusal in refused_env(LLAMACPP, names)] == names[:4]


def test_model_files_are_where_the_providers_mount_them() -> None:
    assert str(MODEL_DIR) == base.MODEL_DIR


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("--listen 0.0.0.0", True),
        ("--lis 0.0.0.0", True),  # its parser takes the first letters for the flag
        ("--base=/etc", True),
        ("--whitelist-custom-nodes x", True),
        ("--cpu", True),
        ("--lowvram --reserve-vram 2", False),
        ("--cpu-vae", False),
        ("--use-split-cross-attention", False),
    ],
)
def test_comfyuis_flags_are_hal0s_or_the_operators(text: str, refuses: bool) -> None:
    assert bool(refused(ProviderName.COMFYUI, text.split())) is refuses
