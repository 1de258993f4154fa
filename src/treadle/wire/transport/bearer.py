"""Who may open a websocket: bearer tokens and what is wrong with them.

Pure: takes the Authorization header and gives the reason of a refusal. Owns the comparison of
tokens and the claims of signed ones. Refuses to know files, flags and the handshake itself. The
reasons are the protocol's (0.169.0).
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any, Protocol

MISSING = "missing websocket bearer token"
NOT_BEARER = "invalid authorization header"
WRONG_TOKEN = "invalid websocket bearer token"
WRONG_JWT = "invalid websocket jwt"

_CLAIM_FAULTS = {"iss": "websocket jwt issuer mismatch", "aud": "websocket jwt audience mismatch"}


class Authenticator(Protocol):
    """Decides about one opening handshake."""

    def why_not(self, authorization: str | None) -> str | None:
        """The reason to refuse an Authorization header's value; None when it is good."""
        ...


def _token(authorization: str | None) -> tuple[str, str | None]:
    """The bearer token and None, or an empty text and what is wrong with the header."""
    if authorization is None:
        return "", MISSING
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        return "", NOT_BEARER
    return token, None


@dataclass(frozen=True, slots=True)
class CapabilityToken:
    """One secret that every client shows; known by its SHA-256 alone."""

    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, token: str) -> "CapabilityToken":
        """For a token in plain text."""
        return cls(hashlib.sha256(token.encode()).digest())

    def why_not(self, authorization: str | None) -> str | None:
        """As the protocol says; takes the same time whatever the token is."""
        token, fault = _token(authorization)
        if fault is not None:
            return fault
        shown = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        return None if hmac.compare_digest(shown, self.digest) else WRONG_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedToken:
    """Tokens signed with a shared secret: JWT, HS256 and nothing else, with an expiry."""

    secret: bytes = field(repr=False)
    issuer: str | None = None
    audience: str | None = None
    skew_seconds: int = 30
    """How far the clocks of issuer and server may be apart."""

    def why_not(self, authorization: str | None) -> str | None:
        """As the protocol says: the signature first, then each claim by its own reason."""
        token, fault = _token(authorization)
        return self._why_not_token(token) if fault is None else fault

    def _why_not_token(self, token: str) -> str | None:
        import jwt  # loaded by servers with signed tokens only

        options: Any = {
            "require": ["exp"],
            "verify_aud": self.audience is not None,
            "verify_iss": self.issuer is not None,
            # Claims that the protocol does not speak of, so that they refuse nobody.
            "verify_iat": False,
            "verify_sub": False,
            "verify_jti": False,
        }
        try:
            jwt.decode(  # pyright: ignore[reportUnknownMemberType] - its key is untyped
                token,
                self.secret,
                algorithms=["HS256"],
                issuer=self.issuer,
                audience=self.audience,
                leeway=self.skew_seconds,
                options=options,
            )
        except jwt.ExpiredSignatureError:
            return "expired websocket jwt"
        except jwt.ImmatureSignatureError:
            return "websocket jwt is not valid yet"
        except jwt.InvalidIssuerError:
            return _CLAIM_FAULTS["iss"]
        except jwt.InvalidAudienceError:
            return _CLAIM_FAULTS["aud"]
        except jwt.MissingRequiredClaimError as error:
            return _CLAIM_FAULTS.get(error.claim, WRONG_JWT)
        except (jwt.PyJWTError, ValueError, OverflowError):
            return WRONG_JWT
        return None
