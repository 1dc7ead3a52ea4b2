"""The excursions' tables, of which the paper has none."""

from minigen.paper.likelihoods import likelihood_cell
from minigen.paper.personal import personal_cell
from minigen.paper.restored import METHODS, distortion_cell, restoration_cell
from minigen.paper.sentences import prompting_cell, sentences_cell
from minigen.paper.straight import STEPS, flow_cell
from minigen.paper.table import Table

SHARES = ("seen", "held_out", "new_words")
DIGITS = (dict.fromkeys(STEPS, 0) | dict.fromkeys((*SHARES, "bits", "ssim", "lpips"), 3)
          | dict.fromkeys(("beard", "elsewhere", "obeyed", "features", "copies", "leak"), 2)
          | dict(psnr=1, time_ms=0, ordinary=3))
PERSON: dict[str, dict] = {
    "nothing learned": {},
    "a new word": dict(method="inversion"),
    "LoRA": dict(method="lora"),
    "LoRA, prior": dict(method="lora", kept="captions"),
    "LoRA, class": dict(method="lora", kept="class"),
    "LoRA, prior, rank 1": dict(method="lora", kept="captions", rank=1),
    "LoRA, prior, rank 32": dict(method="lora", kept="captions", rank=32),
    "LoRA, prior, untold": dict(method="lora", kept="captions", told=False),
    "LoRA, prior, from 1": dict(method="lora", kept="captions", pictures=1),
    "LoRA, prior, from 3": dict(method="lora", kept="captions", pictures=3),
    "LoRA, prior, from 8": dict(method="lora", kept="captions", pictures=8),
    "DreamBooth": dict(method="dreambooth"),
    "DreamBooth, prior": dict(method="dreambooth", kept="captions"),
    "DreamBooth, class": dict(method="dreambooth", kept="class"),
}
TABLES = {
    "flow": Table(
        "Excursion 1: the same FFTD as a flow", flow_cell, 1200, tuple(STEPS),
        {"uniform times": {}, "uniform, then reflow": dict(reflowed=True),
         "uniform, twice as long": dict(rounds=2), "logit-normal times": dict(law="logit-normal")},
        {}, "The paper has no such table. Toy Fréchet distances of 2,000 faces, Euler's steps in "
        "the columns; trained and drawn as in `beyond`, whose networks are diffusions. 2,000 fresh "
        "real faces have 13.9.\n"
        "The second and third row are trained for 2,400 steps: for half of them on pairs that the "
        "first half made, or on new noise throughout."),
    "likelihoods": Table(
        "Excursion 1: what a face costs, in bits per dimension", likelihood_cell, 256, ("bits",),
        {"Gaussian, 16×16, exact": dict(model="gaussian", size=16),
         "Glow, 16×16, exact": dict(model="glow", size=16),
         "Gaussian, 32×32, exact": dict(model="gaussian"),
         "VAE, 32×32, bound": dict(model="vae"),
         "U-Net, 32×32, bound": dict(model="unet"),
         "PixelCNN, 32×32, tokens only": dict(model="tokens")}, {},
        "The paper has no such table. 256 levels a value, 256 unseen faces a cell, the U-Net's of "
        "four. A bound is no less than the cost itself. The tokens' row pays nothing for what they "
        "lose.",
        "images"),
    "sentences": Table(
        "Excursion 2: how a sentence comes in", sentences_cell, 2000, (*SHARES, "frechet"),
        {"one vector, CLIP's encoder": dict(way="pooled", frozen=True),
         "words, CLIP's encoder": dict(way="words", frozen=True),
         "words, its own encoder": dict(way="words", frozen=False)}, {},
        "The paper has no such table. Width 64, 2,000 steps of batch 64; guidance 2, 10 steps of "
        "second order, 1,000 captions of a kind. seen, held out, new words: share of what a "
        "sentence tells that the classifier reads in the picture, for captions as in training, of "
        "combinations that training never had, in phrasings it never had.\n"
        "frechet: toy Fréchet distance of the faces for captions as in training; 1,000 fresh real "
        "faces have 18 to 29."),
    "prompting": Table(
        "Excursion 2: guidance, obedience and variety", prompting_cell, 1000,
        (*SHARES, "diversity", "frechet"),
        {f"scale {s:g}": dict(scale=s) for s in (0, 1, 1.5, 2, 3, 5, 8)}, {},
        "The paper has no such table. Columns as in `sentences`; "
        "diversity: how much eight faces of one sentence differ, over eight real ones.",
        "captions"),
    "restoration": Table(
        "Excursion 3: tasks and methods", restoration_cell, 500,
        ("psnr", "ssim", "lpips", "frechet", "time_ms"),
        {name: dict(method=name) for name in METHODS}, {},
        "The paper has no such table. 500 unseen faces a cell; noise of deviation 1, a hole of "
        "16×16 pixels, 50 steps for a model never told of the damage (chapter 5's U-Net), else "
        "20.\n"
        "lpips: the toy distance of chapter 4; frechet: toy Fréchet distance; time_ms: of "
        "the processor, a face.",
        "images"),
    "distortion": Table(
        "Excursion 3: averages of draws", distortion_cell, 500,
        ("psnr", "ssim", "lpips", "frechet"),
        {"mean by network": dict(count=0)}
        | {f"{n} draw{'s' * (n > 1)}": dict(count=n) for n in (1, 2, 4, 8, 16)}, {},
        "The paper has no such table. Columns and faces as in `restoration`, noise of deviation 1.",
        "images"),
    "personal": Table(
        "Excursion 4: a person from five pictures", personal_cell, 200,
        ("beard", "elsewhere", "obeyed", "features", "copies"), PERSON, {},
        "The paper has no such table. Five pictures of Zuv where no other number is told, 200 "
        "steps of batch 8 (300 for a new word). prior: beside faces the model drew itself for 256 "
        "captions; class: for 'a person' alone. untold: nothing is said of walls and shirts.\n"
        "beard: share with Zuv's beard for 'a zuv person'; elsewhere: for hair and backgrounds "
        "that are told; obeyed: share of these that came out. features: distance to the nearest "
        "picture, over that of fresh ones; copies: share nearer in pixels than 99 % of fresh "
        "ones."),
    "forgotten": Table(
        "Excursion 4: what became of everybody else", personal_cell, 200,
        ("leak", "ordinary", "frechet", "parameters"), PERSON, {},
        "The paper has no such table. Models as in `personal`; 1,000 ordinary captions. leak: "
        "share of their faces with a beard; ordinary: share of what they told that came out; "
        "frechet: their toy Fréchet distance; 1,000 fresh real faces have 18 to 29. parameters: "
        "that were trained."),
}
