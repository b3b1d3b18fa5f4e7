"""Servers elsewhere that answer like OpenAI, Anthropic or hal0.

    config -> Upstreams -> snapshots -> dispatch's table -> a Passage -> ways in order -> Link -> the answer

`Upstreams` makes one `Upstream` per table of the configuration and keeps its model list fresh. Routing sees values
only (`snapshot`); everything that decides is pure: what a list may say (`listing`), who is asked first (`choice`),
when one that fails is left alone (`circuit`), which header carries the key (`keys`).

**No request waits for an upstream that it does not need.** Lists come in the background. A request asks for them only
when no slot and no known list has its model, only those that nobody has asked yet and whose list may have it (by
`prefix` and `models`), together with everybody else who asks, for eight seconds at most. The background asks each as
soon as it is configured: one that hangs holds the requests of its first eight seconds, and of those only such as
nobody else is known to answer. One that failed is asked again in the background and holds nobody.

**A list that cannot be renewed stays in use**, and models that the configuration names need none. A model that an
upstream served a minute ago must not be answered by another model because the network is down: such a request ends
with upstream.unreachable.

**A key goes to the origin of `base_url`**, because every address is made of it and redirects are not followed. Without
the key that is configured there is no request at all.

**Another upstream is asked only while no answer has begun**, and only when the first one cannot have taken the request
(no connection, no HTTP, 429, 502, 503). Silence is not such a sign: the work may have been done, and paid for. The
last one's answer is the client's, whatever it is.

**Nobody waits for an upstream that is given up.** A connection is broken off rather than closed, which would first
send what is still to be sent; names are resolved in threads of their own, so that one that hangs holds up no other.

**Upstreams lie.** Ids are length-checked, printable and bounded in number; slots' names and slots' models come before
every list. What a server says of its own origin (cookies, HSTS) does not reach the client.

**Two hal0 may be each other's upstream.** Each writes its instance into X-Hal0-Via and refuses a request that has
passed it before; when one asks the other for its models, only those that are really there are told.
"""
