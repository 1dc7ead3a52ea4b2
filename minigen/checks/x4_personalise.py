"""Checks of excursion 4's exercises."""

from minigen.checks import personal_copies, personal_lora, personal_step, personal_words
from minigen.checks.compare import Answer
from minigen.checks.personal_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    copies,
    lora_forward,
    merged,
    prior_preserving_step,
    with_new_word,
)


def check_with_new_word(answer: Answer) -> None:
    personal_words.with_new_word(answer)


def check_lora_forward(answer: Answer) -> None:
    personal_lora.lora_forward(answer)


def check_merged(answer: Answer) -> None:
    personal_lora.merged(answer)


def check_prior_preserving_step(answer: Answer) -> None:
    personal_step.prior_preserving_step(answer)


def check_copies(answer: Answer) -> None:
    personal_copies.copies(answer)
