"""Public keys of OpenSSH, by `cryptography`. Only whoever checks a signature imports this: the image of
a model server has no such library.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from coalmine.signatures.wire import Reader

_RSA_HASHES: dict[bytes, hashes.HashAlgorithm] = {
    b"rsa-sha2-256": hashes.SHA256(),
    b"rsa-sha2-512": hashes.SHA512(),
}
_CURVE_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@lru_cache(maxsize=256)
def load(kind: bytes, blob: bytes) -> Any:
    """kind, blob: of a PublicKey.

    Raises:
        ValueError: no key of a kind that is checked here.
    """
    try:
        loaded = load_ssh_public_key(kind + b" " + base64.b64encode(blob))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(loaded, rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise ValueError(f"keys of the kind {kind.decode(errors='replace')} are not known here")
    return loaded


def verify(kind: bytes, blob: bytes, algorithm: bytes, signature: bytes, signed: bytes) -> None:
    """
    algorithm, signature: the two parts of a signature of RFC 4253.

    Raises:
        ValueError: it is not the key's over `signed`.
    """
    loaded = load(kind, blob)
    allowed = _RSA_HASHES if isinstance(loaded, rsa.RSAPublicKey) else (kind,)
    if algorithm not in allowed:
        raise ValueError(f"it uses {algorithm.decode(errors='replace')}, which is not taken of such a key")
    try:
        if isinstance(loaded, rsa.RSAPublicKey):
            loaded.verify(signature, signed, padding.PKCS1v15(), _RSA_HASHES[algorithm])
        elif isinstance(loaded, ed25519.Ed25519PublicKey):
            loaded.verify(signature, signed)
        else:
            loaded.verify(_der(signature), signed, ec.ECDSA(_CURVE_HASHES[loaded.curve.name]))
    except (InvalidSignature, UnsupportedAlgorithm) as error:
        raise ValueError(str(error) or "it is over other bytes") from error


def _der(signature: bytes) -> bytes:
    """The two numbers of an ECDSA signature (RFC 5656), as X.509 writes them."""
    reader = Reader(signature)
    first, second = (int.from_bytes(reader.string()) for _ in range(2))
    reader.end()
    return encode_dss_signature(first, second)
