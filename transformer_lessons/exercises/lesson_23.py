"""The exercises of lesson 23: rewards and preferences."""

import ast
import math

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer

IGNORE = -100


def _log_probability(logits: Tensor, targets: list[int]) -> float:
    """The sum of the log-probabilities of the targets that count."""
    log_p = logits.log_softmax(-1)
    return sum(log_p[t, id].item() for t, id in enumerate(targets) if id != IGNORE)


def _n_real(targets: list[int]) -> int:
    return sum(id != IGNORE for id in targets)


def _with_the_prompt(logits: Tensor, targets: list[int]) -> float:
    return _log_probability(logits, [max(id, 0) for id in targets])


def _one_too_early(logits: Tensor, targets: list[int]) -> float:
    return _log_probability(logits.roll(-1, 0), targets)


def _logits(n_tokens: int, n_words: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n_tokens, n_words, generator=generator) * 2).round(decimals=1)


LOG_PROBABILITY = Exercise(
    id="23.log_probability",
    cases=(
        (_logits(2, 2, 0), [1, 0]),
        (_logits(3, 4, 1), [IGNORE, 2, 3]),
        (_logits(6, 5, 2), [IGNORE, IGNORE, 4, 0, 1, IGNORE]),
    ),
    reference=_log_probability,
    wrong_answers=(
        WrongAnswer(
            lambda logits, targets: _log_probability(logits, targets) / _n_real(targets),
            "This is the mean per token. The probability of a text is a product over its tokens, "
            "so its logarithm is the sum.",
        ),
        WrongAnswer(
            lambda logits, targets: math.exp(_log_probability(logits, targets)),
            "This is the probability itself. Return its logarithm, which doesn't underflow.",
        ),
        WrongAnswer(
            lambda logits, targets: -_log_probability(logits, targets),
            "The sign is that of a loss. A log-probability is never above 0.",
        ),
        WrongAnswer(
            lambda logits, targets: sum(
                logits[t, id].item() for t, id in enumerate(targets) if id != IGNORE
            ),
            "These are logits. They become log-probabilities by log_softmax.",
        ),
        WrongAnswer(
            _with_the_prompt,
            "Targets of -100 are counted as if they were tokens. They are prompt or padding.",
        ),
        WrongAnswer(
            _one_too_early,
            "Row t of the logits already predicts targets[t]: nothing is to be shifted.",
        ),
    ),
    hints=(
        "log_softmax along the last dimension gives the log-probability of every token.",
        "Of row t take the entry of targets[t], unless that is -100, and add up.",
    ),
)


def _exact_gradient(logits: Tensor, rewards: Tensor) -> Tensor:
    """d/dlogits of the expected reward: p (r - J)."""
    p = logits.softmax(0)
    return p * (rewards - (p * rewards).sum())


def _vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers)


EXACT_GRADIENT = Exercise(
    id="23.policy_gradient",
    cases=(
        (_vector(0.0, 0.0), _vector(1.0, 0.0)),
        (_vector(1.0, 0.0, -1.0), _vector(0.0, 2.0, 1.0)),
        (_vector(0.5, -0.5, 2.0, 0.0), _vector(3.0, 4.0, 3.0, 3.0)),
    ),
    reference=_exact_gradient,
    wrong_answers=(
        WrongAnswer(
            lambda logits, rewards: logits.softmax(0) * rewards,
            "Raising one logit lowers all other probabilities, and with them what they earn: "
            "the expected reward must be taken off.",
        ),
        WrongAnswer(
            lambda logits, rewards: logits.softmax(0) * (rewards - rewards.mean()),
            "The plain mean of the rewards is taken off. The expected reward weighs them by p.",
        ),
        WrongAnswer(
            lambda logits, rewards: -_exact_gradient(logits, rewards),
            "This is the gradient of a loss, -J. Return that of J, which is to be raised.",
        ),
        WrongAnswer(
            lambda logits, rewards: rewards - (logits.softmax(0) * rewards).sum(),
            "These are the advantages. How much a logit matters also depends on how often its "
            "outcome is sampled.",
        ),
        WrongAnswer(
            lambda logits, rewards: logits.softmax(0) * (1 - logits.softmax(0)) * rewards,
            "This counts only what a logit does to its own probability, not to the others'.",
        ),
    ),
    hints=(
        "dp_i / dlogit_j is p_i (1 - p_i) for i = j, and -p_i p_j otherwise.",
        "Put it into the sum over p_i r_i and collect: p_j times something in brackets.",
    ),
)


def _advantages(rewards: list[float], group_size: int) -> list[float]:
    """Each reward minus the mean of its group; the groups are side by side."""
    found: list[float] = []
    for start in range(0, len(rewards), group_size):
        group = rewards[start : start + group_size]
        found += [reward - sum(group) / len(group) for reward in group]
    return found


def _of_all(rewards: list[float], group_size: int) -> list[float]:
    return _advantages(rewards, len(rewards))


def _of_the_others(rewards: list[float], group_size: int) -> list[float]:
    return [a * group_size / (group_size - 1) for a in _advantages(rewards, group_size)]


def _standardized(rewards: list[float], group_size: int) -> list[float]:
    plain = _advantages(rewards, group_size)
    found: list[float] = []
    for start in range(0, len(plain), group_size):
        group = plain[start : start + group_size]
        deviation = math.sqrt(sum(a * a for a in group) / group_size)
        found += [a / (deviation + 1e-8) for a in group]
    return found


def _interleaved(rewards: list[float], group_size: int) -> list[float]:
    n_groups = len(rewards) // group_size
    means = [sum(rewards[g::n_groups]) / group_size for g in range(n_groups)]
    return [reward - means[i % n_groups] for i, reward in enumerate(rewards)]


ADVANTAGES = Exercise(
    id="23.advantages",
    cases=(
        ([1.0, 0.0], 2),
        ([1.0, 0.0, 1.0, 1.0], 2),
        ([3.0, 1.0, 5.0, 0.0, 0.0, 3.0], 3),
        ([0.0, 4.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0], 4),
    ),
    reference=_advantages,
    wrong_answers=(
        WrongAnswer(
            _of_all,
            "One mean is taken over all rewards. An easy prompt would then look good, and a hard "
            "one bad, whatever the model wrote.",
        ),
        WrongAnswer(
            _standardized,
            "The advantages are divided by the deviation of the group. Return the difference "
            "from the mean alone.",
        ),
        WrongAnswer(
            _of_the_others,
            "The mean is taken over the other samples of the group only. Take the mean of "
            "the whole group.",
        ),
        WrongAnswer(
            _interleaved,
            "The groups are mixed up: the samples of one prompt stand side by side.",
        ),
        WrongAnswer(
            lambda rewards, group_size: [-a for a in _advantages(rewards, group_size)],
            "The sign is wrong: what is better than the mean has a positive advantage.",
        ),
    ),
    hints=(
        "The first group is rewards[:group_size].",
        "range with a third argument gives the places where the groups begin.",
    ),
)


def _best_policy(base: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """p0 e^(r / beta), made to add up to 1."""
    weights = base * (rewards / beta).exp()
    return weights / weights.sum()


BEST_POLICY = Exercise(
    id="23.best_policy",
    cases=(
        (_vector(0.5, 0.5), _vector(1.0, 0.0), 0.5),
        (_vector(0.1, 0.6, 0.3), _vector(1.0, 0.0, 1.0), 0.2),
        (_vector(0.25, 0.05, 0.3, 0.4), _vector(3.0, 4.0, 3.5, 3.0), 1.5),
    ),
    reference=_best_policy,
    wrong_answers=(
        WrongAnswer(
            lambda base, rewards, beta: _best_policy(base, rewards, 1 / beta),
            "The reward is multiplied by beta. A strong leash has a large beta, and must leave "
            "the base almost as it was: divide.",
        ),
        WrongAnswer(
            lambda base, rewards, beta: (rewards / beta).softmax(0),
            "The base is missing: what it never writes, the best policy hardly writes either.",
        ),
        WrongAnswer(
            lambda base, rewards, beta: base * (rewards / beta).exp(),
            "These don't add up to 1.",
        ),
        WrongAnswer(
            lambda base, rewards, beta: ((base.log() + rewards) / beta).softmax(0),
            "The base's log-probabilities are divided by beta, too, as by a temperature. Only the "
            "rewards are.",
        ),
        WrongAnswer(
            lambda base, rewards, beta: base * (rewards / beta).softmax(0),
            "Normalize after the product with the base, not before.",
        ),
    ),
    hints=(
        "First a weight for each text: its probability in the base times e to the reward / beta.",
        "Then divide all weights by their sum.",
    ),
)


def _dpo(better: float, worse: float, base_better: float, base_worse: float, beta: float) -> float:
    """-log sigmoid(beta margin)."""
    margin = (better - base_better) - (worse - base_worse)
    return math.log1p(math.exp(-beta * margin))


DPO = Exercise(
    id="23.dpo",
    cases=(
        (-2.0, -2.0, -2.0, -2.0, 0.5),
        (-1.0, -4.0, -2.0, -3.0, 0.5),
        (-6.0, -2.0, -5.0, -4.0, 0.3),
        (-3.0, -1.0, -1.5, -2.0, 2.0),
    ),
    reference=_dpo,
    wrong_answers=(
        WrongAnswer(
            lambda better, worse, base_better, base_worse, beta: _dpo(
                worse, better, base_worse, base_better, beta
            ),
            "Better and worse are exchanged: this loss falls when the worse text is preferred.",
        ),
        WrongAnswer(
            lambda better, worse, base_better, base_worse, beta: _dpo(better, worse, 0, 0, beta),
            "The base is missing. At the start the policy is the base, and the loss must be ln 2.",
        ),
        WrongAnswer(
            lambda better, worse, base_better, base_worse, beta: _dpo(
                better, worse, base_better, base_worse, 1.0
            ),
            "beta is missing: it says how far the policy may go for a judgement.",
        ),
        WrongAnswer(
            lambda better, worse, base_better, base_worse, beta: (
                -_dpo(better, worse, base_better, base_worse, beta)
            ),
            "The sign is wrong. -log of a probability is never negative.",
        ),
        WrongAnswer(
            lambda better, worse, base_better, base_worse, beta: math.exp(
                -_dpo(better, worse, base_better, base_worse, beta)
            ),
            "This is the probability of the judgement, the sigmoid. The loss is -log of it.",
        ),
    ),
    hints=(
        "How much more probable has the policy made each text than the base? Take the difference.",
        "-log sigmoid(z) is log(1 + e^-z).",
    ),
)


def _is_idle(statement: ast.stmt) -> bool:
    """Whether a statement does nothing: pass, a bare constant, or return (None)."""
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Return(value=None | ast.Constant(value=None)):
            return True
    return False


def _body(code: str) -> list[ast.stmt]:
    [function] = ast.parse(code).body
    assert isinstance(function, ast.FunctionDef)
    return function.body


def _does_something(code: str) -> bool:
    """Whether a statement of the function's body isn't idle."""
    return not all(map(_is_idle, _body(code)))


DOES_SOMETHING = Exercise(
    id="23.does_something",
    cases=(
        ("def f(a):\n    pass\n",),
        ("def f(a):\n    return a\n",),
        ('def f(a):\n    """Do it."""\n',),
        ('def f(a):\n    """Do it."""\n    return None\n',),
        ("def f(a):\n    return\n",),
        ("def f(a):\n    ...\n",),
        ("def f(a):\n    a.close()\n    return\n",),
        ("def f(a):\n    pass\n    a.pass_on()\n",),
        ('def f(a):\n    """Do pass it."""\n    a.close()\n    return None\n',),
    ),
    reference=_does_something,
    wrong_answers=(
        WrongAnswer(
            lambda code: "pass" not in code,
            "Look at the syntax tree, not for letters: there are other ways to do nothing, and "
            "other words with these letters.",
        ),
        WrongAnswer(
            lambda code: not _is_idle(_body(code)[0]),
            "Only the first statement is looked at. A docstring may be followed by code.",
        ),
        WrongAnswer(
            lambda code: not all(isinstance(node, ast.Pass) for node in _body(code)),
            "pass is not the only statement that does nothing: a docstring, ... and return None "
            "do nothing either.",
        ),
        WrongAnswer(
            lambda code: len(_body(code)) > 1,
            "Statements are counted. Two that do nothing do nothing, and one can be enough.",
        ),
        WrongAnswer(
            lambda code: (
                not all(_is_idle(node) and not isinstance(node, ast.Return) for node in _body(code))
            ),
            "return and return None count as doing something here: it is what a function does "
            "anyway at its end.",
        ),
        WrongAnswer(
            lambda code: not any(map(_is_idle, _body(code))),
            "One idle statement is enough here for False. Real code has docstrings, too.",
        ),
    ),
    hints=(
        "ast.parse(code).body[0].body is the list of the function's statements.",
        "ast.Pass; ast.Expr with an ast.Constant as its value; ast.Return whose value is None or "
        "an ast.Constant with the value None.",
    ),
)

EXERCISES = (LOG_PROBABILITY, EXACT_GRADIENT, ADVANTAGES, BEST_POLICY, DPO, DOES_SOMETHING)
