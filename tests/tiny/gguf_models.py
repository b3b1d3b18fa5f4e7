"""Write tiny GGUF models that the real llama-server loads, and the same ones spoilt in every way that matters.

Weights are seeded noise: as models they are useless, but every line of code around them is the real one.
The same arguments give the same bytes.

* Chat: lane 0 of every embedding holds one constant and no block writes to it, so column 0 of the output matrix
  works as a bias. It keeps the output to words and sets how likely the end of the turn is.
* Ranking: a score of a pair, by a classifier of its own (bge) or by a language model that says yes or no (Qwen3).
* Embedding: the blocks are scaled down, so a vector is nearly the bag of its words: equal texts give equal vectors,
  and texts that share words are nearer to each other than texts that do not.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, PoolingType
from gguf.quants import quantize
from numpy.typing import NDArray

from tests.tiny.bpe import END_OF_TURN, vocabulary

Matrix = NDArray[Any]
DType = Literal["f32", "f16", "q8_0"]

NEVER_ENDS = -100.0  # as eos_bias: an answer goes on until max_tokens or the context is full
_HEAD = 16
_FILE_TYPES = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


def write_chat(
    path: Path,
    *,
    dim: int = 64,
    layers: int = 2,
    ctx: int = 4096,
    eos_bias: float = 0.5,
    dtype: DType = "f16",
    seed: int = 1,
    name: str = "tiny-chat",
) -> Path:
    """A llama with a chat template and grouped-query attention. `dim` is a multiple of 32."""
    vocab = vocabulary()
    count = len(vocab.tokens)
    with _file(path, "llama", name, dtype, seed) as (writer, tensors):
        _decoder(writer, dim=dim, layers=layers, ctx=ctx)

        embeddings = tensors.noise(count, dim, scale=dim**0.5)
        embeddings[:, 0] = 4.0
        tensors.put("token_embd.weight", embeddings)
        outputs = tensors.noise(count, dim, scale=2.0)
        outputs[:, 0] = [0.0 if vocab.is_word(token) else -25.0 for token in vocab.tokens]
        outputs[END_OF_TURN, 0] = eos_bias
        tensors.put("output.weight", outputs)
        tensors.norm("output_norm", dim)
        _decoder_blocks(tensors, dim=dim, layers=layers)
    return path


def write_embed(
    path: Path, *, dim: int = 64, layers: int = 2, ctx: int = 512, dtype: DType = "f16", seed: int = 1
) -> Path:
    """A BERT with mean pooling."""
    with _file(path, "bert", "tiny-embed", dtype, seed) as (writer, tensors):
        _encoder(writer, tensors, PoolingType.MEAN, dim=dim, layers=layers, ctx=ctx, volume=0.05)
    return path


def write_rerank(
    path: Path, *, dim: int = 64, layers: int = 2, ctx: int = 512, dtype: DType = "f16", seed: int = 1
) -> Path:
    """A BERT with a ranking head: one score per pair."""
    with _file(path, "bert", "tiny-rerank", dtype, seed) as (writer, tensors):
        _encoder(writer, tensors, PoolingType.RANK, dim=dim, layers=layers, ctx=ctx, volume=1.0)
        tensors.linear("cls", dim, dim, bias=True)
        tensors.linear("cls.output", 1, dim, scale=3.0, bias=True)
    return path


def write_judge(path: Path, *, dim: int = 64, layers: int = 2, ctx: int = 512, seed: int = 1) -> Path:
    """A Qwen3 made to rank as Qwen3-Reranker is: a prompt of its own around the pair, and a yes or a no at its end."""
    with _file(path, "qwen3", "tiny-judge", "f16", seed) as (writer, tensors):
        _decoder(writer, dim=dim, layers=layers, ctx=ctx)
        writer.add_key_length(_HEAD)
        writer.add_value_length(_HEAD)
        writer.add_pooling_type(PoolingType.RANK)
        writer.add_classifier_output_labels(["yes", "no"])
        writer.add_string("tokenizer.chat_template.rerank", "<|im_start|>{query}\n{document}<|im_end|>\n")
        tensors.put("token_embd.weight", tensors.noise(len(vocabulary().tokens), dim, scale=dim**0.5))
        tensors.norm("output_norm", dim)
        _decoder_blocks(tensors, dim=dim, layers=layers)
        for block in (f"blk.{i}" for i in range(layers)):
            tensors.norm(f"{block}.attn_q_norm", _HEAD)
            tensors.norm(f"{block}.attn_k_norm", _HEAD)
        tensors.linear("cls.output", 2, dim, scale=3.0)
    return path


def write_mmproj(path: Path, *, dim: int = 64, seed: int = 1) -> Path:
    """A CLIP tower with a two-layer projector into a chat model of embedding length `dim`."""
    width, ff, patch, image, layers = 64, 128, 14, 56, 2
    with _file(path, "clip", "tiny-mmproj", "f16", seed) as (writer, tensors):
        writer.add_type("mmproj")
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_projector_type("mlp")
        writer.add_vision_projection_dim(dim)
        writer.add_vision_image_size(image)
        writer.add_vision_patch_size(patch)
        writer.add_vision_embedding_length(width)
        writer.add_vision_feed_forward_length(ff)
        writer.add_vision_block_count(layers)
        writer.add_vision_head_count(4)
        writer.add_vision_attention_layernorm_eps(1e-5)
        writer.add_vision_image_mean([0.5] * 3)
        writer.add_vision_image_std([0.5] * 3)
        writer.add_vision_use_gelu(True)

        tensors.put("v.class_embd", tensors.noise(1, width)[0])
        tensors.put("v.patch_embd.weight", tensors.noise(width, 3, patch, patch))
        tensors.put("v.position_embd.weight", tensors.noise((image // patch) ** 2 + 1, width), exact=True)
        tensors.norm("v.pre_ln", width, bias=True)
        tensors.norm("v.post_ln", width, bias=True)
        for block in (f"v.blk.{i}" for i in range(layers)):
            for layer in ("attn_q", "attn_k", "attn_v", "attn_out"):
                tensors.linear(f"{block}.{layer}", width, width, bias=True)
            tensors.norm(f"{block}.ln1", width, bias=True)
            tensors.norm(f"{block}.ln2", width, bias=True)
            tensors.linear(f"{block}.ffn_up", ff, width, bias=True)
            tensors.linear(f"{block}.ffn_down", width, ff, bias=True)
        tensors.linear("mm.0", width, width, bias=True)
        tensors.linear("mm.2", dim, width, bias=True)
    return path


# ---- spoilt ones ----


def write_truncated(path: Path) -> Path:
    """A chat model whose download stopped: the header is whole, the last tensors are not there."""
    data = write_chat(path).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def write_junk(path: Path) -> Path:
    """An error page under a model's name."""
    path.write_bytes(b"<!DOCTYPE html><title>404</title>" * 100)
    return path


def write_empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def write_version(path: Path, version: int = 99) -> Path:
    """A chat model in a GGUF version that nobody knows."""
    data = write_chat(path).read_bytes()
    path.write_bytes(data[:4] + struct.pack("<I", version) + data[8:])
    return path


# ---- parts ----


class _Tensors:
    """Seeded matrices in (out, in) order. Vectors, and what is asked for exactly, stay in F32."""

    def __init__(self, writer: GGUFWriter, kind: GGMLQuantizationType, seed: int) -> None:
        self._writer, self._kind = writer, kind
        self._rng = np.random.default_rng(seed)

    def noise(self, *shape: int, scale: float = 1.0) -> Matrix:
        noise: Matrix = self._rng.standard_normal(shape) * scale / np.sqrt(shape[-1])
        return noise.astype(np.float32)

    def put(self, name: str, values: Matrix, *, exact: bool = False) -> None:
        values = np.ascontiguousarray(values, dtype=np.float32)
        kind = GGMLQuantizationType.F32 if exact or values.ndim == 1 else self._kind
        if kind is GGMLQuantizationType.F32:
            self._writer.add_tensor(name, values)
        elif kind is GGMLQuantizationType.F16:
            self._writer.add_tensor(name, values.astype(np.float16))
        else:
            self._writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    def norm(self, prefix: str, width: int, *, bias: bool = False) -> None:
        self.put(f"{prefix}.weight", np.ones(width))
        if bias:
            self.put(f"{prefix}.bias", np.zeros(width))

    def linear(self, prefix: str, out: int, into: int, *, scale: float = 1.0, bias: bool = False) -> None:
        self.put(f"{prefix}.weight", self.noise(out, into, scale=scale))
        if bias:
            self.put(f"{prefix}.bias", np.zeros(out))


@contextmanager
def _file(path: Path, architecture: str, name: str, dtype: DType, seed: int) -> Iterator[tuple[GGUFWriter, _Tensors]]:
    kind, file_type = _FILE_TYPES[dtype]
    writer = GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_file_type(file_type)
    yield writer, _Tensors(writer, kind, seed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shape(writer: GGUFWriter, *, ctx: int, dim: int, layers: int, ff: int, vocab: int) -> None:
    writer.add_vocab_size(vocab)
    writer.add_context_length(ctx)
    writer.add_embedding_length(dim)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(dim // _HEAD)


def _decoder(writer: GGUFWriter, *, dim: int, layers: int, ctx: int) -> None:
    vocab = vocabulary()
    _shape(writer, ctx=ctx, dim=dim, layers=layers, ff=dim * 4, vocab=len(vocab.tokens))
    writer.add_head_count_kv(dim // 2 // _HEAD)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    vocab.write(writer, encoder=False)


def _decoder_blocks(tensors: _Tensors, *, dim: int, layers: int) -> None:
    """Of grouped-query attention; none of them writes to lane 0."""
    kv, ff = dim // 2, dim * 4
    for block in (f"blk.{i}" for i in range(layers)):
        tensors.norm(f"{block}.attn_norm", dim)
        tensors.linear(f"{block}.attn_q", dim, dim)
        tensors.linear(f"{block}.attn_k", kv, dim)
        tensors.linear(f"{block}.attn_v", kv, dim)
        tensors.norm(f"{block}.ffn_norm", dim)
        tensors.linear(f"{block}.ffn_gate", ff, dim)
        tensors.linear(f"{block}.ffn_up", ff, dim)
        for layer, width in (("attn_output", dim), ("ffn_down", ff)):
            matrix = tensors.noise(dim, width)
            matrix[0] = 0.0
            tensors.put(f"{block}.{layer}.weight", matrix)


def _encoder(
    writer: GGUFWriter, tensors: _Tensors, pooling: PoolingType, *, dim: int, layers: int, ctx: int, volume: float
) -> None:
    """`volume` is how loud the blocks are beside the words themselves."""
    vocab = vocabulary()
    count, ff = len(vocab.tokens), dim * 4
    _shape(writer, ctx=ctx, dim=dim, layers=layers, ff=ff, vocab=count)
    writer.add_layer_norm_eps(1e-5)
    writer.add_causal_attention(False)
    writer.add_token_type_count(2)
    writer.add_pooling_type(pooling)
    vocab.write(writer, encoder=True)

    tensors.put("token_embd.weight", tensors.noise(count, dim, scale=dim**0.5))
    # The engine adds these two to F32 vectors and takes no other type.
    tensors.put("token_types.weight", np.zeros((2, dim)), exact=True)
    tensors.put("position_embd.weight", tensors.noise(ctx, dim, scale=0.1), exact=True)
    tensors.norm("token_embd_norm", dim, bias=True)
    for block in (f"blk.{i}" for i in range(layers)):
        for layer in ("attn_q", "attn_k", "attn_v"):
            tensors.linear(f"{block}.{layer}", dim, dim, bias=True)
        tensors.linear(f"{block}.attn_output", dim, dim, scale=volume, bias=True)
        tensors.norm(f"{block}.attn_output_norm", dim, bias=True)
        tensors.linear(f"{block}.ffn_up", ff, dim, bias=True)
        tensors.linear(f"{block}.ffn_down", dim, ff, scale=volume, bias=True)
        tensors.norm(f"{block}.layer_output_norm", dim, bias=True)
