import os
import ssl
import threading
import warnings

import pytest
from urllib3.util import ssl_ as urllib3_ssl

from hireliab.errors import ConfigError
from hireliab.exchange import _tls
from hireliab.exchange._tls import FrozenContext, forget, shared_context
from tests.support.http_servers import Certificates
from tests.support.together import together


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def nothing_shared():
    forget()
    yield
    forget()


@pytest.fixture
def loads(monkeypatch):
    """The CA files that were read."""
    read = []
    original = FrozenContext.load_verify_locations

    def load(self, *args, **kwargs):
        read.append(kwargs)
        original(self, *args, **kwargs)

    monkeypatch.setattr(FrozenContext, "load_verify_locations", load)
    return read


# -- one per (verify, cert) ---------------------------------------------------------------------------------------


def test_equal_values_get_the_same_context_and_read_the_ca_file_once(certificates, loads):
    first = shared_context(certificates.ca)
    assert all(context is first for context in together(8, lambda _: shared_context(certificates.ca)))
    assert loads == [{"cafile": certificates.ca}]


def test_threads_that_start_together_get_one_complete_context(certificates, loads):
    contexts = together(8, lambda _: shared_context(certificates.ca))
    assert len(set(map(id, contexts))) == 1
    assert contexts[0]._frozen and contexts[0].cert_store_stats()["x509_ca"] == 1
    assert len(loads) == 1


def test_each_verify_and_each_cert_has_a_context_of_its_own(certificates):
    values = [
        (True, None), (False, None), (certificates.ca, None), (certificates.ca_folder, None), (certificates.other_ca, None),
        (certificates.ca, certificates.client), (certificates.ca, certificates.client_pair), (False, certificates.client),
    ]  # fmt: skip
    contexts = [shared_context(*value) for value in values]
    assert len(set(map(id, contexts))) == len(values)
    assert [shared_context(*value) for value in values] == contexts


def test_no_check_does_not_stick(certificates):
    unchecked = shared_context(False)
    checked = shared_context(certificates.ca)
    assert (unchecked.verify_mode, unchecked.check_hostname) == (ssl.CERT_NONE, False)
    assert (checked.verify_mode, checked.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert shared_context(True).verify_mode == ssl.CERT_REQUIRED


def test_paths_are_known_as_text_bytes_and_path_objects(certificates):
    path = certificates.folder / "ca.pem"
    assert shared_context(path) is shared_context(str(path)) is shared_context(os.fsencode(path))
    pair = certificates.client_pair
    assert shared_context(path, list(pair)) is shared_context(path, pair)
    assert shared_context(path, "") is shared_context(path, None) is shared_context(path, ())


def test_the_settings_are_urllib3s_own(certificates):
    theirs = urllib3_ssl.create_urllib3_context()
    ours = shared_context(certificates.ca)
    for name in ("minimum_version", "maximum_version", "options", "verify_flags", "post_handshake_auth", "check_hostname",
                 "hostname_checks_common_name", "verify_mode"):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name


def test_after_forgetting_the_files_are_read_again_and_old_contexts_stay_as_they_are(certificates, loads):
    old = shared_context(certificates.ca)
    forget()
    assert shared_context(certificates.ca) is not old
    assert len(loads) == 2
    assert old.cert_store_stats()["x509_ca"] == 1


def test_ever_new_ca_files_do_not_fill_the_memory(certificates, tmp_path):
    data = (certificates.folder / "ca.pem").read_bytes()
    for i in range(_tls._MOST + 5):
        (tmp_path / f"{i}.pem").write_bytes(data)
        last = shared_context(tmp_path / f"{i}.pem")
    assert len(_tls._shared) == _tls._MOST
    assert shared_context(tmp_path / f"{i}.pem") is last


def test_a_client_certificate_from_one_file_or_two(certificates, monkeypatch):
    loaded = []
    monkeypatch.setattr(FrozenContext, "load_cert_chain", lambda _self, *args: loaded.append(args[:2]))
    shared_context(certificates.ca, certificates.client)
    shared_context(certificates.ca, certificates.client_pair)
    shared_context(certificates.ca, (certificates.client, None))
    assert loaded == [(certificates.client, None), certificates.client_pair]


# -- frozen -------------------------------------------------------------------------------------------------------


def test_what_urllib3_sets_at_each_connect_may_be_set_again(certificates):
    context = shared_context(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_mode = urllib3_ssl.resolve_cert_reqs("CERT_REQUIRED")
    context.check_hostname = True
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(urllib3_ssl.ALPN_PROTOCOLS)
    shared_context(False).verify_mode = ssl.CERT_NONE
    shared_context(False).check_hostname = False


@pytest.mark.parametrize(
    "change",
    [
        lambda context: setattr(context, "check_hostname", False),
        lambda context: setattr(context, "verify_mode", ssl.CERT_OPTIONAL),
        lambda context: setattr(context, "minimum_version", ssl.TLSVersion.TLSv1_3),
        lambda context: setattr(context, "options", 0),
        lambda context: setattr(context, "keylog_filename", os.devnull),
        lambda context: setattr(context, "sni_callback", print),
        lambda context: context.set_alpn_protocols(["h2"]),
        lambda context: context.set_ciphers("ALL"),
        lambda context: context.load_default_certs(),
        lambda context: context.set_default_verify_paths(),
        lambda context: context.load_verify_locations("ca.pem"),
        lambda context: context.load_cert_chain("client.pem"),
    ],
)
def test_a_change_is_refused_and_changes_nothing(certificates, change):
    context = shared_context(certificates.ca)
    before = (context.verify_mode, context.check_hostname, context.options, context.cert_store_stats())
    with pytest.raises(
        ConfigError, match="shared TLS context: .* cannot be changed, other sessions use it; give verify="
    ):
        change(context)
    assert (context.verify_mode, context.check_hostname, context.options, context.cert_store_stats()) == before


def test_switching_the_check_on_in_an_unchecked_context_is_refused(certificates):
    with pytest.raises(ConfigError):
        shared_context(False).verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(ConfigError):
        shared_context(False).check_hostname = True


def test_a_context_class_that_another_library_put_in_is_used_and_not_frozen(certificates, monkeypatch):
    class Theirs(ssl.SSLContext):
        pass

    monkeypatch.setattr(urllib3_ssl, "SSLContext", Theirs)
    context = shared_context(certificates.ca)
    assert type(context) is Theirs
    assert context is shared_context(certificates.ca)
    assert context.cert_store_stats()["x509_ca"] == 1


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", ["", b"", 0, 1, 2.5, [], object()])
def test_what_is_no_verify_is_refused_and_never_taken_for_no_check(verify):
    with pytest.raises(ConfigError, match="verify: not True, False or the path"):
        shared_context(verify)


@pytest.mark.parametrize("cert", [("a", "b", "c"), ("a",), 7, (None, "key"), {"a": 1}, [1, 2]])
def test_what_is_no_cert_is_refused(certificates, cert):
    with pytest.raises(ConfigError, match="cert: neither"):
        shared_context(certificates.ca, cert)


def test_missing_files_are_named(certificates):
    with pytest.raises(OSError, match="TLS: no CA certificates at /nowhere; check the path"):
        shared_context("/nowhere")
    with pytest.raises(OSError, match="TLS: no client certificate at /nowhere; check the path"):
        shared_context(certificates.ca, "/nowhere")
    with pytest.raises(OSError, match="TLS: no client key at /nowhere; check the path"):
        shared_context(certificates.ca, (certificates.client, "/nowhere"))


def test_files_of_another_kind_are_named(certificates, tmp_path):
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    with pytest.raises(ssl.SSLError, match=f"TLS: {text} cannot be used: .*; check the file"):
        shared_context(text)
    with pytest.raises(ssl.SSLError, match=f"TLS: {text} cannot be used"):
        shared_context(certificates.ca, str(text))
    with pytest.raises(ssl.SSLError, match="cannot be used"):
        shared_context(certificates.ca, (certificates.other_ca, certificates.client_pair[1]))


def test_an_encrypted_key_is_an_error_and_no_question_on_the_terminal(certificates):
    with pytest.raises(
        ssl.SSLError, match="cannot be used: the key is encrypted and a password cannot be given; check"
    ):
        shared_context(certificates.ca, certificates.encrypted_pair)


def test_a_failure_is_not_remembered(certificates, tmp_path):
    path = tmp_path / "late.pem"
    with pytest.raises(OSError, match="no CA certificates"):
        shared_context(path)
    path.write_bytes((certificates.folder / "ca.pem").read_bytes())
    assert shared_context(path).cert_store_stats()["x509_ca"] == 1


# -- interruptions ------------------------------------------------------------------------------------------------


def test_a_request_made_while_a_context_is_built_in_the_same_thread_gets_one_too(certificates, monkeypatch):
    inner = []
    original = _tls._build

    def interrupted(*key):
        if not inner:
            inner.append(None)
            inner[0] = shared_context(certificates.ca)  # what a signal handler or a finaliser might do
        return original(*key)

    monkeypatch.setattr(_tls, "_build", interrupted)
    assert shared_context(certificates.ca) is inner[0]


def test_an_interrupted_build_leaves_nothing_behind(certificates, monkeypatch):
    original = _tls._build
    monkeypatch.setattr(_tls, "_build", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        shared_context(certificates.ca)
    monkeypatch.setattr(_tls, "_build", original)
    assert together(2, lambda _: shared_context(certificates.ca))[0]._frozen


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_while_another_thread_builds_builds_its_own(certificates, monkeypatch):
    building, go_on = threading.Event(), threading.Event()
    original, parent = _tls._build, os.getpid()

    def slow(*key):
        if os.getpid() == parent:
            building.set()
            assert go_on.wait(5)
        return original(*key)

    monkeypatch.setattr(_tls, "_build", slow)
    thread = threading.Thread(target=shared_context, args=(certificates.ca,), daemon=True)
    thread.start()
    assert building.wait(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork in a process with threads, our very case
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if shared_context(certificates.ca).cert_store_stats()["x509_ca"] == 1 else 2
        finally:
            os._exit(code)
    go_on.set()
    thread.join(5)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
