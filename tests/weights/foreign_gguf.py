"""Let a program of others run a GGUF file: the greedy tokens after a prompt, as JSON.

    python foreign_gguf.py model.gguf prompt n_tokens

The program is llama.cpp, by llama-cpp-python or by xllamacpp, whichever is installed.
"""

import json
import sys
from importlib.util import find_spec


def by_llama_cpp_python(path, prompt, n_tokens):
    from llama_cpp import Llama

    model, new = Llama(path, n_ctx=256, n_threads=1, verbose=False), []
    ids = model.tokenize(prompt.encode(), add_bos=False, special=False)
    for token in model.generate(ids, top_k=1, temp=0.0, repeat_penalty=1.0):
        new.append(token)
        if len(new) == n_tokens:
            return new


def by_xllamacpp(path, prompt, n_tokens):
    import xllamacpp

    choices = xllamacpp.CommonParams()
    choices.model.path, choices.n_ctx, choices.cpuparams.n_threads = path, 256, 1
    asked = {"prompt": prompt, "n_predict": n_tokens, "temperature": 0, "top_k": 1}
    asked |= {"return_tokens": True, "verbose": True}  # of text alone, half characters are missing
    return xllamacpp.Server(choices).handle_completions(asked)["__verbose"]["tokens"]


PROGRAMS = {"llama_cpp": by_llama_cpp_python, "xllamacpp": by_xllamacpp}
INSTALLED = [name for name in PROGRAMS if find_spec(name)]

if __name__ == "__main__":
    path, prompt, n_tokens = sys.argv[1:]
    print(json.dumps(PROGRAMS[INSTALLED[0]](path, prompt, int(n_tokens))))
