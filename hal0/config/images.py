"""`[images]`: another image for a key of the manifest."""

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
    comfyui: Text | None = Field(None, examples=["localhost/hal0-toolbox-comfyui"], description="Images.")
