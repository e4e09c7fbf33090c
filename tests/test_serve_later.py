"""What is foreseen of a talk is how its next prompt does begin, in the asker's own spelling."""

from __future__ import annotations

import pytest

from mendel.data.tokenizers import Bytes, train_bpe
from mendel.serve.http.chat import Chat
from mendel.serve.http.later import of_chat, of_text
from mendel.serve.http.openai import Message
from mendel.serve.workloads import Maker

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>\n{% endfor %}"
TEMPLATE = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
# the last message alone is written as it is: a history is not what was sent before
CHANGING = (
    "{% for m in messages %}<{{ m.role }}>"
    "{{ m.content if loop.last else m.content | trim | upper }}{% endfor %}<assistant>"
)
ASKED = [Message(role="system", content="Be brief."), Message(role="user", content="Where is it?")]
CODEC = train_bpe("".join(Maker(seed=3).make("agent", i).document() for i in range(20)), 400)


@pytest.mark.parametrize("template", [None, TEMPLATE, CHANGING])
@pytest.mark.parametrize("words", ["And when?", "thanks", "({})"])
def test_the_next_prompt_begins_as_foreseen(template: str | None, words: str) -> None:
    chat = Chat(CODEC, template, {})
    prompt = chat.ids(ASKED)
    answer = "In the kitchen, I think."
    then = of_chat(chat, CODEC, ASKED, prompt, ("</>",))
    foreseen = then(tuple(int(i) for i in CODEC.encode(answer)), "stop")
    assert foreseen is not None
    told = [Message(role="assistant", content=answer), Message(role="user", content=words)]
    follows = chat.ids([*ASKED, *told])
    assert follows[: len(foreseen)] == list(foreseen)
    asked = len(CODEC.encode(words)) + len(CODEC.encode("<assistant></>\n"))
    assert len(follows) - len(foreseen) <= asked + 4  # the answer and the header after it are there


def test_an_answer_in_another_spelling_is_foreseen_in_the_usual_one() -> None:
    chat, answer = Chat(CODEC, None, {}), "In the kitchen, I think."
    letters = tuple(int(CODEC.encode(letter)[0]) for letter in answer)
    usual = tuple(int(i) for i in CODEC.encode(answer))
    assert CODEC.decode(letters) == answer and letters != usual
    then = of_chat(chat, CODEC, ASKED, chat.ids(ASKED), ())
    assert then(letters, "length") == then(usual, "stop")


def test_a_tool_that_refuses_or_a_caller_that_left_is_not_waited_for() -> None:
    refusing = "{% if messages | length > 2 %}{{ raise_exception('no') }}{% endif %}x"
    then = of_chat(Chat(CODEC, refusing, {}), CODEC, ASKED, [1], ())
    assert then((5, 6), "stop") is None
    then = of_chat(Chat(CODEC, None, {}), CODEC, ASKED, [1], ("\nuser:",))
    cut = tuple(int(i) for i in CODEC.encode("yes\nuser: and"))
    assert then(cut, "cancelled") == then(tuple(int(i) for i in CODEC.encode("yes")), "stop")
    assert then(cut[:2], "cancelled") is None


def test_a_text_that_stops_at_a_word_goes_on_from_there() -> None:
    codec, text = Bytes(), "Call:"
    prompt = [int(i) for i in codec.encode(text)]
    then = of_text(codec, text, prompt, ("\n",))
    output = tuple(int(i) for i in codec.encode(' look("barn")\nResult'))
    assert then(output, "cancelled") == [int(i) for i in codec.encode(text + ' look("barn"')]
    assert then(output[:5], "cancelled") is None


def test_a_tool_answers_the_call_that_was_made() -> None:
    talk = Maker(seed=1).make("agent", 0)
    for i, answer in enumerate(talk.answers[:-1]):
        assert talk.reply(i, answer) == talk.then[i]  # good calls have what follows in the text
    other = next(call for call in talk.results if call.strip() not in map(str.strip, talk.answers))
    assert talk.reply(0, f" {other}") == talk.results[other] != talk.then[0]
    assert talk.reply(0, " sing()") == talk.then[0]
