"""Reranking as Cohere's and Jina's clients speak it, around a server that takes strings and gives numbers. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hal0.lib import jsonio

_TEXT: Final = ("text",)


def plain_documents(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """A document may be an object: its `text`, or its `rank_fields` one after the other, is what is ranked."""
    documents, fields = request.get("documents"), request.get("rank_fields")
    if not isinstance(documents, list) or not any(isinstance(document, dict) for document in documents):
        return {}
    names = [name for name in fields if isinstance(name, str)] if isinstance(fields, list) and fields else _TEXT
    return {"documents": [_ranked(document, names) for document in documents]}


def with_documents(request: Mapping[str, Any], answer: bytes) -> bytes:
    """The answer with the documents in it, for who asks for them; the server never sends them back."""
    if request.get("return_documents") is not True:
        return answer
    try:
        body, documents = jsonio.loads(answer), request["documents"]
        results = [{**result, "document": _shown(documents[result["index"]])} for result in body["results"]]
        return jsonio.dumps({**body, "results": results})
    except (jsonio.JSONDecodeError, LookupError, TypeError):
        return answer  # another shape than the one that was asked for: the server's own word


def _ranked(document: Any, names: Sequence[str]) -> Any:
    """What has none of these members is for the server to refuse."""
    if not isinstance(document, dict):
        return document
    texts = [document[name] for name in names if isinstance(document.get(name), str)]
    return "\n".join(texts) if texts else document


def _shown(document: Any) -> Any:
    """As it was sent: a string as the text of an object, an object with all that it has."""
    return document if isinstance(document, dict) else {"text": document}
