"""JSON Web Tokens: what a login service signed is believed, and what an attacker wrote is not."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from asgi_notify.auth.jwt import JWTVerifier
from asgi_notify.auth.jwt_keys import ALGORITHMS, keys_of_set
from asgi_notify.exceptions import ConfigurationError, Unauthorized

pytestmark = pytest.mark.anyio

SECRET = "s" * 64


@cache
def private(kind: str) -> Any:
    if kind == "RSA":
        return rsa.generate_private_key(65537, 2048)
    if kind == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, Any] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
    return ec.generate_private_key(curves[kind]())


def kind_of(algorithm: str) -> str:
    return "RSA" if algorithm[:2] in ("RS", "PS") else algorithm


def signing_key(algorithm: str) -> Any:
    return SECRET if algorithm.startswith("HS") else private(kind_of(algorithm))


@cache
def public(kind: str) -> str:
    key = private(kind).public_key()
    return str(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def verifying_key(algorithm: str) -> str:
    return SECRET if algorithm.startswith("HS") else public(kind_of(algorithm))


def jwk(algorithm: str, **more: Any) -> dict[str, Any]:
    kind = kind_of(algorithm)
    spell: Any = {"RSA": RSAAlgorithm, "EdDSA": OKPAlgorithm}.get(kind, ECAlgorithm)
    return {**spell.to_jwk(private(kind).public_key(), as_dict=True), **more}


def token(algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    content = {"sub": "ann", "exp": time.time() + 60, **claims}
    content = {name: value for name, value in content.items() if value is not None}
    return jwt.encode(content, signing_key(algorithm), algorithm, headers)


def part(content: object) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: object, claims: object, key: bytes | None = None) -> str:
    text = f"{part(header)}.{part(claims)}"
    signature = b"" if key is None else hmac.digest(key, text.encode(), sha256)
    return f"{text}.{part(signature)}"


CLAIMS = {"sub": "admin", "exp": 4102444800}  # in 2100


# What is believed.


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
async def test_each_algorithm_is_verified_where_it_is_named(algorithm: str) -> None:
    verify = JWTVerifier(verifying_key(algorithm), algorithms=[algorithm])
    assert (await verify(token(algorithm))).id == "ann"
    with pytest.raises(Unauthorized):
        await verify(token(algorithm)[:-8] + "AAAAAAAA")


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "ES384", "ES512", "EdDSA"])
async def test_the_common_algorithm_follows_from_the_key(algorithm: str) -> None:
    assert (await JWTVerifier(verifying_key(algorithm))(token(algorithm))).id == "ann"


@pytest.mark.parametrize("algorithm", ["HS512", "RS512", "PS256"])
async def test_another_algorithm_does_not_follow_from_the_key(algorithm: str) -> None:
    with pytest.raises(Unauthorized):
        await JWTVerifier(verifying_key(algorithm))(token(algorithm))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_jwk_is_a_key(algorithm: str) -> None:
    assert (await JWTVerifier(jwk(algorithm))(token(algorithm))).id == "ann"


async def test_a_jwk_may_be_a_secret() -> None:
    secret = {"kty": "oct", "k": part(SECRET.encode())}
    assert (await JWTVerifier(secret)(token())).id == "ann"
    with pytest.raises(ConfigurationError, match="32 bytes"):
        JWTVerifier({"kty": "oct", "k": part(b"short")})


async def test_any_of_several_keys_will_do() -> None:
    verify = JWTVerifier([public("RSA"), "o" * 32, SECRET, public("ES256")])
    for algorithm in "HS256", "RS256", "ES256":
        assert (await verify(token(algorithm))).id == "ann"
    with pytest.raises(Unauthorized):
        await verify(token("EdDSA"))


async def test_a_token_says_more() -> None:
    expires_at = time.time() + 60
    identity = await JWTVerifier(SECRET, leeway=5)(
        token(exp=expires_at, iat=1000, jti="t1", role="admin")
    )
    assert (identity.issued_at, identity.token_id) == (1000.0, "t1")
    assert identity.claims["role"] == "admin"
    assert identity.expires_at == pytest.approx(expires_at + 5)


@pytest.mark.parametrize(("jti", "token_id"), [(17, "17"), (1.5, "1.5"), (True, None), ([1], None)])
async def test_a_token_may_be_numbered(jti: object, token_id: str | None) -> None:
    """So that it can be revoked alone; what is neither text nor number names no token."""
    identity = await JWTVerifier(SECRET)(token(jti=jti))
    assert identity.token_id == token_id


async def test_another_claim_may_be_the_user() -> None:
    verify = JWTVerifier(SECRET, user_claim="uid")
    assert (await verify(token(uid=42))).id == "42"
    with pytest.raises(Unauthorized, match="'uid'"):
        await verify(token())


async def test_clocks_may_differ_by_the_leeway() -> None:
    now = time.time()
    verify = JWTVerifier(SECRET, leeway=30)
    assert (await verify(token(exp=now - 20, nbf=now + 20, iat=now + 20))).id == "ann"
    for late in token(exp=now - 40), token(nbf=now + 40), token(iat=now + 40):
        with pytest.raises(Unauthorized):
            await verify(late)


# What is not.

PAST, FUTURE = time.time() - 3600, time.time() + 3600


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"exp": PAST}, "expired"),
        ({"exp": None}, "lacks a claim"),
        ({"exp": "soon"}, "can be read"),
        ({"exp": float("inf")}, "can be read"),
        ({"exp": 10**400}, "can be read"),  # a whole number that no float can hold
        ({"iat": -(10**400)}, "can be read"),
        ({"exp": [1]}, "can be read"),
        ({"nbf": FUTURE}, "not valid yet"),
        ({"iat": FUTURE}, "not valid yet"),
        ({"aud": "billing"}, "another audience"),
        ({"aud": ["billing", "shop"]}, "another audience"),
        ({"aud": None}, "lacks a claim"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": None}, "lacks a claim"),
        ({"iss": ["https://login.example"]}, "can be read|another issuer"),
        ({"sub": None}, "no user"),
        ({"sub": ""}, "no user"),
        ({"sub": True}, "no user"),
        ({"sub": ["ann"]}, "no user"),
        ({"sub": {"id": "ann"}}, "no user"),
    ],
)
async def test_claims_that_do_not_count(claims: dict[str, Any], sentence: str) -> None:
    verify = JWTVerifier(SECRET, audience="us", issuer="https://login.example")
    right: dict[str, Any] = {"aud": "us", "iss": "https://login.example"}
    assert (await verify(token(**right))).id == "ann"
    text = by_hand(
        {"alg": "HS256"},
        {name: value for name, value in {"sub": "ann", "exp": FUTURE, **right, **claims}.items()
         if value is not None},
        SECRET.encode(),
    )  # fmt: skip
    with pytest.raises(Unauthorized, match=sentence):
        await verify(text)


async def test_one_of_several_audiences_and_issuers_will_do() -> None:
    verify = JWTVerifier(SECRET, audience=["us", "them"], issuer=["https://a", "https://b"])
    assert (await verify(token(aud=["x", "them"], iss="https://b"))).id == "ann"


async def test_a_token_for_somebody_else_is_refused_where_no_audience_is_named() -> None:
    with pytest.raises(Unauthorized, match="audience"):
        await JWTVerifier(SECRET)(token(aud="billing"))


def confusions() -> dict[str, Callable[[], str]]:
    pem = public("RSA")
    jwk_text = json.dumps(jwk("RS256")).encode()
    own = rsa.generate_private_key(65537, 2048)
    own_jwk = RSAAlgorithm.to_jwk(own.public_key(), as_dict=True)
    return {
        "alg none": lambda: by_hand({"alg": "none"}, CLAIMS),
        "alg None": lambda: by_hand({"alg": "None"}, CLAIMS),
        "alg nOnE": lambda: by_hand({"alg": "nOnE", "typ": "JWT"}, CLAIMS),
        "alg null": lambda: by_hand({"alg": None}, CLAIMS),
        "alg empty": lambda: by_hand({"alg": ""}, CLAIMS),
        "alg a list": lambda: by_hand({"alg": ["RS256"]}, CLAIMS),
        "alg a mapping": lambda: by_hand({"alg": {"RS256": 1}}, CLAIMS),
        "no alg": lambda: by_hand({"typ": "JWT"}, CLAIMS),
        "unknown alg": lambda: by_hand({"alg": "XS256"}, CLAIMS),
        "the public key as a secret": lambda: by_hand({"alg": "HS256"}, CLAIMS, pem.encode()),
        "the key without its last line break": lambda: by_hand(
            {"alg": "HS256"}, CLAIMS, pem.strip().encode()
        ),
        "the JWK as a secret": lambda: by_hand({"alg": "HS256"}, CLAIMS, jwk_text),
        "an empty secret": lambda: by_hand({"alg": "HS256"}, CLAIMS, b""),
        "RS256 without a signature": lambda: by_hand({"alg": "RS256"}, CLAIMS),
        "signed by a secret, called RS256": lambda: by_hand({"alg": "RS256"}, CLAIMS, b"x"),
        "a key of its own": lambda: jwt.encode(CLAIMS, own, "RS256"),
        "a key of its own in the header": lambda: jwt.encode(
            CLAIMS, own, "RS256", {"jwk": own_jwk}
        ),
        "a key set of its own": lambda: jwt.encode(
            CLAIMS, own, "RS256", {"jku": "https://evil.example/jwks"}
        ),
        "a kid that is a path": lambda: by_hand(
            {"alg": "HS256", "kid": "../../dev/null"}, CLAIMS, b""
        ),
        "a kid that is no text": lambda: by_hand({"alg": "RS256", "kid": 7}, CLAIMS, b"x"),
        "a key of another kind": lambda: token("ES256"),
        "a signature of zeros": lambda: (
            by_hand({"alg": "ES256"}, CLAIMS) + part(b"\0" * 64)
        ),  # CVE-2022-21449
        "an unknown critical header": lambda: by_hand({"alg": "RS256", "crit": ["x"]}, CLAIMS),
        "a payload apart": lambda: by_hand({"alg": "RS256", "b64": False, "crit": ["b64"]}, CLAIMS),
        "two parts": lambda: by_hand({"alg": "none"}, CLAIMS).rpartition(".")[0],
        "one part": lambda: part({"alg": "none"}),
        "five parts": lambda: f"{part({'alg': 'dir', 'enc': 'A128GCM'})}..a.b.c",
        "nothing": lambda: "",
        "periods": lambda: "..",
        "a header that is a list": lambda: by_hand([], CLAIMS),
        "a header that is deep": lambda: by_hand(b"[" * 4000, CLAIMS),
        "a header that is no JSON": lambda: by_hand(b"{", CLAIMS),
        "claims that are a list": lambda: by_hand({"alg": "RS256"}, []),
        "claims that are changed": lambda: _changed(token("RS256")),
    }


def _changed(text: str) -> str:
    header, _, signature = text.split(".")
    return f"{header}.{part(CLAIMS)}.{signature}"


CONFUSIONS = confusions()


@pytest.mark.parametrize("algorithms", [None, ["RS256", "ES256", "EdDSA"]])
@pytest.mark.parametrize("way", CONFUSIONS)
async def test_a_token_forged_by_hand_is_refused(way: str, algorithms: list[str] | None) -> None:
    text = CONFUSIONS[way]()
    with pytest.raises(Unauthorized) as refused:
        await JWTVerifier(public("RSA"), algorithms=algorithms)(text)
    assert refused.value.__cause__ is None
    assert "admin" not in str(refused.value)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: by_hand(data, data)))
async def test_nothing_else_is_a_token(text: str) -> None:
    with pytest.raises(Unauthorized):
        await JWTVerifier([SECRET, public("RSA")])(text)


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "crit", "b64", "typ"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.sampled_from(["b64", "HS256", "none"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=4,
        ),
    )
)  # fmt: skip
async def test_no_header_lets_anybody_in_without_the_key(header: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized):
        await JWTVerifier([SECRET, public("RSA")])(by_hand(header, CLAIMS, b"another key"))


# Keys.


def pem_of_private(kind: str) -> str:
    key = private(kind)
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data.decode()


def bad_keys() -> dict[str, tuple[Any, list[str] | None, str]]:
    small = rsa.generate_private_key(65537, 1024).public_key()
    small_pem = small.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = private("RSA").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "a short secret": ("short-secret", None, "32 bytes"),
        "an empty secret": ("", None, "public key"),
        "a secret that is short for one of its algorithms": (
            "s" * 63,
            ["HS256", "HS512"],
            "HS512 has at least 64 bytes",
        ),
        "a private key": (pem_of_private("RSA"), None, "private key"),
        "a broken key": (public("RSA")[:100], None, "no public key"),
        "a small key": (small_pem, None, "2048 bits"),
        "a key in DER": (der, None, "another key"),
        "a JWK as text": (json.dumps(jwk("RS256")), None, "another key"),
        "a public key for a secret's algorithm": (public("RSA"), ["HS256"], "RS256"),
        "a secret for a public key's algorithm": (SECRET, ["RS256"], "HS256"),
        "a key of another kind": (public("ES256"), ["RS256"], "ES256"),
        "a JWK for another algorithm": (jwk("RS256", alg="RS512"), ["RS256"], "RS256"),
        "a JWK of no kind": ({"kty": "x"}, None, "JSON Web Key"),
        "a JWK that is broken": ({"kty": "RSA", "n": 5}, None, "JSON Web Key"),
        "an unknown algorithm": (SECRET, ["none"], "none"),
        "no algorithm": (SECRET, [], "algorithms"),
        "a number": (42, None, "a key is"),
        "no key": ([], None, "at least one"),
    }


BAD_KEYS = bad_keys()


@pytest.mark.parametrize("way", BAD_KEYS)
def test_a_key_of_no_use_is_refused_and_not_shown(way: str) -> None:
    key, algorithms, sentence = BAD_KEYS[way]
    given: Any = [key] if isinstance(key, int) else key
    with pytest.raises(ConfigurationError, match=sentence) as refused:
        JWTVerifier(given, algorithms=algorithms)
    assert refused.value.__cause__ is None
    assert "short-secret" not in str(refused.value)
    assert "MII" not in str(refused.value)


def test_keys_are_needed_and_from_one_place() -> None:
    for arguments in {}, {"key": SECRET, "jwks": "keys.json"}:
        with pytest.raises(ConfigurationError, match="either"):
            JWTVerifier(**arguments)  # type: ignore[arg-type]


def test_no_key_is_in_the_repr() -> None:
    assert repr(JWTVerifier([SECRET, public("RSA")])) == "<JWTVerifier with 2 keys>"
    assert SECRET not in repr(JWTVerifier(SECRET)._keys)


# A set of keys.


async def test_a_file_may_hold_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [jwk("RS256", kid="a"), jwk("ES256", kid="b")]}))
    verify = JWTVerifier(jwks=file)
    assert repr(verify) == "<JWTVerifier with a key set>"
    for algorithm, kid in ("RS256", "a"), ("ES256", "b"):
        assert (await verify(token(algorithm, {"kid": kid}))).id == "ann"
        assert (await verify(token(algorithm))).id == "ann"  # one that names no key
    with pytest.raises(Unauthorized):
        await verify(token("RS256", {"kid": "b"}))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="could not be read"):
        JWTVerifier(jwks=tmp_path / "missing.json")
    (tmp_path / "keys.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="no list 'keys'"):
        JWTVerifier(jwks=str(tmp_path / "keys.json"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"keys": {}}', '{"keys": []}', "[" * 100_000, '{"keys": [1]}']
)
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it (is|has) no "):
        keys_of_set(text.encode())


def test_what_a_set_has_beside_is_passed_over() -> None:
    own = {**jwk("ES256"), "d": part(b"\1" * 32), "kid": "private"}
    entries: list[Any] = [
        1,
        {"kty": "oct", "k": part(SECRET.encode())},  # whoever reads the set could sign
        jwk("RS256", use="enc"),
        jwk("RS256", key_ops=["encrypt"]),
        {"kty": "RSA", "n": "?"},
        {"kty": "EC", "crv": "P-999"},
        jwk("RS256", alg="RS512", kid="512"),
        jwk("EdDSA", use="sig", key_ops=["verify"], kid="ed"),
        own,
    ]
    keys = keys_of_set(json.dumps({"keys": entries}).encode())
    assert [(key.kid, *key.algorithms) for key in keys] == [
        ("512", "RS512"),
        ("ed", "EdDSA"),
        ("private", "ES256"),
    ]
    only = keys_of_set(json.dumps({"keys": entries}).encode(), {"EdDSA"})
    assert [key.kid for key in only] == ["ed"]
