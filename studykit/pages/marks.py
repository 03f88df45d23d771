"""What says that a clip is synthetic, wherever it goes: words in the file, a mark, a signature.

The signature is of the Coalition for Content Provenance and Authenticity (C2PA), by the extra
"c2pa". Its key is this installation's own, so that programs show the signer as one they don't know.
"""

import datetime
import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from studykit import __version__, files
from studykit.cache import cache_folder
from studykit.methods.checkpoint_files import FAMILIES

# IPTC's words for what a model has made, and for what a program has made without one.
_BY_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_BY_PROGRAM = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
_YEARS = 10
_WORD = "SYNTHETIC"


def can_sign() -> bool:
    """Say whether downloads are signed here: whether the extra "c2pa" is installed."""
    try:
        import c2pa  # noqa: F401
    except ImportError:
        return False
    return True


def sign(path: Path, signed: Path, title: str, method: str) -> None:
    """Write a file's copy with a manifest that says how it was made.

    Parameters
    ----------
    path : Path
        An mp4, a GIF or a PNG.
    title : str
        Its name in the manifest.
    method : str
        The method that made it.
    """
    import c2pa

    kind = _BY_MODEL if method in FAMILIES else _BY_PROGRAM
    made = {"action": "c2pa.created", "digitalSourceType": kind, "parameters": {"method": method}}
    manifest = {
        "claim_generator_info": [{"name": "studykit", "version": __version__}],
        "title": title,
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [made]}}],
    }
    key, chain = _credentials()
    info = c2pa.C2paSignerInfo(
        alg=c2pa.C2paSigningAlg.ES256, sign_cert=chain, private_key=key, ta_url=None
    )
    signer, builder = c2pa.Signer.from_info(info), c2pa.Builder(json.dumps(manifest))
    with files.whole(signed) as part, signer, builder:
        builder.sign_file(path, part, signer)


def marked(frame: np.ndarray) -> np.ndarray:
    """Write the word into a frame's lower left corner: (H, W, 3) uint8."""
    picture = Image.fromarray(frame)
    height = max(9, round(min(frame.shape[:2]) / 22))
    draw, font, edge = ImageDraw.Draw(picture, "RGBA"), _font(height), round(height * 0.6)
    left, top, right, bottom = draw.textbbox((0, 0), _WORD, font=font)
    wide, high, foot = right - left + 2 * edge, bottom - top + edge, frame.shape[0] - edge
    draw.rounded_rectangle((edge, foot - high, edge + wide, foot), height // 3, fill=(0, 0, 0, 150))
    at = (2 * edge - left, foot - high + edge / 2 - top)
    draw.text(at, _WORD, font=font, fill=(255, 255, 255, 235))
    return np.asarray(picture)


@functools.cache
def _font(height: int) -> Any:
    return ImageFont.load_default(height)


def _credentials() -> tuple[bytes, bytes]:
    """Return this installation's key and the certificates of it, made where there are none."""
    folder = cache_folder() / "signing"
    key, chain = folder / "key.pem", folder / "certificates.pem"
    with files.locked(folder / ".making", 10, f"another process makes the keys in {folder}"):
        if not (key.is_file() and chain.is_file()):
            for path, data in zip((key, chain), _new_credentials(), strict=True):
                with files.whole(path) as part:
                    part.touch(mode=0o600)
                    part.write_bytes(data)
    return key.read_bytes(), chain.read_bytes()


def _new_credentials() -> tuple[bytes, bytes]:
    """Make a key, and certificates as C2PA wants them: its own, and that of who has signed that."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now, serial = datetime.datetime.now(datetime.UTC), os.urandom(4).hex()
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name.from_rfc4514_string(f"CN={what} {serial},O=studykit")
        for what in ("root of installation", "installation")
    ]
    made = []
    for key, name in zip(keys, names, strict=True):
        public, root = key.public_key(), key is keys[0]
        usage = x509.KeyUsage(not root, *[False] * 4, root, root, *[False] * 2)
        builder = (
            x509.CertificateBuilder(names[0], name, public, x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
            .add_extension(x509.BasicConstraints(root, 0 if root else None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        )
        if not root:
            purpose = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key())
            builder = builder.add_extension(purpose, False).add_extension(issuer, False)
        made.append(builder.sign(keys[0], hashes.SHA256()))
    pem = serialization.Encoding.PEM
    secret = keys[1].private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret, b"".join(certificate.public_bytes(pem) for certificate in reversed(made))
