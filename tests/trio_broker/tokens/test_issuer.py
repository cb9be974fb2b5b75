"""The local issuer: its key, its tokens, and the ServiceAccounts' manifests that it keeps."""

from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mqttcore.auth import Failed
from trio_broker.errors import ConfigurationError
from trio_broker.tokens.issuer import ACCOUNTS_FOLDER, ISSUER, KEY_FILE, LocalIssuer

NOW = 1_800_000_000.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "deep" / ".session"


def pem(key: Any) -> bytes:
    content: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return content


def verified(issuer: LocalIssuer, token: str) -> dict[str, Any]:
    key = jwt.PyJWK(issuer.jwks()["keys"][0])
    options: Any = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["ES256"], options=options)
    return claims


class TestKey:
    def test_it_is_made_once_and_is_nobody_elses_to_read(self, directory: Path) -> None:
        first = LocalIssuer(directory)
        assert not directory.exists()  # before it is needed
        published = first.jwks()
        assert (directory / KEY_FILE).stat().st_mode & 0o777 == 0o600
        assert directory.stat().st_mode & 0o777 == 0o700
        assert LocalIssuer(directory).jwks() == published == first.jwks()
        assert [path.name for path in directory.iterdir()] == [KEY_FILE]

    @pytest.mark.parametrize("links", [True, False])
    def test_of_two_that_start_together_one_makes_it(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, links: bool
    ) -> None:
        late, other = LocalIssuer(directory), LocalIssuer(directory)
        generate = ec.generate_private_key

        def generate_and_be_late(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
            monkeypatch.setattr(ec, "generate_private_key", generate)
            other.jwks()
            return generate(curve)

        def refuse(source: Path, target: Path) -> None:
            raise PermissionError(1, "no links here")

        if links:
            monkeypatch.setattr(ec, "generate_private_key", generate_and_be_late)
        else:
            monkeypatch.setattr("os.link", refuse)
        found = late.jwks()
        assert found == other.jwks() == LocalIssuer(directory).jwks()
        assert [path.name for path in directory.iterdir()] == [KEY_FILE]

    @pytest.mark.parametrize("first", ["mint", "annotate"])
    def test_whatever_makes_the_directory_it_is_nobody_elses(self, directory: Path, first: str) -> None:
        issuer = LocalIssuer(directory)
        if first == "mint":
            issuer.mint("press", audiences=["a"], now=NOW, duration=60)
        else:
            issuer.annotate("plant", "press", {"a": "1"})
        assert directory.stat().st_mode & 0o777 == 0o700

    async def test_whoever_only_verifies_makes_none(self, directory: Path) -> None:
        issuer = LocalIssuer(directory)
        assert await issuer.source().fetch() == Failed(f"{directory / KEY_FILE}: No such file or directory")
        assert not directory.exists()
        other = LocalIssuer(directory)
        assert other.jwks()["keys"] == list(await issuer.source().fetch())  # type: ignore[arg-type]

    def test_what_is_published_is_public(self, directory: Path) -> None:
        [key] = LocalIssuer(directory).jwks()["keys"]
        assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"} | ({"key_ops"} & set(key))
        assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "not a private key"),
            (b"hello", "not a private key"),
            (pem(rsa.generate_private_key(65_537, 2048)), "not a key of the curve P-256"),
            (pem(ed25519.Ed25519PrivateKey.generate()), "not a key of the curve P-256"),
            (pem(ec.generate_private_key(ec.SECP384R1())), "not a key of the curve P-256"),
            (
                ec.generate_private_key(ec.SECP256R1()).private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.BestAvailableEncryption(b"x"),
                ),
                "not a private key",
            ),
        ],
    )
    def test_another_file_in_its_place(self, directory: Path, content: bytes, words: str) -> None:
        directory.mkdir(parents=True)
        (directory / KEY_FILE).write_bytes(content)
        with pytest.raises(ConfigurationError, match=f"{KEY_FILE}: {words}; remove it"):
            LocalIssuer(directory)
        assert (directory / KEY_FILE).read_bytes() == content

    def test_places_where_it_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigurationError, match=r"issuer\.key: "):
            LocalIssuer(tmp_path / "file")
        (tmp_path / KEY_FILE).mkdir()
        with pytest.raises(ConfigurationError, match=r"issuer\.key: Is a directory"):
            LocalIssuer(tmp_path)

    async def test_a_new_key_in_the_directory_is_noticed(self, directory: Path) -> None:
        issuer = LocalIssuer(directory)
        issuer.jwks()
        source = issuer.source()
        before = await source.fetch()
        (directory / KEY_FILE).unlink()
        assert await source.fetch() == Failed(f"{directory / KEY_FILE}: No such file or directory")
        other = LocalIssuer(directory)
        published = tuple(other.jwks()["keys"])
        after = await source.fetch()
        assert after == published != before
        assert verified(other, issuer.mint("press", audiences=["a"], now=NOW, duration=60))


class TestTokens:
    def test_a_token_is_as_a_cluster_makes_it(self, directory: Path) -> None:
        issuer = LocalIssuer(directory)
        token = issuer.mint("press", audiences=("a", "b"), now=NOW + 0.7, duration=3600, namespace="plant")
        claims = verified(issuer, token)
        uid = claims["kubernetes.io"]["serviceaccount"].pop("uid")
        assert len(uid) == 36
        assert len(claims.pop("jti")) == 36
        assert claims == {
            "aud": ["a", "b"],
            "exp": NOW + 3600,
            "iat": NOW,
            "nbf": NOW,
            "iss": ISSUER,
            "kubernetes.io": {"namespace": "plant", "serviceaccount": {"name": "press"}},
            "sub": "system:serviceaccount:plant:press",
        }
        assert jwt.get_unverified_header(token)["kid"] == issuer.jwks()["keys"][0]["kid"]

    def test_each_is_another(self, directory: Path) -> None:
        issuer = LocalIssuer(directory)
        tokens = {issuer.mint("press", audiences=["a"], now=NOW, duration=60) for _ in range(10)}
        assert len({verified(issuer, token)["jti"] for token in tokens}) == 10


class TestAccounts:
    def test_annotations_are_added_to_those_that_there_are(self, directory: Path) -> None:
        issuer = LocalIssuer(directory)
        assert issuer.annotations("plant", "press") == {}
        issuer.annotate("plant", "press", {"aio-broker-auth/a": "1", "b": "yes"})
        issuer.annotate("plant", "press", {"aio-broker-auth/a": "2", "c": "ä: #"})
        expected = {"aio-broker-auth/a": "2", "b": "yes", "c": "ä: #"}
        assert LocalIssuer(directory).annotations("plant", "press") == expected
        assert issuer.annotations("plant", "other") == issuer.annotations("other", "press") == {}
        [path] = (directory / ACCOUNTS_FOLDER).iterdir()
        assert yaml.safe_load(path.read_bytes()) == {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "press", "namespace": "plant", "annotations": expected},
        }

    def test_namespaces_have_no_dots_so_that_files_are_told_apart(self, directory: Path) -> None:
        issuer = LocalIssuer(directory)
        issuer.annotate("a", "b.c", {"x": "1"})
        assert issuer.annotations("a", "b.c") == {"x": "1"}
        assert issuer.annotations("a", "b") == {}

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\xff\xfe\x00",
            b"[",
            b"a: 2023-13-45",
            b"metadata:",
            b"metadata: []",
            b"metadata: {annotations: [a]}",
            b"metadata: {annotations: }",
            b"!!python/object/apply:os.system [true]",
        ],
    )
    def test_a_manifest_that_cannot_be_understood_gives_none(self, directory: Path, content: bytes) -> None:
        issuer = LocalIssuer(directory)
        issuer.annotate("plant", "press", {"a": "1"})
        [path] = (directory / ACCOUNTS_FOLDER).iterdir()
        path.write_bytes(content)
        assert issuer.annotations("plant", "press") == {}

    def test_values_that_are_no_text_are_left_out(self, directory: Path) -> None:
        issuer = LocalIssuer(directory)
        issuer.annotate("plant", "press", {"a": "1"})
        [path] = (directory / ACCOUNTS_FOLDER).iterdir()
        path.write_text("metadata: {annotations: {a: text, b: 17, 18: text, c: true, d: null, e: [x]}}")
        assert issuer.annotations("plant", "press") == {"a": "text"}

    def test_a_folder_that_cannot_be_written(self, directory: Path) -> None:
        issuer = LocalIssuer(directory)
        directory.mkdir(parents=True)
        (directory / ACCOUNTS_FOLDER).write_text("")
        with pytest.raises(ConfigurationError, match=r"plant\.press\.yaml: "):
            issuer.annotate("plant", "press", {"a": "1"})
