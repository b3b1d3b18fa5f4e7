"""How often: requests of a key per minute, and failed tries of an address. Pure but for the counts it keeps."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

_MINUTE_S: Final = 60.0
_FAILED_PER_MINUTE: Final = 10
_ADDRESSES: Final = 4096  # remembered; whoever has more than that to come from is not stopped by counting
_SITE_BITS: Final = 64  # of IPv6: one household owns all addresses below


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Buckets:
    """A token bucket per name: `per_minute` at once, then one each 60/per_minute s. Forgets the longest unused."""

    def __init__(self, most: int = _ADDRESSES) -> None:
        self._most = most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str, per_minute: int, now: float) -> float:
        """0.0 when there was one to take, else the seconds until there is."""
        bucket = self._buckets.setdefault(name, _Bucket(per_minute, now))
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        gained = max(now - bucket.at, 0.0) * per_minute / _MINUTE_S
        bucket.level, bucket.at = min(bucket.level + gained, per_minute), now
        if bucket.level < 1:
            return math.ceil((1 - bucket.level) * _MINUTE_S / per_minute * 1000) / 1000
        bucket.level -= 1
        return 0.0


class FailedTries:
    """Bad keys, per address. It only slows refusals: a good key passes from any address at any time."""

    def __init__(self) -> None:
        self._buckets = Buckets()

    def failed(self, address: str | None, now: float) -> float:
        """Count one; answers 0.0, or the seconds to wait when there were too many."""
        return self._buckets.take(site_of(address), _FAILED_PER_MINUTE, now)


def site_of(address: str | None) -> str:
    """The address, or for IPv6 the network of the household it belongs to."""
    try:
        ip = ip_address(address or "")
    except ValueError:
        return address or ""
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or int(ip) >> (ip.max_prefixlen - _SITE_BITS))
    return str(ip)
