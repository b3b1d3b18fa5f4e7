"""`[images]`: another image for a key of the manifest, written here with `_` for its `-`."""

from pydantic import Field

from hal0.config.base import ConfigModel, Text


class ImagesConfig(ConfigModel):
    """A reference with a digest, a tag in the local store, or an image id; unset means the manifest's own."""

    vulkan: Text | None = Field(None, examples=["localhost/hal0-toolbox-vulkan"], description="llama.cpp on Vulkan.")
    rocm: Text | None = Field(None, examples=["localhost/hal0-toolbox-rocm"], description="llama.cpp on ROCm.")
    cuda: Text | None = Field(None, examples=["localhost/hal0-toolbox-cuda"], description="llama.cpp on CUDA.")
    cpu: Text | None = Field(None, examples=["localhost/hal0-toolbox-cpu"], description="llama.cpp on the CPU.")
    flm: Text | None = Field(None, examples=["localhost/hal0-toolbox-flm"], description="FastFlowLM on the NPU.")
    moonshine: Text | None = Field(None, examples=["localhost/hal0-toolbox-moonshine"], description="Speech to text.")
    kokoro: Text | None = Field(None, examples=["localhost/hal0-toolbox-kokoro"], description="Text to speech.")
    kokoro_vulkan: Text | None = Field(
        None, examples=["localhost/hal0-toolbox-kokoro-vulkan"], description="Text to speech on Vulkan."
    )
    f5_tts: Text | None = Field(None, examples=["localhost/hal0-toolbox-f5-tts"], description="Cloned voices.")
    comfyui: Text | None = Field(None, examples=["localhost/hal0-toolbox-comfyui"], description="Images on a GPU.")
    comfyui_cpu: Text | None = Field(
        None, examples=["localhost/hal0-toolbox-comfyui-cpu"], description="Images on the CPU."
    )

    def instead_of(self, key: str) -> str | None:
        """What the user wants in the place of the manifest's image; None: nothing else."""
        reference: str | None = getattr(self, key.replace("-", "_"))
        return reference
