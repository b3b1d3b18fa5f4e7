"""ComfyUI: OpenAI's images turned into workflow graphs, rendered by an engine that knows nothing of OpenAI."""

from hal0.providers.comfyui.provider import PROVIDER as PROVIDER
