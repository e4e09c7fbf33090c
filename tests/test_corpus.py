"""Text becomes ids and comes back; nothing that is asked about was learned from."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.data import tokenizers
from mendel.data.corpus import Corpus, CorpusError, Tokens, batch_rng, join, read_corpus
from mendel.data.tokenizers import (
    Bytes,
    Chars,
    Tokenizer,
    TokenizerError,
    load_tokenizer,
    make_tokenizer,
)
from mendel.types import InputError

SHARED = Path(__file__).parents[2] / "shared" / "data"
TOK512 = SHARED / "stories260K" / "tok512.bin"
SHAKESPEARE = SHARED / "tinyshakespeare" / "input.txt"
NAMES = SHARED / "names" / "names.txt"
TEXT = (
    "the cat sat on the mat, the rat sat on the cat.\n" * 8 + "Où est-il ? 😀 <|endoftext|>\t\r\n"
)
KINDS = ("bytes", "chars", "bpe:300")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def real(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"real data is absent: {path}")
    return path


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return make_tokenizer("bpe:300", TEXT)


@pytest.fixture(scope="module")
def stories() -> Tokenizer:
    return load_tokenizer(real(TOK512))


# ---- tokenizers


@given(texts)
def test_any_text_comes_back_from_bytes(text: str) -> None:
    ids = Bytes().encode(text)
    assert Bytes().decode(ids) == text and ids.tolist() == list(text.encode())


@given(st.lists(st.integers(0, 255)))
def test_any_bytes_decode_and_what_is_no_utf8_is_replaced(ids: list[int]) -> None:
    assert Bytes().decode(ids) == bytes(ids).decode("utf-8", errors="replace")


@given(texts.filter(bool), st.randoms())
def test_any_text_of_the_alphabet_comes_back_from_chars(text: str, rng: random.Random) -> None:
    tokenizer = Chars(text)
    mixed = "".join(rng.choices(text, k=20))
    ids = tokenizer.encode(mixed)
    assert tokenizer.decode(ids) == mixed
    assert [tokenizer.alphabet[i] for i in ids] == list(mixed)
    assert tokenizer.alphabet == "".join(sorted(set(text)))


@settings(deadline=None)
@given(texts)
def test_any_text_comes_back_from_bpe(bpe: Tokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode(text)) == text
    assert bpe.encode(TEXT).size < len(TEXT.encode()) / 2


def test_a_character_that_was_not_in_the_text_is_named_with_its_place() -> None:
    with pytest.raises(TokenizerError, match=r"'é' at 1, 'z' at 6.*bytes or bpe"):
        Chars("hello ").encode("héllo zz")


@pytest.mark.parametrize("text", ["x\ud800", "\udcff"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_a_character_is_refused_with_its_place(kind: str, text: str) -> None:
    with pytest.raises(TokenizerError, match=r"U\+D"):
        make_tokenizer(kind, "x").encode(text) if kind != "chars" else Chars(text)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("byte", "'bytes'"), ("char", "'chars'"), ("bpe", "'bpe:4096'"), ("bpe:x", "bpe:"), ("", "")],
)
def test_a_bad_name_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(TokenizerError, match=f"Say '?{hint.strip(chr(39))}"):
        make_tokenizer(name, TEXT)


@pytest.mark.parametrize("n", [0, 1, 256, 10**9])
def test_a_size_that_cannot_be_is_refused_with_the_reason(n: int) -> None:
    with pytest.raises(TokenizerError, match="257 to 1,000,000: the 256 bytes"):
        make_tokenizer(f"bpe:{n}", TEXT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_is_the_same_and_every_reader_of_the_format_agrees(
    kind: str, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer as Peer

    one = make_tokenizer(kind, TEXT)
    one.save(tmp_path)
    for other in (load_tokenizer(tmp_path), load_tokenizer(tmp_path / "tokenizer.json")):
        assert type(other) is type(one) and other.digest == one.digest
        assert other.vocab_size == one.vocab_size
        assert other.encode(TEXT).tolist() == one.encode(TEXT).tolist()
    peer = Peer.from_file(str(tmp_path / "tokenizer.json"))
    assert peer.encode(TEXT).ids == one.encode(TEXT).tolist()
    assert peer.decode(one.encode(TEXT).tolist()) == TEXT
    assert peer.get_vocab_size() == one.vocab_size


def test_bpe_is_trained_alike_in_every_process(bpe: Tokenizer) -> None:
    code = (
        "import sys; from mendel.data.tokenizers import make_tokenizer;"
        "print(make_tokenizer('bpe:300', sys.argv[1]).digest)"
    )
    done = subprocess.run([sys.executable, "-c", code, TEXT], capture_output=True, text=True)
    assert done.stdout.strip() == bpe.digest, done.stderr


def test_text_that_spells_a_special_token_stays_text(stories: Tokenizer) -> None:
    assert stories.encode("<s></s>").tolist().count(1) == 1
    assert stories.decode(stories.encode("<s></s>")) == "<s></s>"


def test_ids_of_another_vocabulary_are_refused() -> None:
    for tokenizer in (Bytes(), Chars("ab"), make_tokenizer("bpe:300", TEXT)):
        for bad in (-1, tokenizer.vocab_size):
            with pytest.raises(TokenizerError, match=f"id {bad} is not of this tokenizer"):
                tokenizer.decode([0, bad])


def test_without_the_library_bytes_and_chars_work_and_bpe_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for kind in ("bytes", "chars"):
        make_tokenizer(kind, TEXT).save(tmp_path)
        assert load_tokenizer(tmp_path).encode("the").size == 3
    with pytest.raises(TokenizerError, match="pip install tokenizers"):
        make_tokenizer("bpe:300", TEXT)


@pytest.mark.parametrize("text", ["{", "{}", '{"model": []}', '{"model": {"vocab": {"a": 0}}}', ""])
def test_a_file_that_is_no_tokenizer_is_refused_by_name(text: str, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(text)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_tokenizer(file)
    with pytest.raises(TokenizerError, match=r"Wanted a tokenizer\.json"):
        load_tokenizer(tmp_path / "absent")


# ---- llama2.c's tokenizer, beside its own algorithm


def llama2c_vocabulary() -> tuple[list[bytes], list[float]]:
    raw, at = real(TOK512).read_bytes(), 4
    pieces, scores = [], []
    while at < len(raw):
        score, n = struct.unpack_from("<fi", raw, at)
        pieces.append(raw[at + 8 : at + 8 + n])
        scores.append(score)
        at += 8 + n
    return pieces, scores


def llama2c_encode(text: str, pieces: list[bytes], scores: list[float]) -> list[int]:
    """run.c's encode: characters or their bytes, then the best-scoring pair again and again."""
    lookup = {piece: i for i, piece in enumerate(pieces)}
    ids = [1] + ([lookup[b" "]] if text else [])
    for char in text:
        raw = char.encode()
        ids += [lookup[raw]] if raw in lookup else [byte + 3 for byte in raw]
    while True:
        best, at, joined = -1e10, -1, -1
        for i in range(len(ids) - 1):
            found = lookup.get(pieces[ids[i]] + pieces[ids[i + 1]])
            if found is not None and scores[found] > best:
                best, at, joined = scores[found], i, found
        if at < 0:
            return ids
        ids[at : at + 2] = [joined]


def llama2c_decode(ids: list[int], pieces: list[bytes]) -> str:
    """run.c's decode, token by token: after the beginning, a leading space is dropped."""
    out, before = b"", 0
    for token in ids:
        piece = pieces[token]
        if before == 1 and piece.startswith(b" "):
            piece = piece[1:]
        if 3 <= token < 259:
            piece = bytes([token - 3])
        out += b"" if token < 3 else piece
        before = token
    return out.decode("utf-8", errors="replace")


STRINGS = [
    "",
    " ",
    "  two  spaces  ",
    "Once upon a time, there was a little girl named Lily.",
    "\n\n\tTabs\tand\r\nnewlines\n",
    "café, naïve, Ærøskøbing, ñandú, “quoted” – and — dashed…",
    "😀👩‍👩‍👧 emoji 🇫🇷 and 漢字 and עברית",
    "<s> </s> <unk> <0x41> <0x0A>",
    "aaaaaaaaaaaaaaaa thethethethe hehehehehe ...... ''''''",
    "e\u0301 decomposed \u00a0 hard space \x00 nul \x7f",
]


@pytest.mark.parametrize("text", STRINGS)
def test_a_string_is_encoded_and_decoded_as_llama2c_does(stories: Tokenizer, text: str) -> None:
    pieces, scores = llama2c_vocabulary()
    ids = llama2c_encode(text, pieces, scores)
    assert stories.encode(text).tolist() == ids
    assert stories.decode(ids) == llama2c_decode(ids, pieces) == text


@settings(deadline=None, max_examples=200)
@given(texts | st.text("aehtndsw \n'.é", max_size=40))
def test_any_string_is_encoded_as_llama2c_does(stories: Tokenizer, text: str) -> None:
    text = text.replace(tokenizers.SPACE, "")  # the exception that read_llama2c names
    assert stories.encode(text).tolist() == llama2c_encode(text, *llama2c_vocabulary())
    assert stories.decode(stories.encode(text)) == text


@settings(deadline=None)
@given(st.lists(st.integers(0, 511), max_size=30))
def test_any_ids_are_decoded_as_llama2c_does(stories: Tokenizer, ids: list[int]) -> None:
    assert stories.decode(ids) == llama2c_decode(ids, llama2c_vocabulary()[0])


def test_real_stories_are_encoded_as_llama2c_does(stories: Tokenizer) -> None:
    file = real(SHARED / "tinystories_sample" / "tinystories_sample.txt")
    text = file.read_text(encoding="utf-8")[:3_000]
    assert stories.encode(text).tolist() == llama2c_encode(text, *llama2c_vocabulary())


def test_llama2cs_tokenizer_is_saved_as_a_standard_one(stories: Tokenizer, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Peer

    stories.save(tmp_path)
    again = load_tokenizer(tmp_path)
    peer = Peer.from_file(str(tmp_path / "tokenizer.json"))
    assert (again.digest, again.bos, again.vocab_size) == (stories.digest, 1, 512)
    for text in STRINGS[:7]:
        assert again.encode(text).tolist() == stories.encode(text).tolist() == peer.encode(text).ids
        assert peer.decode(peer.encode(text).ids) == again.decode(again.encode(text)) == text


@given(st.integers(0, 6226))
@settings(max_examples=50)
def test_a_cut_tokenizer_file_is_refused(n: int) -> None:
    raw = real(TOK512).read_bytes()[:n]
    pieces = len(llama2c_vocabulary()[0])
    file = Path(os.environ["MENDEL_HOME"]).parent / "cut.bin"
    file.write_bytes(raw)
    try:
        assert load_tokenizer(file).vocab_size < pieces  # cut exactly between two pieces
    except TokenizerError as error:
        assert "cut.bin" in str(error)


# ---- reading


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, raw in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(raw)
    return root


def test_a_folder_is_read_in_the_order_of_its_paths_without_what_is_no_text(
    tmp_path: Path,
) -> None:
    files = {
        "b.py": b"b = 1\n",
        "a.py": b"a = 1\n",
        "sub/c.py": "é = 1".encode(),
        "sub/copy.py": b"a = 1\n",
        "sub/latin.py": b"caf\xe9\n",
        "binary.py": b"\x00\x01",
        "empty.py": b"",
        "bom.py": b"\xef\xbb\xbfz = 1\n",
        "readme.md": b"no",
        ".git/hidden.py": b"hidden",
    }
    folder(tmp_path, files)
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    corpus = read_corpus(tmp_path, glob="*.py")
    assert corpus.documents == ("a = 1\n", "b = 1\n", "z = 1\n", "é = 1", "caf\ufffd\n")
    assert corpus.form == "folder" and corpus.text.endswith("é = 1\ncaf\ufffd\n")
    told = " / ".join(corpus.notices)
    assert "1 file(s) are binary" in told and "1 file(s) are not all UTF-8" in told
    assert "1 file(s) repeated another" in told
    assert read_corpus(tmp_path, glob="**/*.py").digest == corpus.digest
    assert read_corpus(tmp_path, glob="sub/*.py").documents[0] == "é = 1"


def test_a_file_that_may_not_be_read_is_counted(tmp_path: Path) -> None:
    folder(tmp_path, {"a.txt": b"a", "b.txt": b"b"})
    (tmp_path / "b.txt").chmod(0)
    if os.access(tmp_path / "b.txt", os.R_OK):
        pytest.skip("this user may read everything")
    assert read_corpus(tmp_path).notices == ("1 file(s) could not be read: Permission denied",)


def test_a_pattern_that_matches_nothing_says_what_is_there(tmp_path: Path) -> None:
    folder(tmp_path, {"a.md": b"a", "b.md": b"b", "c.txt": b"c"})
    with pytest.raises(CorpusError, match=r"\.md \(2\), \.txt \(1\).*--glob '\*\.md'"):
        read_corpus(tmp_path, glob="*.py")


@pytest.mark.parametrize("raw", [b"", b" \n", b"\x00\x00", "text".encode("utf-16")])
def test_a_file_without_text_is_refused(raw: bytes, tmp_path: Path) -> None:
    folder(tmp_path, {"x/a.txt": raw})
    for path in (tmp_path / "x", tmp_path / "x" / "a.txt"):
        with pytest.raises(CorpusError, match="nothing to learn from"):
            read_corpus(path)


def test_a_path_that_is_not_there_says_what_is_beside_it(tmp_path: Path) -> None:
    folder(tmp_path, {"input.txt": b"a"})
    with pytest.raises(CorpusError, match=r"there is no .*imput\.txt.*has .*input\.txt"):
        read_corpus(tmp_path / "imput.txt")
    with pytest.raises(CorpusError, match="there is no"):
        read_corpus(tmp_path / ("x" * 300) / "y")
    assert issubclass(CorpusError, InputError)


# ---- splitting


def test_tinyshakespeare_is_split_as_nanogpt_does() -> None:
    text = real(SHAKESPEARE).read_text(encoding="utf-8")
    split = read_corpus(SHAKESPEARE).split()
    assert (join(split.train), join(split.val)) == (text[:1_003_854], text[1_003_854:])
    tokens = Tokens.of(split, make_tokenizer("chars", text))
    assert (tokens.vocab_size, tokens.val.size, tokens.n_val_bytes) == (65, 111_540, 111_540)


def test_no_name_is_on_both_sides_and_each_is_kept_once() -> None:
    corpus = read_corpus(real(NAMES), lines=True)
    split = corpus.split(0.1)
    assert len(corpus.documents) == 29_494 and not set(split.train) & set(split.val)
    assert len(split.train) + len(split.val) == 29_494
    assert abs(len("".join(split.val)) / len("".join(corpus.documents)) - 0.1) < 0.001


@given(st.lists(st.text("abc\n", min_size=1, max_size=30), min_size=2, unique=True), st.data())
def test_a_document_stands_whole_on_one_side_whatever_its_place(
    documents: list[str], data: st.DataObject
) -> None:
    holdout = data.draw(st.floats(0.01, 0.9))
    split = Corpus(tuple(documents), "folder").split(holdout, "document")
    moved = Corpus(tuple(data.draw(st.permutations(documents))), "folder").split(
        holdout, "document"
    )
    assert sorted(split.train + split.val) == sorted(documents)
    assert set(moved.val) == set(split.val)
    n_val = sum(map(len, split.val))
    assert n_val <= holdout * sum(map(len, documents)) or len(split.val) == 1


@given(texts.filter(lambda text: len(text) > 1), st.floats(0.01, 0.99))
def test_a_tail_is_what_the_training_text_leaves(text: str, holdout: float) -> None:
    corpus = Corpus((text,), "file")
    try:
        split = corpus.split(holdout)
    except CorpusError:
        assert int(len(text) * (1 - holdout)) in (0, len(text))
    else:
        assert join(split.train) + join(split.val) == text


def test_a_split_is_recorded_by_the_content_of_both_sides() -> None:
    corpus = Corpus(("one", "two", "three", "four"), "lines")
    record = corpus.split(0.3).record()
    assert json.loads(json.dumps(record)) == corpus.split(0.3).record()
    other = Corpus(("one", "two", "three", "five"), "lines").split(0.3).record()
    assert (record["train"], record["val"]) != (other["train"], other["val"])


@pytest.mark.parametrize("holdout", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_refused(holdout: float) -> None:
    with pytest.raises(CorpusError, match="is no share"):
        Corpus(("a b c",), "file").split(holdout)


def test_one_document_cannot_be_split_by_document() -> None:
    with pytest.raises(CorpusError, match="split by tail"):
        Corpus(("a b c",), "file").split(by="document")


# ---- windows


def counted(n: int, n_val: int) -> Tokens:
    return Tokens(np.arange(n, dtype=np.uint16), np.arange(n_val, dtype=np.uint16), 1 << 16)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 8), st.integers(1, 40))
def test_a_batch_follows_from_seed_and_step_alone(seed: int, step: int, n: int, t: int) -> None:
    x, y = counted(100, 2).batch(batch_rng(seed, step), n, t)
    again, _ = counted(100, 2).batch(batch_rng(seed, step), n, t)
    assert torch.equal(x, again) and x.dtype == y.dtype == torch.int64
    assert x.shape == y.shape == (n, t) and torch.equal(y, x + 1)
    assert torch.equal(x, x[:, :1] + torch.arange(t)) and int(y.max()) < 100


def test_every_window_is_drawn_and_other_steps_and_seeds_draw_others() -> None:
    tokens = counted(40, 2)
    starts = tokens.batch(batch_rng(0, 0), 2_000, 30)[0][:, 0]
    assert sorted(set(starts.tolist())) == list(range(10))
    rows = {
        tuple(counted(9_999, 2).batch(batch_rng(s, i), 4, 1)[0].flatten().tolist())
        for s in range(5)
        for i in range(5)
    }
    assert len(rows) == 25


@given(st.integers(2, 300), st.integers(1, 50), st.integers(1, 5))
def test_windows_predict_every_token_but_the_first_once(n: int, t: int, batch: int) -> None:
    given = list(counted(10, n).windows(t, batch))
    xs = torch.cat([x.flatten() for x, _ in given])
    ys = torch.cat([y.flatten() for _, y in given])
    assert xs.tolist() == list(range(n - 1)) and ys.tolist() == list(range(1, n))
    assert all(x.shape[1] == t and x.shape[0] <= batch for x, _ in given[:-1])
    assert given[-1][0].shape[1] <= t


def test_a_context_that_does_not_fit_says_which_does() -> None:
    tokens = counted(41, 10)
    tokens.check(40)
    for use in (tokens.check, lambda t: tokens.batch(batch_rng(0, 0), 1, t)):
        with pytest.raises(CorpusError, match=r"context=41.*Got 41 tokens.*Set context=40"):
            use(41)
    with pytest.raises(CorpusError, match="validation text is too short"):
        counted(41, 1).check(10)


def test_a_vocabulary_smaller_than_the_datas_is_refused() -> None:
    ids = np.array([1, 2, 70], np.int32)
    with pytest.raises(CorpusError, match=r"Got id 70 of a vocabulary of 65.*vocab_size=71"):
        Tokens(ids, ids, 65)


def test_documents_end_their_line_or_begin_with_bos(stories: Tokenizer) -> None:
    split = Corpus(("anna", "bob", "cleo", "dora"), "lines").split(0.3)
    tokens = Tokens.of(split, Bytes())
    assert Bytes().decode(tokens.train) == "".join(name + "\n" for name in split.train)
    assert (Tokens.of(split, stories).train == 1).sum() == len(split.train)
    assert tokens.train.dtype == np.uint16


def test_one_large_file_beside_a_small_one_is_split_by_its_tail(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("many words " * 1000)
    assert read_corpus(tmp_path).split(0.1).by == "tail"
    (tmp_path / "b.txt").write_text("a note")
    split = read_corpus(tmp_path).split(0.1)
    assert split.by == "tail" and 1000 < sum(map(len, split.val)) < 1200
    assert read_corpus(tmp_path / "a.txt", lines=True).split(0.1).by == "tail"
