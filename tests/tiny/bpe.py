"""A small byte-level BPE vocabulary, trained on a few sentences: deterministic and quick."""

import collections
import functools
import itertools
import re
from dataclasses import dataclass

from gguf import GGUFWriter, TokenType

_TEXT = """
A train leaves the station in the morning and comes back to the station in the evening.
The engine answers a request with one word after another until the answer is complete.
When the container starts, the engine reads the model from the disk into its memory.
Questions about the weather, the garden and the music are as good as any other question.
The farmer counts the sheep on the hill while the dog watches the gate of the field.
If the stream breaks in the middle then the reader must be told that it is not the end.
Warm bread, cold water, a red apple and a green bottle stand on the old kitchen table.
"""

END_OF_TEXT, TURN, END_OF_TURN, PAD = range(4)
_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
# One token each, but ordinary text. The model never says them by itself; `logit_bias: [[CALL, 200]]` together with
# `tool_choice: "required"` makes it open a real tool call, which the engine's grammar then keeps valid.
CALL, END_OF_CALL = 4, 5
_MARKS = ("<tool_call>", "</tool_call>")
_MERGES = 380

# ChatML with tools as JSON in <tool_call>; nothing may follow the opening mark, it is the whole opening.
_TEMPLATE = (
    "{%- if tools -%}<|im_start|>system\nTools: {% for t in tools %}{{ t | tojson }}\n{% endfor -%}"
    'Call one as <tool_call>{"name": NAME, "arguments": ARGUMENTS}</tool_call><|im_end|>\n{% endif -%}'
    "{%- for m in messages -%}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}\n"
    "{% if m.content is string -%}{{ m.content }}{%- elif m.content -%}"
    "{%- for p in m.content -%}{%- if p.type == 'text' -%}{{ p.text }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- if m.tool_calls -%}{%- for c in m.tool_calls -%}"
    '<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>'
    "{%- endfor -%}{%- endif -%}<|im_end|>\n{% endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    tokens: tuple[str, ...]
    merges: tuple[str, ...]

    def write(self, writer: GGUFWriter, *, encoder: bool) -> None:
        """The tokenizer's metadata. An encoder's input is <start> text <end>, a pair is joined by a separator."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(list(self.tokens))
        plain = len(self.tokens) - len(_CONTROL) - len(_MARKS)
        kinds = (TokenType.CONTROL, len(_CONTROL)), (TokenType.USER_DEFINED, len(_MARKS)), (TokenType.NORMAL, plain)
        writer.add_token_types(list(itertools.chain.from_iterable([kind] * count for kind, count in kinds)))
        writer.add_token_merges(list(self.merges))
        writer.add_pad_token_id(PAD)
        writer.add_bos_token_id(END_OF_TEXT)
        writer.add_eos_token_id(END_OF_TURN)
        if encoder:
            writer.add_sep_token_id(END_OF_TURN)
            writer.add_add_bos_token(True)
            writer.add_add_eos_token(True)
            writer.add_add_sep_token(True)
        else:
            writer.add_eot_token_id(END_OF_TURN)
            writer.add_add_bos_token(False)
            writer.add_chat_template(_TEMPLATE)

    def is_word(self, token: str) -> bool:
        """A space and at least two letters, or punctuation: what a model may say without looking broken."""
        return bool(re.fullmatch(r"\u0120[A-Za-z]{2,}|[.,?]", token))


@functools.cache
def vocabulary() -> Vocabulary:
    alphabet = _alphabet()
    counts = collections.Counter(re.findall(r" ?[A-Za-z]+| ?[^\sA-Za-z]+", _TEXT))
    words = [([alphabet[b] for b in word.encode()], count) for word, count in counts.items()]
    tokens, merges = dict.fromkeys([*_CONTROL, *_MARKS, *alphabet]), []
    for _ in range(_MERGES):
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for parts, count in words:
            for pair in itertools.pairwise(parts):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))  # ties by text, so every run agrees
        merges.append(" ".join(best))
        tokens["".join(best)] = None
        for parts, _count in words:
            _join(parts, best)
    return Vocabulary(tuple(tokens), tuple(merges))


def _join(parts: list[str], pair: tuple[str, str]) -> None:
    at = 0
    while at + 1 < len(parts):
        if (parts[at], parts[at + 1]) == pair:
            parts[at : at + 2] = ["".join(pair)]
        at += 1


def _alphabet() -> list[str]:
    """Byte -> the printable character that byte-level BPE writes for it."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = itertools.count(0x100)
    return [chr(b if b in plain else next(spare)) for b in range(256)]
