"""The genesis file and the key file, and how they are refused."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from deploy.node.chain_files import load_genesis, load_key, save_key, save_new_key
from deploy.node.failures import SettingsInvalid
from lockstep.signing import SigningKey

SEED = bytes(range(32))


def test_a_saved_key_is_loaded(tmp_path: Path) -> None:
    saved = save_key(tmp_path / "key.pem", SEED)
    assert saved.public_key == SigningKey(SEED).public_key
    assert load_key(tmp_path / "key.pem").public_key == saved.public_key
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    save_key(tmp_path / "key.pem", SEED)
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(SettingsInvalid, match="chmod 600"):
        load_key(tmp_path / "key.pem")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    encoded = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(encoded)
    path.chmod(0o600)
    with pytest.raises(SettingsInvalid, match="another kind than Ed25519"):
        load_key(path)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"not a key")
    for mode in (0o600, 0o644):
        # Who may read what holds no key is not worth a word.
        path.chmod(mode)
        with pytest.raises(SettingsInvalid, match="no private key in PEM"):
            load_key(path)


def test_a_new_key_is_never_written_over_another(tmp_path: Path) -> None:
    saved = save_new_key(tmp_path / "key.pem", SEED)
    assert load_key(tmp_path / "key.pem").public_key == saved.public_key
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SettingsInvalid, match=r"key\.pem is there already; name another file"):
        save_new_key(tmp_path / "key.pem", bytes(32))
    assert load_key(tmp_path / "key.pem").public_key == saved.public_key
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


def test_missing_and_malformed_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"none\.pem cannot be read"):
        load_key(tmp_path / "none.pem")
    (tmp_path / "genesis.json").write_text("{}")
    with pytest.raises(SettingsInvalid, match=r"genesis\.json: the genesis file is malformed"):
        load_genesis(tmp_path / "genesis.json")
