"""Secrets are found by their names and shapes; what only looks like one by its letters stays readable."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.masking import MASK, is_secret, mask, mask_text

SECRET = (
    "OBS_SK DB_PWD SESSION_COOKIE GH_AUTH MY_PASSWORD X_SIGNATURE AZ_PRIVATE KERBEROS_PWD GITHUB_PAT AK "
    "hub_token apiKey APIKey accessKeyId Authorization x-api-key SLACK_WEBHOOK_URL SENTRY_DSN SSHPASS "
    "PGPASSWORD HF_TOKEN WANDB_API_KEY MYSQL_PWD KEY_PASSPHRASE AWS_CREDENTIALS env.API_KEY Set-Cookie"
)
SHOWN = (
    "HCCL_CONNECT_TIMEOUT KEYBOARD MONKEY TOKENIZERS_PARALLELISM max_query_length PATH AUTHOR "
    "GIT_AUTHOR_NAME KEEP_CHECKPOINT_MAX PWD OLDPWD max_tokens pad_token_id num_key_value_heads "
    "SSH_AUTH_SOCK KeyError PASSED COMPASS XAUTHORITY PATTERN skip_preflight tokenizer vocab_file bypass"
)


@pytest.mark.parametrize("name", SECRET.split())
def test_a_word_of_its_name_makes_a_value_secret(name: str) -> None:
    assert is_secret(name)
    assert mask({name: "a b, c"}) == {name: MASK}
    assert "leak" not in mask_text(f"{name}: leak, leak 'leak\n{name}=leak leak")
    assert "leak" not in mask_text(f'"{name}": "leak\\"leak"')


@pytest.mark.parametrize("name", SHOWN.split())
def test_a_name_that_only_looks_like_one_is_shown(name: str) -> None:
    assert not is_secret(name)
    assert mask({name: "a b, c"}) == {name: "a b, c"}
    assert mask_text(f"x {name}=1 {name}: 2") == f"x {name}=1 {name}: 2"


@pytest.mark.parametrize(
    ("document", "masked"),
    [
        (["x", "--password", "a", "--lr", "1"], ["x", "--password", MASK, "--lr", "1"]),
        (["--token=a b", "api_key=a b", "do_auth=true"], ["--token=***", "api_key=***", "do_auth=true"]),
        ({"credentials": {"user": "me", "list": [1]}}, {"credentials": {"user": MASK, "list": [MASK]}}),
        ([{"name": "DB_PASS", "value": "x"}], [{"name": "DB_PASS", "value": MASK}]),
        ({"A_TOKEN": "$TOKEN", "B_TOKEN": "${T}", "C_TOKEN": "a$T"},
         {"A_TOKEN": "$TOKEN", "B_TOKEN": "${T}", "C_TOKEN": MASK}),
        ({"auth": True, "key": None, "token": ""}, {"auth": True, "key": None, "token": ""}),
        ({"steps": 3, "loss": 0.5}, {"steps": 3, "loss": 0.5}),
    ],
)  # fmt: skip
def test_a_document_keeps_its_structure(document: Any, masked: Any) -> None:
    assert mask(document) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://me:p@ss:w@host:80/x", "http://me:***@host:80/x"),
        ("git clone https://t0ken@host/x", "git clone https://***@host/x"),
        ("git clone ssh://git@host/x", "git clone ssh://git@host/x"),
        ("https://h/x?X-Amz-Signature=a%2B&part=1#top", "https://h/x?X-Amz-Signature=***&part=1#top"),
        ("https://h/x?part=1&access_token=abc", "https://h/x?part=1&access_token=***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("curl -u x -H 'X-Auth: Basic dXNlcjpw'", "curl -u x -H 'X-Auth: Basic ***"),
        ("machine h login me password pw1", "machine h login me password ***"),
        ("curl -u me:pw1 https://h/x", "curl -u me:*** https://h/x"),
        ("docker run -u 1000:1000 image", "docker run -u 1000:1000 image"),
        ("uses ghp_0123456789abcdefghij here", "uses *** here"),
        ("uses hf_abcdefghijklmnopqrstuv, sk-0123456789abcdefghij", "uses ***, ***"),
        ("AKIAIOSFODNN7EXAMPLE xoxb-123456789012-x", "*** ***"),
        ("jwt eyJhbGciOi.eyJzdWIi.c2ln", "jwt ***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nx", "***\nx"),
        ("python x.py --password a --lr 1", "python x.py --password *** --lr 1"),
        ("python x.py --token=a --lr 1", "python x.py --token=*** --lr 1"),
        ("run KEY_PWD='it''s, a' B=2", "run KEY_PWD='***' B=2"),
        ("KEY_PWD='a' b", "KEY_PWD=***"),
        ("{'hub_token': 'a b', 'x': 1}", "{'hub_token': '***', 'x': 1}"),
        ("Namespace(token=None, lr=1)", "Namespace(token=None, lr=1)"),
        ("a.yaml:3: key: unknown key; did you mean x?", "a.yaml:3: key: unknown key; did you mean x?"),
        ("KeyError: 'rank'", "KeyError: 'rank'"),
        ("if key == 3: pass", "if key == 3: pass"),
        ("  # password: hunter2, or so", "  # password: ***"),
        ("password =", "password ="),
        ("token: ***", "token: ***"),
    ],
)
def test_a_free_text_is_masked_up_to_the_end_of_each_value(text: str, masked: str) -> None:
    assert mask_text(text) == masked
    assert mask_text(masked) == masked


@settings(deadline=None)
@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(SECRET.split()) | st.text(), inner)))  # fmt: skip
def test_masking_takes_every_document(document: Any) -> None:
    assert mask(mask(document)) == mask(document)
