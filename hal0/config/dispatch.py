"""`[dispatch]`: how a request finds its slot, how long it may wait and how much it may carry."""

from pydantic import Field

from hal0.config.base import ConfigModel, Count, Flag, Seconds, SomeCount, SomeSeconds, SomeSize

_MIB = 1024 * 1024


class DispatchConfig(ConfigModel):
    strict_models: Flag = Field(False, description="Refuse unknown model ids instead of answering with the chat slot.")
    remote_media: Flag = Field(False, description="Fetch image and audio URLs for local slots, from public addresses.")
    keepalive_s: Seconds = Field(10, description="Comment lines in waiting event streams. 0: byte-exact streams.")
    hold_s: Seconds = Field(60, le=600, description="How long a plain request waits for a slot that is loading.")
    hold_stream_s: Seconds = Field(600, le=600, description="The same for a streamed request.")
    connect_timeout_s: SomeSeconds = Field(5, description="Deadline of a connection to a slot.")
    first_byte_timeout_s: SomeSeconds = Field(600, description="Deadline of an answer's first byte.")
    between_bytes_timeout_s: SomeSeconds = Field(300, description="Longest silence inside an answer.")
    json_limit: SomeSize = Field(64 * _MIB, description="Largest JSON body.")
    multipart_limit: SomeSize = Field(512 * _MIB, description="Largest multipart body.")
    max_wait_s: SomeSeconds = Field(
        60, description="Slots that do not fit together take turns: the longest wait for one."
    )
    min_residency_s: Seconds = Field(
        5, description="How long a slot stays loaded at least before it makes way for another one's requests."
    )
    history_days: Count = Field(30, description="How long requests and activity are remembered. 0: not on disk.")
    history_rows: SomeCount = Field(200_000, description="How many requests are remembered at most.")
    history_limit: SomeSize = Field(256 * _MIB, description="Most room on disk for what is remembered.")
    catalog_s: SomeSeconds = Field(300, description="How long an upstream's model list is believed.")
