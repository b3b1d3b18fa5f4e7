"""`[models]`: where AI models are kept and how they get there."""

from pydantic import Field, SecretStr

from hal0.config.base import AbsolutePath, AbsolutePaths, BaseUrl, ConfigModel, Flag, SomeCount, SomeSize


class ModelsConfig(ConfigModel):
    store: AbsolutePath | None = Field(
        None, examples=["/srv/models"], description="Where pulled models are written. Unset: hal0's own directory."
    )
    roots: AbsolutePaths = Field(
        (), description="More directories with models, read but never written: Hugging Face's, Ollama's, ComfyUI's."
    )
    pull_on_request: Flag = Field(
        False, description="A request may download the model that its slot is configured with."
    )
    pull_parallel: SomeCount = Field(2, le=16, description="Downloads at the same time.")
    rate_limit: SomeSize | None = Field(
        None, examples=["20MB"], description="Bytes per second of all downloads together. Unset: no limit."
    )
    allow_pickle: Flag = Field(False, description="Accept file formats that can run code when they are loaded.")
    hf_endpoint: BaseUrl = Field("https://huggingface.co", description="Hugging Face, or a mirror of it.")
    hf_token: SecretStr | None = Field(
        None, examples=["hf_..."], description="Token for gated models; the environment's HF_TOKEN also counts."
    )
