import re
import time

import gpu_check
import pace
import pytest
import torch

from minigen.engine import presets


def test_without_cuda_one_sentence_and_a_status_of_its_own(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path / "gpu")]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "--dry-run" in said.err and not said.out
    assert not (tmp_path / "gpu").exists()


def dry(tmp_path, *only):
    words = [word for name in only for word in ("--only", name)]
    code = gpu_check.main(["--dry-run", "--out", str(tmp_path / "gpu"), *words])
    return code, (tmp_path / "gpu" / "report.md").read_text(encoding="utf-8")


def test_a_dry_run_says_that_it_is_one_and_agrees_with_itself(tmp_path):
    code, text = dry(tmp_path, "agreement", "resume")
    assert code == 0 and "nothing below says anything about a GPU" in text
    assert "bit for bit" in text and text.count("losses 0.0e+00, weights 0.0e+00") == 2
    assert "All that was tried went well." in text and "**failed**" not in text


def test_what_fails_is_in_the_report_and_in_the_status(tmp_path, monkeypatch):
    def broken(check):
        said = check.attempt("a part", lambda: 1 / 0)
        check.write(said)
        raise RuntimeError("the driver\nis old")

    monkeypatch.setitem(gpu_check.PARTS, "resume", broken)
    code, text = dry(tmp_path, "resume")
    assert code == 1 and "**failed**: ZeroDivisionError" in text
    assert "**failed**: RuntimeError: the driver\n" in text
    assert "Failed: a part, resume." in text and "went well" not in text


@pytest.mark.parametrize(("name", "peak"), [
    ("Tesla T4", 65), ("NVIDIA L4", 121), ("NVIDIA L40S", None), ("NVIDIA H200", None), ("", None),
    ("NVIDIA A100-SXM4-40GB", 312), ("NVIDIA GeForce RTX 4070 SUPER", 71),
    ("NVIDIA H100 80GB HBM3", 989)])
def test_a_share_of_the_peak_is_told_of_known_gpus_only(name, peak):
    assert gpu_check.peak_of(name, "float16") == peak
    assert gpu_check.peak_of("Tesla T4", "bf16") is None


def test_the_tasks_are_the_engines_in_every_preset():
    for preset in presets.NAMES:
        task = gpu_check.second_task(torch.device("cpu"), preset=preset, batch_size=2)
        assert task.model.config["dim"] == presets.network("FFTD", preset)["dim"]
    kept = gpu_check.Kept(lambda i: torch.zeros(len(i), 3, 8, 8), 4, torch.device("cpu"))
    assert kept(torch.arange(6), torch.zeros(6)).shape == (6, 3, 8, 8) and len(kept) == 4


@pytest.mark.slow
def test_the_whole_dry_run(tmp_path):
    limit, start = 120 * pace.slowness(), time.process_time()
    code, text = dry(tmp_path)
    assert code == 0 and time.process_time() - start < limit
    for picture in re.findall(r"\]\((\w+\.png)\)", text):
        assert (tmp_path / "gpu" / picture).stat().st_size > 1000
    assert text.count(".png)") == 3 and "| float16 |" not in text.split("## Both")[1]
    for words in ("stage 1, float16", "two processes", "DDIM steps", "codes used, perplexity"):
        assert words in text
