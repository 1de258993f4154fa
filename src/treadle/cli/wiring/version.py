"""Names and versions that this program gives itself.

The protocol version is what clients look for in the user agent: the newest reference whose messages
we speak. Ours stands beside it.
"""

from treadle.kit.version import VERSION

PRODUCT = f"treadle/{VERSION}"
PROTOCOL_VERSION = "0.169.0"
