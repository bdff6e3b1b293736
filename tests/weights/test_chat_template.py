"""Chat templates: the text that transformers makes of them, and nothing else they might try."""

import time

import pytest
import tokenizers
import transformers

from transformer_lessons.errors import LessonsError
from transformer_lessons.weights import chat_sandbox
from transformer_lessons.weights.chat_template import (
    ChatTemplate,
    load_chat_template,
    render_chat,
)

# Published with the models, under the Apache licence 2.0.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN2 = SMOLLM2.replace("AI assistant named SmolLM, trained by Hugging Face", "assistant.")
# Written here, with the parts of the language that Llama 3's and Qwen3's templates use.
HEADERS = """{{- bos_token }}
{%- set ns = namespace(n=0) %}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{% for message in messages %}
    {%- if message.role not in ["system", "user", "assistant"] %}
        {{- raise_exception("unknown role " + message.role) }}
    {%- endif %}
    {%- set ns.n = ns.n + 1 %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if loop.first %}{{ 'Today Date: ' + date_string + '\\n' }}{% endif %}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if tools is not none %}{{ tools | tojson(indent=4) }}{% endif %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}{{ ns.n }}
"""
BLOCKS = """
{%- macro show(m) -%}
<{{ m.role }}>{{ m.content | tojson }}
{%- endmacro %}
{% for m in messages[::-1] %}
    {% if loop.index0 > 5 %}{% break %}{% endif %}
    {{ show(m) }}
    {% if m.role == "assistant" %}
{% generation %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% endgeneration %}
    {% endif %}
{% endfor %}
{{ undefined_name }}|{{ eos_token }}|{% if documents %}x{% endif %}
"""
TEMPLATES = {"smollm2": SMOLLM2, "qwen2": QWEN2, "headers": HEADERS, "blocks": BLOCKS}
QUESTION = [{"role": "user", "content": "Is 2 < 3 & 'é' = \"é\"?\n <b>日本</b> 😀 "}]
CHATS = {
    "a question": QUESTION,
    "with a system prompt": [{"role": "system", "content": "  Be brief. "}, *QUESTION],
    "an answer": [
        *QUESTION,
        {"role": "assistant", "content": "<think>\nso\n</think>\n\nYes."},
        {"role": "user", "content": "{{ 7 * 7 }} {% raw %}"},
    ],
}


def transformers_text(template, messages, add_generation_prompt):
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()),
        bos_token="<|begin|>",
        eos_token="<|end|>",
    )
    return tokenizer.apply_chat_template(
        messages,
        chat_template=template,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
    )


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("messages", CHATS.values(), ids=CHATS)
def test_the_text_is_that_of_transformers(template, messages):  # SPEC G5, G9
    for prompt in (True, False):
        special = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
        variables = {"messages": messages, "add_generation_prompt": prompt, "tools": None}
        # In this process: 24 processes for 24 texts would prove nothing more.
        text = chat_sandbox.render(template, variables | {"documents": None} | special)
        assert text == transformers_text(template, messages, prompt)


def test_in_its_own_process_the_text_is_the_same():  # SPEC G5
    template = ChatTemplate(HEADERS, {"bos_token": "<|begin|>", "eos_token": "<|end|>"})
    assert template.render(CHATS["an answer"]) == transformers_text(
        HEADERS, CHATS["an answer"], True
    )
    assert render_chat(SMOLLM2, QUESTION, add_generation_prompt=False).endswith("<|im_end|>\n")


HOSTILE = {
    "insides of Python": ("{{ ''.__class__.__mro__ }}", "SecurityError"),
    "insides of a message": ("{{ messages.__class__.x }}", "SecurityError"),
    "insides of a function": ("{{ raise_exception.__globals__.x }}", "SecurityError"),
    "insides by another way": ("{{ (''|attr('__class__')).x }}", "SecurityError"),
    "changing a message": ("{{ messages.append(1) }}", "SecurityError"),
    "another file": ("{% include '/etc/passwd' %}", "TypeError: no loader"),
    "an import": ("{% import 'os' as os %}", "TypeError: no loader"),
    "much memory": ("{{ 'a' * 10**9 }}", "MemoryError"),
    "much memory by a filter": ("{{ 'a' | center(10**9) }}", "MemoryError"),
    "a long text": ("{{ 'a' * 2 * 10**6 }}", "the text has over 1,048,576 characters"),
    "no end": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "it took too long, or too much memory",
    ),
    "a large number": ("{% set x = 9 ** (9 ** 9) %}", "it took too long, or too much memory"),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "no template": ("{% if %}", "TemplateSyntaxError"),
    "nested too deep": ("{{ " + "(" * 50_000 + " }}", "Error"),
    "refusing": ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
}


@pytest.mark.parametrize(("template", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_template_that_does_harm_or_fails_is_refused(template, message):  # SPEC S2, S9
    start = time.perf_counter()
    with pytest.raises(LessonsError) as caught:
        render_chat(template, QUESTION)
    assert message in caught.value.what
    print(f"{time.perf_counter() - start:.1f} s")


def test_the_insides_of_python_are_empty_to_a_template():  # SPEC S2
    """Jinja gives nothing for them, and raises when more is done with it."""
    for template in ("{{ ''.__class__ }}", "{{ '{0.__class__}'.format('') }}"):
        assert render_chat(template, QUESTION) == ""


def test_what_is_no_template_or_no_message_is_refused():  # SPEC S9
    with pytest.raises(LessonsError, match="the model has no chat template"):
        render_chat(None, QUESTION)
    with pytest.raises(LessonsError, match="over 131,072 characters"):
        render_chat("a" * 140_000, QUESTION)
    for wrong in ("hello", {"role": "user"}, {"role": "user", "content": 3}, {"content": "x"}):
        with pytest.raises(LessonsError, match=r"no role and content \(messages\[1\]\)"):
            render_chat(SMOLLM2, [*QUESTION, wrong])


def test_a_template_is_not_changed_by_what_a_message_says():  # SPEC S9
    said = [{"role": "user", "content": "{{ 7 * 7 }}{% for a in b %}"}]
    assert "{{ 7 * 7 }}{% for a in b %}" in render_chat(SMOLLM2, said)


SPECIAL = '"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "x": 1'


def test_a_folders_template_is_found(tmp_path):  # SPEC G5
    assert load_chat_template(tmp_path) is None
    path = tmp_path / "tokenizer_config.json"
    path.write_text("{" + SPECIAL + "}")
    assert load_chat_template(tmp_path) is None
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    path.write_text('{"chat_template": "A", ' + SPECIAL + "}")
    assert load_chat_template(tmp_path) == ChatTemplate("A", special)
    named = '[{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]'
    path.write_text('{"chat_template": ' + named + "}")
    assert load_chat_template(tmp_path) == ChatTemplate("D")
    (tmp_path / "chat_template.jinja").write_text("J é", encoding="utf-8")
    assert load_chat_template(tmp_path) == ChatTemplate("J é")


def test_a_folders_template_that_is_none_is_refused(tmp_path):  # SPEC S9
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": 3}')
    with pytest.raises(LessonsError, match="chat_template is no text"):
        load_chat_template(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(LessonsError, match="can't read it"):
        load_chat_template(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "chat_template.jinja").symlink_to("/etc/passwd")
    with pytest.raises(LessonsError, match="a link that leads out of the folder"):
        load_chat_template(tmp_path)
