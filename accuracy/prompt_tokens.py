"""Count the tokens of the prompt kits with tokenizers that a package carries, and write the counts into the records.

In an environment of its own (it pins an older numpy): ``pip install mistral-common sentencepiece``, then
``python accuracy/prompt_tokens.py``. The package ships the vocabularies of Mistral's models, so nothing is fetched.
With ``--check`` nothing is written and a difference fails.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import mistral_common
from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

FOLDER = Path(__file__).resolve().parents[1] / "catalogs" / "prompts"
DATA = Path(mistral_common.__file__).parent / "data"


def count_kits(text: str) -> tuple[str, int]:
    """The file with its counts brought up to date, and how many kits were stale."""
    found = {
        "mistral-tekken": Tekkenizer.from_file(DATA / "tekken_240911.json"),
        "mistral-v3": SentencePieceTokenizer(str(DATA / "mistral_instruct_tokenizer_240323.model.v3")),
    }
    stale = 0
    for kit in tomllib.loads(text)["kit"]:
        whole = ["\n\n".join(filter(None, (kit.get("system", ""), prompt))) for prompt in kit["prompts"]]
        counts = {
            name: [len(tokenizer.encode(prompt, bos=True, eos=False)) for prompt in whole]
            for name, tokenizer in found.items()
        }
        if counts != kit["tokens"]:
            stale += 1
            values = ", ".join(f'"{name}" = {numbers}' for name, numbers in counts.items())
            start = text.index(f'id = "{kit["id"]}"')
            line = f"tokens = {{ {values} }}"
            text = text[:start] + re.sub(r"^tokens = .*$", line, text[start:], count=1, flags=re.MULTILINE)
    return text, stale


def main() -> int:
    """Count every kit of every file."""
    total = 0
    for file in sorted(FOLDER.glob("*.toml")):
        text, stale = count_kits(file.read_text("utf-8"))
        total += stale
        if "--check" not in sys.argv:
            file.write_text(text, "utf-8")
    print(f"{total} kits counted anew with mistral-common {mistral_common.__version__}")
    return int(total > 0 and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
