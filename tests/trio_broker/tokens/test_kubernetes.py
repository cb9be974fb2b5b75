"""Tokens that an API server reviews: kubeconfigs, the pod's own access, and clients that connect with such tokens."""

import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
import yaml

from mqttcore import Connect, ReasonCode
from mqttcore.auth import Action, Failed, Principal
from mqttcore.authenticators.chain import Method, chain
from mqttcore.authenticators.effects import TokenReviewed
from mqttcore.authenticators.service_account import METHOD
from mqttcore.broker import Policy
from tests.trio_broker.support import Running, running
from tests.trio_broker.tokens.clusters import BROKER_TOKEN, CLUSTERS, NAMESPACE, Cluster, Real, StandIn, stand_in
from tests.trio_broker.tokens.https_server import Asked
from trio_broker.assembly import TokenVerification, token_verification
from trio_broker.client import Client, ClientError, open_client
from trio_broker.effects import Performer
from trio_broker.errors import ConfigurationError
from trio_broker.limits import ServerLimits
from trio_broker.tokens import TokensKubernetes, kubernetes
from trio_broker.tokens.kubernetes import KubernetesTokens, from_kubeconfig, in_cluster

AUDIENCE = "aio-internal"
LIMITS = ServerLimits(http_timeout=20.0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(tmp_path: Path, authority: trustme.CA) -> Iterator[StandIn]:
    with stand_in(tmp_path, authority) as running_server:
        running_server.create("press", {"aio-broker-auth/group": "fleet"})
        yield running_server


@pytest.fixture(params=CLUSTERS)
def cluster(request: pytest.FixtureRequest, tmp_path: Path, authority: trustme.CA) -> Iterator[Cluster]:
    """The stand-in, and with $KUBECONFIG the real API server that it names."""
    if request.param == "real":
        yield Real()
    else:
        with stand_in(tmp_path, authority) as running_server:
            yield running_server


@pytest.fixture
def account(cluster: Cluster) -> Iterator[str]:
    name = f"mqttcore-{uuid.uuid4()}"
    cluster.create(name, {"aio-broker-auth/group": "fleet", "example.com/other": "x"})
    yield name
    cluster.delete(name)


async def asked(server: StandIn) -> TokenReviewed | Failed:
    """What comes of a review with the kubeconfig as it is."""
    tokens = KubernetesTokens(from_kubeconfig(server.kubeconfig), LIMITS)
    try:
        return await tokens.review(server.token("press", AUDIENCE), (AUDIENCE,))
    finally:
        await tokens.aclose()


def good(review: TokenReviewed | Failed) -> None:
    assert review == TokenReviewed(True, f"system:serviceaccount:{NAMESPACE}:press", (AUDIENCE,))


def ca(authority: trustme.CA) -> dict[str, Any]:
    return {"certificate-authority-data": base64.b64encode(authority.cert_pem.bytes()).decode()}


class TestEndToEnd:
    """Runs against a real API server, too, when KUBECONFIG is set."""

    def verification(self, cluster: Cluster) -> TokenVerification:
        return token_verification(TokensKubernetes(cluster.kubeconfig), dict, LIMITS)

    async def connect(self, run: Running, policy: Policy, token: str) -> str:
        """How the broker names a client with this token, or why the client was refused."""
        connect = Connect(client_id="c", authentication_method=METHOD, authentication_data=token.encode())
        try:
            async with open_client(connect, stream=run.open_memory(policy)) as client:
                return str(client.client_id)
        except ClientError as error:
            return f"0x{error.reason_code or 0:02X}"

    async def test_a_client_by_its_token(self, cluster: Cluster, account: str) -> None:
        principals: list[Principal] = []

        def authorize(principal: Principal, action: Action, what: str) -> bool:
            principals.append(principal)
            return True

        verification = self.verification(cluster)
        performer = Performer(verification.source, limits=LIMITS)
        authenticate = chain([Method("ServiceAccountToken", verification.authenticate((AUDIENCE, "more")))])
        policy = Policy(authenticate=authenticate, authorize=authorize)
        token = cluster.token(account, AUDIENCE)
        async with running(perform=performer.perform) as run:
            assert await self.connect(run, policy, token) == "c"
            assert principals[0].username == f"system:serviceaccount:{NAMESPACE}:{account}"
            assert dict(principals[0].attributes) == {
                "namespace": NAMESPACE,
                "serviceAccountName": account,
                "group": "fleet",
            }
            for wrong in (cluster.token(account, "others"), token[:-8] + "AAAAAAAA", "opaque", "a.b.c"):
                assert await self.connect(run, policy, wrong) == "0x87"
            reasons = [line["reason"] for line in run.logged("refused")]
            assert all("the API server does not accept the token" in reason for reason in reasons), reasons
            assert token[:20] not in run.file.getvalue()
            await self.reauthenticate(run, policy, cluster, account)
        await performer.aclose()

    async def reauthenticate(self, run: Running, policy: Policy, cluster: Cluster, account: str) -> None:
        connect = Connect(
            client_id="c", authentication_method=METHOD, authentication_data=cluster.token(account, AUDIENCE).encode()
        )
        async with open_client(connect, stream=run.open_memory(policy)) as client:
            await client.reauthenticate(cluster.token(account, AUDIENCE).encode())
            assert client.connected
            other = cluster.token(account, "others").encode()
            with pytest.raises(ClientError) as caught:
                await client.reauthenticate(other)
            assert caught.value.reason_code is ReasonCode.NOT_AUTHORIZED
            assert (await ended(client)).reason_code is ReasonCode.NOT_AUTHORIZED

    async def test_a_service_account_that_is_no_more(self, cluster: Cluster) -> None:
        name = f"mqttcore-{uuid.uuid4()}"
        cluster.create(name, {"aio-broker-auth/group": "fleet"})
        token = cluster.token(name, AUDIENCE)
        tokens = KubernetesTokens(from_kubeconfig(cluster.kubeconfig), LIMITS)
        review = await tokens.review(token, (AUDIENCE,))
        assert isinstance(review, TokenReviewed)
        assert review.authenticated
        assert await tokens.annotations(NAMESPACE, name) != {}
        cluster.delete(name)
        assert await tokens.annotations(NAMESPACE, name) == {}
        # An API server may remember a review for ten seconds.
        with trio.fail_after(60):
            while isinstance(review, TokenReviewed) and review.authenticated:
                await trio.sleep(0.1)
                review = await tokens.review(token, (AUDIENCE,))
        assert isinstance(review, TokenReviewed)
        assert review.error
        await tokens.aclose()


async def ended(client: Client) -> ClientError:
    with trio.fail_after(20):
        return await client.ended()


class TestRequests:
    async def test_a_review(self, server: StandIn) -> None:
        good(await asked(server))
        [request] = server.server.asked
        assert request.headers["authorization"] == f"Bearer {BROKER_TOKEN}"
        assert request.json()["spec"]["audiences"] == [AUDIENCE]

    async def test_connections_are_kept(self, server: StandIn) -> None:
        tokens = KubernetesTokens(from_kubeconfig(server.kubeconfig), LIMITS)
        for _ in range(3):
            good(await tokens.review(server.token("press", AUDIENCE), (AUDIENCE, "other")))
            assert await tokens.annotations(NAMESPACE, "press") == {"aio-broker-auth/group": "fleet"}
        await tokens.aclose()

    async def test_an_account_without_annotations_and_none(self, server: StandIn) -> None:
        tokens = KubernetesTokens(from_kubeconfig(server.kubeconfig), LIMITS)
        server.create("bare", {})
        assert await tokens.annotations(NAMESPACE, "bare") == {}
        assert await tokens.annotations(NAMESPACE, "nobody") == {}
        assert await tokens.keys(None) == Failed("tokens are reviewed by the API server")
        await tokens.aclose()

    async def test_what_would_lead_elsewhere_is_quoted(self, server: StandIn) -> None:
        tokens = KubernetesTokens(from_kubeconfig(server.kubeconfig), LIMITS)
        server.server.answer((404, {"kind": "Status"}))
        await tokens.annotations("a/../b?x", "c#d/e%")
        assert server.server.asked[-1].path == "/api/v1/namespaces/a%2F..%2Fb%3Fx/serviceaccounts/c%23d%2Fe%25"
        await tokens.aclose()

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            ((401, {"kind": "Status"}), "HTTP status 401: it does not accept the broker's own credentials"),
            ((403, {"kind": "Status"}), "HTTP status 403: the broker's own account lacks the right to do this"),
            ((404, {"kind": "Status"}), "HTTP status 404"),
            ((500, {"kind": "Status"}), "HTTP status 500"),
            ((503, b"<html>"), "HTTP status 503"),
            ((302, {}), "HTTP status 302"),
            ((201, b""), "the API server's answer is not a JSON object"),
            ((201, b"[]"), "the API server's answer is not a JSON object"),
            ((201, b"[" * 100_000), "the API server's answer is not a JSON object"),
            ((201, {}), "the API server's answer is not a TokenReview"),
            ((200, {"kind": "Status", "status": "Success"}), "the API server's answer is not a TokenReview"),
            ((201, {"kind": "TokenReview"}), "the API server's answer is not a TokenReview"),
            ((201, {"kind": "TokenReview", "status": []}), "the API server's answer is not a TokenReview"),
            ((201, b" " * 300_000), "the answer is longer than 262144 bytes"),
        ],
    )
    async def test_no_answer_to_a_review(self, server: StandIn, answer: Any, kind: str) -> None:
        server.server.answer(answer)
        failed = await asked(server)
        assert isinstance(failed, Failed)
        assert failed.kind.endswith(kind)
        assert BROKER_TOKEN not in failed.kind

    @pytest.mark.parametrize(
        "status",
        [
            {},
            {"user": {}, "error": "no"},
            {"authenticated": False},
            {"authenticated": "true", "user": {"username": "x"}},
            {"authenticated": 1},
            {"authenticated": None, "user": None, "audiences": None},
        ],
    )
    async def test_a_review_that_does_not_say_yes(self, server: StandIn, status: Any) -> None:
        server.server.answer((201, {"kind": "TokenReview", "status": status}))
        review = await asked(server)
        assert isinstance(review, TokenReviewed)
        assert not review.authenticated

    @pytest.mark.parametrize(("audiences", "expected"), [(None, ()), ("a", ()), ([5, "a", None], ("a",)), ({}, ())])
    async def test_odd_audiences(self, server: StandIn, audiences: Any, expected: tuple[str, ...]) -> None:
        status = {"authenticated": True, "user": {"username": 5}, "audiences": audiences}
        server.server.answer((200, {"kind": "TokenReview", "status": status}))
        assert await asked(server) == TokenReviewed(True, "5", expected)

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ((403, {"kind": "Status"}), None),
            ((500, {"kind": "Status"}), None),
            ((200, {"kind": "ServiceAccountList", "items": []}), None),
            ((404, b"<html>"), None),
            ((404, {"error": "no such route"}), None),
            ((200, {"kind": "ServiceAccount"}), {}),
            ((200, {"kind": "ServiceAccount", "metadata": {"annotations": None}}), {}),
            ((200, {"kind": "ServiceAccount", "metadata": {"annotations": {"a": 5, "b": "c"}}}), {"b": "c"}),
        ],
    )
    async def test_answers_about_an_account(self, server: StandIn, answer: Any, expected: Any) -> None:
        server.server.answer(answer)
        tokens = KubernetesTokens(from_kubeconfig(server.kubeconfig), LIMITS)
        found = await tokens.annotations(NAMESPACE, "press")
        assert isinstance(found, Failed) if expected is None else found == expected
        await tokens.aclose()

    async def test_an_api_server_that_is_away(self, tmp_path: Path, authority: trustme.CA) -> None:
        with stand_in(tmp_path, authority) as server:
            pass
        failed = await asked(server)
        assert isinstance(failed, Failed)
        assert failed.kind.startswith("the API server could not be asked: ")


class TestKubeconfig:
    async def test_files_are_found_beside_it(self, server: StandIn, authority: trustme.CA, tmp_path: Path) -> None:
        certificate = authority.issue_cert(common_name="broker")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "broker.crt")
        certificate.private_key_pem.write_to_path(tmp_path / "broker.key")
        authority.cert_pem.write_to_path(tmp_path / "ca.crt")
        server.write_kubeconfig(
            cluster={"certificate-authority": "ca.crt"},
            user={"client-certificate": "broker.crt", "client-key": str(tmp_path / "broker.key")},
        )
        good(await asked(server))
        assert "authorization" not in server.server.asked[0].headers
        assert server.server.asked[0].certificate == "broker"

    async def test_a_certificate_in_it(self, server: StandIn, authority: trustme.CA) -> None:
        certificate = authority.issue_cert(common_name="broker")
        user = {
            "client-certificate-data": base64.b64encode(certificate.cert_chain_pems[0].bytes()).decode(),
            "client-key-data": base64.b64encode(certificate.private_key_pem.bytes()).decode(),
        }
        server.write_kubeconfig(cluster=ca(authority), user=user)
        good(await asked(server))
        server.certificates.clear()
        failed = await asked(server)
        assert isinstance(failed, Failed)
        assert "HTTP status 403" in failed.kind

    async def test_a_token_file_is_read_anew_each_time(
        self, server: StandIn, authority: trustme.CA, tmp_path: Path
    ) -> None:
        path = tmp_path / "token"
        server.write_kubeconfig(cluster=ca(authority), user={"tokenFile": "token", "token": "old"})
        tokens = KubernetesTokens(from_kubeconfig(server.kubeconfig), LIMITS)
        for number in range(3):
            server.bearers = {f"token {number}".replace(" ", "-")}
            path.write_text(f"token-{number}\n")
            assert await tokens.annotations(NAMESPACE, "press") == {"aio-broker-auth/group": "fleet"}
        server.bearers = set()
        refused = await tokens.annotations(NAMESPACE, "press")
        assert isinstance(refused, Failed)
        assert "does not accept the broker's own credentials" in refused.kind
        for content in (b"\xff", None):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            assert await tokens.annotations(NAMESPACE, "press") == Failed("the broker's own token cannot be read")
        await tokens.aclose()

    async def test_another_name_in_the_certificate(self, tmp_path: Path, authority: trustme.CA) -> None:
        with stand_in(tmp_path, authority, "api.cluster.test") as server:
            server.create("press", {})
            assert isinstance(await asked(server), Failed)
            server.write_kubeconfig(
                cluster=ca(authority) | {"tls-server-name": "API.cluster.test"}, user={"token": BROKER_TOKEN}
            )
            good(await asked(server))

    async def test_the_usual_places(self, server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
        url = server.server.url
        assert from_kubeconfig().server.url == url
        monkeypatch.setenv("KUBECONFIG", f":{server.kubeconfig}:")
        assert from_kubeconfig().server.url == url
        monkeypatch.setenv("KUBECONFIG", f"{server.kubeconfig}:{server.kubeconfig}")
        with pytest.raises(ConfigurationError, match="several files; say which with --tokens kubernetes:FILE"):
            from_kubeconfig()
        monkeypatch.delenv("KUBECONFIG")
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(ConfigurationError, match="cannot read the kubeconfig: No such file"):
            from_kubeconfig()
        (tmp_path / ".kube").mkdir()
        server.kubeconfig.rename(tmp_path / ".kube" / "config")
        assert from_kubeconfig().server.url == url

    @pytest.mark.parametrize(
        ("cluster", "user", "words"),
        [
            (
                {"insecure-skip-tls-verify": True},
                {},
                "insecure-skip-tls-verify is not supported: give the API server's",
            ),
            ({"proxy-url": "http://p"}, {}, "proxy-url is not supported"),
            (
                {},
                {"exec": {"command": "aws"}},
                "exec is not supported: use a token, a tokenFile or a client certificate",
            ),
            ({}, {"auth-provider": {"name": "gcp"}}, "auth-provider is not supported"),
            ({}, {"username": "u", "password": "p"}, "username is not supported"),
            ({}, {"as": "admin"}, "as is not supported"),
            ({"server": "http://localhost"}, {}, "the server's URL must begin with https://"),
            ({"server": "https://"}, {}, "the server's URL must begin with https://"),
            ({"server": "https://[::1"}, {}, "the server's URL cannot be understood"),
            ({"server": "https://localhost:99999"}, {}, "the server's URL cannot be understood"),
            ({"server": 5}, {}, "not a kubeconfig"),
            ({"certificate-authority-data": "%%%"}, {}, "certificate-authority-data is not Base64"),
            ({"certificate-authority-data": 5}, {}, "not a kubeconfig"),
            (
                {"certificate-authority": "missing.crt"},
                {},
                "missing.crt: cannot read certificate-authority: No such file",
            ),
            ({}, {"client-key": "missing.key"}, "missing.key: cannot read client-key: No such file"),
        ],
    )
    def test_what_cannot_be_used(
        self, server: StandIn, cluster: dict[str, Any], user: dict[str, Any], words: str
    ) -> None:
        server.write_kubeconfig(cluster=cluster, user=user)
        with pytest.raises(ConfigurationError) as caught:
            from_kubeconfig(server.kubeconfig)
        assert words in str(caught.value)
        assert str(server.kubeconfig.parent) in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"current-context": "nowhere"}, "there is no context 'nowhere'"),
            ({"current-context": None}, "there is no context None"),
            ({"current-context": "there"}, "there is no cluster 'x'"),
            ({"contexts": None}, "there is no context 'here'"),
            ({"users": []}, "there is no user 'u'"),
            ({"clusters": []}, "there is no cluster 'c'"),
            ({"clusters": [{"cluster": {}}]}, "not a kubeconfig"),
            ({"clusters": [{"name": "c"}]}, "not a kubeconfig"),
            ({"clusters": [{"name": "c", "cluster": {}}]}, "not a kubeconfig"),
            ({"clusters": 5}, "not a kubeconfig"),
            ({"users": [{"name": "u", "user": None}]}, "not a kubeconfig"),
        ],
    )
    def test_what_is_missing(self, server: StandIn, change: dict[str, Any], words: str) -> None:
        config = yaml.safe_load(server.kubeconfig.read_text())
        server.kubeconfig.write_text(yaml.safe_dump(config | change))
        with pytest.raises(ConfigurationError) as caught:
            from_kubeconfig(server.kubeconfig)
        assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"{", "not YAML"),
            (b"\xff\xfe\xfd", "not YAML"),
            (b"a: 2023-13-45", "not YAML"),
            (b"", "not a kubeconfig"),
            (b"[]", "not a kubeconfig"),
            (b"text", "not a kubeconfig"),
        ],
    )
    def test_other_files(self, tmp_path: Path, content: bytes, words: str) -> None:
        path = tmp_path / "config"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=words):
            from_kubeconfig(path)

    def test_a_certificate_that_is_none(self, server: StandIn, authority: trustme.CA) -> None:
        server.write_kubeconfig(cluster=ca(authority), user={"client-certificate-data": "eA=="})
        access = from_kubeconfig(server.kubeconfig)
        with pytest.raises(ConfigurationError, match=r"the certificates or the key for .* cannot be used"):
            KubernetesTokens(access)

    def test_nothing_secret_is_shown(self, server: StandIn, authority: trustme.CA) -> None:
        key = base64.b64encode(b"private").decode()
        server.write_kubeconfig(cluster=ca(authority), user={"token": "secret", "client-key-data": key})
        shown = repr(from_kubeconfig(server.kubeconfig))
        assert "secret" not in shown
        assert "private" not in shown


class TestInCluster:
    @pytest.fixture
    def pod(self, server: StandIn, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The environment and the mounted files of a pod."""
        mounted = tmp_path / "mounted"
        mounted.mkdir()
        (mounted / "token").write_text(BROKER_TOKEN)
        authority.cert_pem.write_to_path(mounted / "ca.crt")
        monkeypatch.setattr(kubernetes, "MOUNTED", mounted)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "localhost")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.server.port))
        return mounted

    async def test_the_mounted_token_and_its_rotation(self, pod: Path, server: StandIn) -> None:
        access = in_cluster()
        assert access is not None
        tokens = KubernetesTokens(access, LIMITS)
        for bearer in (BROKER_TOKEN, "next"):
            (pod / "token").write_text(bearer + "\n")
            server.bearers = {bearer}
            good(await tokens.review(server.token("press", AUDIENCE), (AUDIENCE,)))
        await tokens.aclose()

    async def test_it_is_the_default_in_a_pod(self, pod: Path, server: StandIn, tmp_path: Path) -> None:
        for chosen in (None, TokensKubernetes()):
            verification = token_verification(chosen, dict, LIMITS)
            assert isinstance(verification.source, KubernetesTokens)
            good(await verification.source.review(server.token("press", AUDIENCE), (AUDIENCE,)))
            await verification.source.aclose()

    @pytest.mark.parametrize(
        ("host", "url"), [("10.0.0.1", "https://10.0.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")]
    )
    def test_addresses(self, pod: Path, monkeypatch: pytest.MonkeyPatch, host: str, url: str) -> None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
        access = in_cluster()
        assert access is not None
        assert access.server.url == url

    def test_elsewhere(self, pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (pod / "ca.crt").unlink()
        with pytest.raises(ConfigurationError, match=r"ca\.crt: cannot read the API server's CA: No such file"):
            in_cluster()
        (pod / "token").unlink()
        assert in_cluster() is None
        (pod / "token").write_text("x")
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
        assert in_cluster() is None


async def test_the_stand_in_is_strict(server: StandIn) -> None:
    """What it refuses; otherwise the tests above would prove nothing."""
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": "x", "audiences": ["a"]},
    }
    headers = {
        "accept": "application/json",
        "content-type": "application/json",
        "authorization": f"Bearer {BROKER_TOKEN}",
    }
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    base = Asked("POST", path, headers, json.dumps(review).encode(), None)
    assert server.answer(base)[0] == 201

    def status(**changes: Any) -> int:
        return server.answer(Asked(**{name: changes.get(name, getattr(base, name)) for name in
                             ("method", "path", "headers", "body", "certificate")}))[0]  # fmt: skip

    assert status(headers=headers | {"authorization": "Bearer other"}) == 401
    assert status(headers={"accept": "application/json"}) == 403
    for wrong in (
        {"method": "GET"},
        {"path": "/apis/authentication.k8s.io/v1beta1/tokenreviews"},
        {"headers": headers | {"content-type": "text/plain"}},
        {"headers": headers | {"accept": "text/html"}},
        {"headers": headers | {"authorization": f"Basic {BROKER_TOKEN}"}},
        {"body": json.dumps(review | {"status": {}}).encode()},
        {"body": json.dumps(review | {"kind": "Tokenreview"}).encode()},
        {"body": json.dumps(review | {"spec": {"token": "x"}}).encode()},
        {"body": json.dumps(review | {"spec": {"token": 5, "audiences": ["a"]}}).encode()},
        {"body": json.dumps(review | {"spec": {"token": "x", "audiences": []}}).encode()},
    ):
        before = len(server.violations)
        assert status(**wrong) == 400
        assert len(server.violations) == before + 1
    server.violations.clear()
