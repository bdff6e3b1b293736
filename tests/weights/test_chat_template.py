"""Chat templates: the text that transformers makes of them, and nothing else they might try."""

import resource

import pytest
import tokenizers
import transformers

from transformer_lessons.errors import LessonsError
from transformer_lessons.support import template_sandbox
from transformer_lessons.weights.chat_template import ChatTemplate, load_chat_template

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
        chat_template = ChatTemplate(template, {"bos_token": "<|begin|>", "eos_token": "<|end|>"})
        text = chat_template.render(messages, prompt)
        assert text == transformers_text(template, messages, prompt)


def rendered(template, messages=QUESTION):
    return ChatTemplate(template).render(messages)


DOUBLED = (
    "{%% set ns = namespace(x=%s) %%}{%% for i in range(99) %%}{%% set ns.x = %s %%}{%% endfor %%}"
)
LOOPS = "{% for a in range(30000) %}{% for b in range(30000) %}"
ENDS = "{% endfor %}{% endfor %}"
A = "{% set x = 'a' * 400_000 %}"  # the limit is 1,048,576
WORK, LARGE = "it takes too much work", "a value is too large"
UNSAFE = "is unsafe"
HOSTILE = {
    # into Python
    "insides of Python": ("{{ ''.__class__.__mro__ }}", UNSAFE),
    "insides of a message": ("{{ messages.__class__.x }}", UNSAFE),
    "insides of a function": ("{{ raise_exception.__globals__.x }}", UNSAFE),
    "insides by a filter": ("{{ (''|attr('__class__')).x }}", "No filter named 'attr'"),
    "insides by map": ("{{ ['']|map(attribute='__class__.x')|list }}", "Error"),
    "insides by format": ("{{ '{0.__class__}'.format('') }}", UNSAFE),
    "changing a message": ("{{ messages.append(1) }}", UNSAFE),
    "another file": ("{% include '/etc/passwd' %}", "TypeError: no loader"),
    "an import": ("{% import 'os' as os %}", "TypeError: no loader"),
    # one operation that is too large
    "a text times a number": ("{{ 'a' * 1000000000 }}", WORK),
    "a list times a number": ("{% set x = [1] * 1000000000 %}", WORK),
    "a power": ("{% set x = 9 ** (9 ** 9) %}", "** is not for a template"),
    "a format": ("{{ '%1000000000d' % 1 }}", "% is not for a template"),
    "a format by a filter": ("{{ '%1000000000d'|format(1) }}", "No filter named 'format'"),
    "a format by a method": ("{{ '{:1000000000}'.format(1) }}", UNSAFE),
    "a format by a mapping": ("{{ '{a:1000000000}'.format_map({'a': 1}) }}", UNSAFE),
    "a width": ("{{ 'a'.center(1000000000) }}", UNSAFE),
    "a width of a filter": ("{{ 'a'|center(1000000000) }}", "No filter named 'center'"),
    "a width by map": ("{{ ['a']|map('center', 1000000000)|list }}", WORK),
    "an indent": ("{{ ''|indent(1000000000) }}", "No filter named 'indent'"),
    "an indent of JSON": ("{{ [1]|tojson(indent=1000000000) }}", WORK),
    "an indent of deep JSON": ("{{ [[1]]|tojson(indent=99) }}", "tojson indents by 0 to 8"),
    "bytes of a number": ("{{ (5).to_bytes(1000000000) }}", UNSAFE),
    "a large range": ("{% for i in range(1000000000) %}{% endfor %}", "Range too big"),
    "a replacement": (A + "{{ x.replace('a', x) }}", WORK),
    "a replacement by a filter": (A + "{{ x|replace('a', x) }}", WORK),
    "a join": (A + "{{ x.join('a' * 10_000) }}", WORK),
    "a slow search": (A + "{{ x.rfind('b' + 'a' * 200_000) }}", WORK),
    "a slow strip": (A + "{{ x.strip('b' * 200_000 + 'a') }}", WORK),
    "many operands": (A + "{{ " + " ~ ".join(9999 * "x") + " }}", LARGE),
    "all at once to a macro": ("{% macro f() %}{% endmacro %}{{ f(*range(99999)) }}", LARGE),
    # what grows
    "a doubled text": (DOUBLED % ("'a'", "ns.x ~ ns.x"), LARGE),
    "a doubled sum": (DOUBLED % ("'a'", "ns.x + ns.x"), LARGE),
    "a squared number": (DOUBLED % ("9", "ns.x * ns.x"), LARGE),
    "a list in itself, twice": (DOUBLED % ("1", "[ns.x, ns.x]") + "{{ ns.x }}", LARGE),
    "a mapping in itself": (DOUBLED % ("1", "{'a': ns.x, 'b': ns.x}") + "{{ ns.x }}", LARGE),
    "a macro that doubles": (
        "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}" + DOUBLED % ("'a'", "f(ns.x)"),
        LARGE,
    ),
    "a set that doubles": (A + "{% set x %}{{ x }}{{ x }}{{ x }}{% endset %}{{ x }}", LARGE),
    "a long text": ("{{ 'a' * 2 * 1000000 }}", LARGE),
    "a long text in pieces": ("{% for i in range(9) %}{{ 'a' * 200_000 }}{% endfor %}", LARGE),
    "a template's text, often": ("{% for i in range(900) %}" + 9999 * "x" + "{% endfor %}", LARGE),
    "nothing lost": (  # in names that keep what is behind them
        DOUBLED.replace("99", "30000") % ("1", "namespace(a=ns.x, b='ab ' * 9999)"),
        WORK,
    ),
    # what has no end
    "loops": (LOOPS + ENDS, WORK),
    "loops of much": (LOOPS + 400 * "{% set x = messages[0].content %}" + ENDS, WORK),
    "loops of tests": (LOOPS + 400 * "{% if a is odd %}{% endif %}" + ENDS, WORK),
    "loops of calls": (LOOPS + 100 * "{% set x = 'a'.upper() %}" + ENDS, WORK),
    "loops of comparisons": (A + "{% set y = x + 'b' %}" + LOOPS + "{{ x == y }}" + ENDS, WORK),
    "loops of slices": (A + LOOPS + "{% set y = x[1:] %}" + ENDS, WORK),
    "loops of look-ups": (
        "{% set t = (1,) * 30_000 %}" + LOOPS + "{% set y = {}[t] %}" + ENDS,
        WORK,
    ),
    "a loop that says it is cheap": (
        LOOPS.replace("00)", "00)|each(-387420489)") + ENDS,
        "No filter named",
    ),
    "a loop of itself": (
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "recursive loops are not run",
    ),
    "a macro of itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "a macro of itself, twice": (
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        WORK,
    ),
    "a block of itself": ("{% block a %}{{ self.a() }}{% endblock %}", "RecursionError"),
    # what is no template
    "no template": ("{% if %}", "TemplateSyntaxError"),
    "nested too deep": ("{{ " + "(" * 50_000 + " }}", "Error"),
    "loops nested too deep": ("{% for a in b %}" * 900 + "{% endfor %}" * 900, "Error"),
    "refusing": ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
}


@pytest.mark.timeout(60)  # were one not stopped, it would go on for hours
@pytest.mark.parametrize(("template", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_template_that_does_harm_or_fails_is_refused(template, message):  # SPEC S2, S9
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LessonsError) as caught:
        rendered(template)
    assert message in caught.value.what
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_long_conversation_is_far_from_the_limit(template, monkeypatch):
    monkeypatch.setattr(template_sandbox, "MOST_WORK", template_sandbox.MOST_WORK // 10)
    said = [{"role": role, "content": "hello " * 100} for role in ("user", "assistant")]
    assert "hello" in rendered(template, 100 * said)


def test_the_insides_of_python_are_empty_to_a_template():  # SPEC S2
    """Jinja gives nothing for them, and raises when more is done with it."""
    assert rendered("{{ ''.__class__ }}") == ""
    assert rendered("{{ [namespace(a=1)] }}") == "[<namespace>]"


def test_what_is_no_template_or_no_message_is_refused():  # SPEC S9
    with pytest.raises(LessonsError, match="over 65,536 characters"):
        rendered("a" * 70_000)
    for wrong in ("hello", {"role": "user"}, {"role": "user", "content": 3}, {"content": "x"}):
        with pytest.raises(LessonsError, match=r"no role and content \(messages\[1\]\)"):
            rendered(SMOLLM2, [*QUESTION, wrong])


def test_a_template_is_not_changed_by_what_a_message_says():  # SPEC S9
    said = [{"role": "user", "content": "{{ 7 * 7 }}{% for a in b %}"}]
    assert "{{ 7 * 7 }}{% for a in b %}" in rendered(SMOLLM2, said)


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
