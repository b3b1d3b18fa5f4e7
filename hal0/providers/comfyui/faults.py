"""What ComfyUI says when it cannot render, as hal0's errors: the field at fault where it is the client's. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from hal0.errors import Hal0Error

# Inputs of nodes that come from the client, by the member of the request; those of pictures by their node.
_PARAMS: Final[Mapping[str, str]] = {
    "seed": "seed",
    "noise_seed": "seed",
    "steps": "steps",
    "cfg": "cfg",
    "guidance": "cfg",
    "denoise": "strength",
    "width": "size",
    "height": "size",
}
_NODES: Final[Mapping[str, str]] = {
    "image": "image",
    "mask": "mask",
    "positive": "prompt",
    "negative": "negative_prompt",
}
_LOADS_PICTURES: Final = ("LoadImage", "LoadImageMask")
_MAX_TEXT: Final = 300


def refused(answer: Any) -> Hal0Error:
    """Of the body with which POST /prompt refuses a graph, or takes only a part of it (`node_errors`)."""
    answer = answer if isinstance(answer, dict) else {}
    nodes = answer.get("node_errors")
    for node, said in nodes.items() if isinstance(nodes, dict) else ():
        errors = said.get("errors") if isinstance(said, dict) else None
        for error in errors if isinstance(errors, list) else ():
            if isinstance(error, dict):
                return _of_input(str(node), str(said.get("class_type")), error)
    error = answer.get("error")
    what = _text(error.get("message") if isinstance(error, dict) else error) or "it does not say why"
    return Hal0Error("render.failed", f"cannot render: ComfyUI refuses the graph: {what}")


def failed(status: Any) -> Hal0Error:
    """Of a history entry's `status` that is no success."""
    messages = status.get("messages") if isinstance(status, dict) else None
    told = {message[0]: message[1] for message in messages or () if isinstance(message, list) and len(message) == 2}
    if "execution_interrupted" in told:
        return Hal0Error("render.failed", "cannot go on: somebody else interrupted the render")
    error = told.get("execution_error")
    if not isinstance(error, dict):
        return Hal0Error("render.failed", "cannot render: ComfyUI failed and does not say why")
    kind, message = str(error.get("exception_type") or ""), _text(error.get("exception_message"))
    node, class_type = str(error.get("node_id")), str(error.get("node_type"))
    if "OutOfMemory" in kind or "out of memory" in message.lower():
        said = "cannot render: not enough memory for this picture; ask for a smaller one"
        return Hal0Error("slot.memory_budget", said, param="size", hint="Ask for a smaller `size`, or unload a slot.")
    if class_type in _LOADS_PICTURES:
        param = _NODES.get(node)
        return Hal0Error("render.unsupported_picture", f"cannot decode `{param}`: {message}", param=param)
    return Hal0Error("render.failed", f"cannot render: {class_type} failed: {message}", details={"node": class_type})


def _of_input(node: str, class_type: str, error: Mapping[str, Any]) -> Hal0Error:
    extra = error.get("extra_info")
    name = str(extra.get("input_name")) if isinstance(extra, dict) else ""
    what = " ".join(filter(None, (_text(error.get("message")), _text(error.get("details")))))
    param = _PARAMS.get(name) or (_NODES.get(node) if name in ("image", "text") else None)
    if param is not None:
        return Hal0Error("request.invalid", f"cannot make this picture: `{param}`: {what}", param=param)
    details = {"node": class_type, "input": name}
    return Hal0Error("render.failed", f"cannot render: {class_type}.{name}: {what}", details=details)


def _text(value: Any) -> str:
    """One line for people; tracebacks, which name the engine's paths, are elsewhere."""
    return " ".join(str(value or "").split())[:_MAX_TEXT]
