"""Checks of excursion 3's exercises."""

from minigen.checks import (
    pictures_edit,
    pictures_pairs,
    pictures_posterior,
    pictures_psnr,
    pictures_repair,
    pictures_style,
)
from minigen.checks.compare import Answer
from minigen.checks.pictures_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    adain,
    consistent,
    dps_step,
    gram,
    pix2pix_step,
    psnr,
    sdedit,
    wiener,
)


def check_psnr(answer: Answer) -> None:
    pictures_psnr.psnr(answer)


def check_wiener(answer: Answer) -> None:
    pictures_repair.wiener(answer)


def check_consistent(answer: Answer) -> None:
    pictures_repair.consistent(answer)


def check_dps_step(answer: Answer) -> None:
    pictures_posterior.dps_step(answer)


def check_gram(answer: Answer) -> None:
    pictures_style.gram(answer)


def check_adain(answer: Answer) -> None:
    pictures_style.adain(answer)


def check_pix2pix_step(answer: Answer) -> None:
    pictures_pairs.pix2pix_step(answer)


def check_sdedit(answer: Answer) -> None:
    pictures_edit.sdedit(answer)
