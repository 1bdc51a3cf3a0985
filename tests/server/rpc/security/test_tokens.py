"""The file of tokens: its lines, what is wrong with them, and what a token opens."""

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta

import pytest

from cutstream_server.errors import PermissionDeniedError, UnauthenticatedError
from cutstream_server.rpc.security import tokens as tokens_module
from cutstream_server.rpc.security.tokens import TokenEntry, Tokens, new_token, parse_line, read_tokens, token_digest
from cutstream_server.rpc.security.watched import SecurityFileError

HASH = "0123456789abcdef" * 4
INFO = "/cutstream.v1.BackgroundRemovalService/GetServerInfo"
REMOVE = "/cutstream.v1.BackgroundRemovalService/RemoveBackground"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def cause_of(error):
    return error.value.metadata["cause"]


# Tokens


def test_a_token_has_256_random_bits_and_a_prefix_that_scanners_find():
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    # 43 characters of 6 bits hold 32 bytes.
    assert all(re.fullmatch(r"cst_[A-Za-z0-9_-]{43}", token) for token in tokens)


def test_the_file_has_the_sha_256_of_a_token():
    assert token_digest("cst_x") == hashlib.sha256(b"cst_x").hexdigest()


# Lines

UNTIL = datetime(2027, 6, 30, 12, tzinfo=UTC)
LINES = [
    (f"ci {HASH}", TokenEntry("ci", HASH)),
    (f"  ci\t{HASH}  ", TokenEntry("ci", HASH)),
    (f"ci {HASH} expires=2027-06-30T12:00:00Z", TokenEntry("ci", HASH, UNTIL)),
    (f"ci {HASH} expires=2027-06-30T14:00:00+02:00", TokenEntry("ci", HASH, UNTIL)),
    (f"ci {HASH} expires=2027-06-30", TokenEntry("ci", HASH, datetime(2027, 6, 30, tzinfo=UTC))),
    (f"ci {HASH} methods=GetServerInfo", TokenEntry("ci", HASH, None, ("GetServerInfo",))),
]


@pytest.mark.parametrize(("line", "entry"), LINES)
def test_a_line_is_read(line, entry):
    assert parse_line(line) == entry


@pytest.mark.parametrize("entry", [entry for _, entry in LINES])
def test_a_line_that_was_written_is_read_again(entry):
    assert parse_line(entry.line()) == entry


WRONG = [
    (HASH, "NAME HASH"),
    (f"two words {HASH}", "NAME HASH"),
    (f"ci {HASH[:-1]}", "NAME HASH"),
    (f"ci {HASH.upper()}", "NAME HASH"),
    (f"ci {HASH}0", "NAME HASH"),
    (f"{'n' * 65} {HASH}", "NAME HASH"),
    ("ci cst_" + "A" * 43, "NAME HASH"),
    (f"ci {HASH} expires=soon", "expires must be a date"),
    (f"ci {HASH} expires=", "expires must be a date"),
    (f"ci {HASH} methods=Delete", "methods must be of RemoveBackground, "),
    (f"ci {HASH} methods=", "methods must be of"),
    (f"ci {HASH} admin", "something other than"),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_a_wrong_line_is_told_by_its_number(tmp_path, line, message):
    (tmp_path / "tokens").write_text(f"# comment\n\n{line}\n")
    with pytest.raises(SecurityFileError, match=message) as caught:
        read_tokens(tmp_path / "tokens")
    assert str(caught.value).startswith(f"CUTSTREAM_TOKENS_FILE={tmp_path / 'tokens'}, line 3: ")
    assert "\n" not in str(caught.value)


def test_a_token_in_the_place_of_its_hash_is_not_shown(tmp_path):
    token = new_token()
    (tmp_path / "tokens").write_text(f"ci {token}\n")
    with pytest.raises(SecurityFileError) as caught:
        read_tokens(tmp_path / "tokens")
    assert token not in str(caught.value)


def test_two_tokens_of_one_name_are_refused(tmp_path):
    (tmp_path / "tokens").write_text(f"ci {HASH}\nci {HASH[::-1]}\n")
    with pytest.raises(SecurityFileError, match="line 2: the name ci stands there twice"):
        read_tokens(tmp_path / "tokens")


def test_more_tokens_than_can_be_compared_in_time_are_refused(tmp_path):
    (tmp_path / "tokens").write_text("".join(f"t{number} {HASH}\n" for number in range(1001)))
    with pytest.raises(SecurityFileError, match="1001 tokens; 1000 are allowed"):
        read_tokens(tmp_path / "tokens")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"\xff\xfe\x00", "line 1"), (None, "No such file")]
)
def test_what_is_no_file_of_tokens_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(SecurityFileError, match=message):
        read_tokens(tmp_path / "tokens")


def test_a_file_of_comments_gives_nobody_a_token(tmp_path):
    (tmp_path / "tokens").write_text("# none\n")
    assert read_tokens(tmp_path / "tokens") == ()


# What a token opens


def bearer(token):
    return [f"Bearer {token}"]


def test_a_known_token_opens_everything(tokens_file):
    token = tokens_file.issue()
    tokens = Tokens(tokens_file.path)
    for method in (INFO, REMOVE, REFLECTION, "/unknown/Method"):
        tokens.authorize(bearer(token), method)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(tokens_file, scheme):
    # RFC 9110, section 11.1: authentication schemes are case-insensitive.
    token = tokens_file.issue()
    Tokens(tokens_file.path).authorize([f"{scheme} {token}"], INFO)


def test_no_token_is_told_from_a_wrong_one(tokens_file):
    tokens_file.issue()
    tokens = Tokens(tokens_file.path)
    with pytest.raises(UnauthenticatedError) as none:
        tokens.authorize([], INFO)
    with pytest.raises(UnauthenticatedError) as wrong:
        tokens.authorize(bearer(new_token()), INFO)
    assert (cause_of(none), cause_of(wrong)) == ("no_token", "unknown_token")


@pytest.mark.parametrize("form", ["{}", "Basic {}", "Bearer  {}", "Bearer {} ", "Bearer {}x", "Bearer", ""])
def test_a_known_token_in_another_form_opens_nothing(tokens_file, form):
    token = tokens_file.issue()
    with pytest.raises(UnauthenticatedError) as caught:
        Tokens(tokens_file.path).authorize([form.format(token)], INFO)
    assert cause_of(caught) == "unknown_token"


def test_two_tokens_at_once_open_nothing(tokens_file):
    token = tokens_file.issue()
    with pytest.raises(UnauthenticatedError):
        Tokens(tokens_file.path).authorize([*bearer(token), *bearer(new_token())], INFO)


@pytest.mark.parametrize("short", ["", "password"])
def test_a_short_token_opens_nothing_even_with_its_hash_in_the_file(tokens_file, short):
    tokens_file.write(f"weak {hashlib.sha256(short.encode()).hexdigest()}\n")
    with pytest.raises(UnauthenticatedError):
        Tokens(tokens_file.path).authorize(bearer(short), INFO)


def test_an_expired_token_opens_nothing(tokens_file):
    now = datetime.now(UTC)
    past, future = (tokens_file.issue(name, expires=now + timedelta(hours=h)) for name, h in (("a", -1), ("b", 1)))
    tokens = Tokens(tokens_file.path)
    tokens.authorize(bearer(future), INFO)
    with pytest.raises(UnauthenticatedError) as caught:
        tokens.authorize(bearer(past), INFO)
    assert cause_of(caught) == "expired_token"


def test_a_token_for_one_method_opens_no_other(tokens_file):
    token = tokens_file.issue("probe", methods=("GetServerInfo",))
    tokens = Tokens(tokens_file.path)
    tokens.authorize(bearer(token), INFO)
    with pytest.raises(PermissionDeniedError) as caught:
        tokens.authorize(bearer(token), REMOVE)
    assert caught.value.metadata == {"token_name": "probe", "method": "RemoveBackground", "allowed": "GetServerInfo"}


def test_a_token_for_one_method_may_read_the_api(tokens_file):
    token = tokens_file.issue("probe", methods=("GetServerInfo",))
    Tokens(tokens_file.path).authorize(bearer(token), REFLECTION)


def test_errors_never_show_the_token(tokens_file):
    known, unknown = tokens_file.issue("probe", methods=("GetServerInfo",)), new_token()
    tokens = Tokens(tokens_file.path)
    for token in (known, unknown):
        with pytest.raises((UnauthenticatedError, PermissionDeniedError)) as caught:
            tokens.authorize(bearer(token), REMOVE)
        assert token not in f"{caught.value.message} {caught.value.metadata}"


@pytest.mark.parametrize("position", [0, 4, 9])
def test_every_entry_is_compared_in_constant_time_wherever_the_token_stands(tokens_file, monkeypatch, position):
    issued = [tokens_file.issue(f"t{number}") for number in range(10)]
    tokens = Tokens(tokens_file.path)
    compared = []

    def compare(left, right):
        compared.append((left, right))
        return hmac.compare_digest(left, right)

    monkeypatch.setattr(tokens_module, "hmac", type("Spy", (), {"compare_digest": staticmethod(compare)}))
    tokens.authorize(bearer(issued[position]), INFO)
    assert len(compared) == 10
