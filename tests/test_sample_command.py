"""`sample` with a sentence: the picture's name and what to try next. The rest is in test_main."""

import shlex
from pathlib import Path

from minigen import sample_command
from minigen.__main__ import main


def test_a_sentence_is_drawn_and_names_its_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["sample", "--images=2", "--steps=2"]
    assert main([*few, "--prompt", "A sad, red-haired person"]) == 0
    first, *hints = capsys.readouterr().out.splitlines()
    name = "faces_images-2_prompt-a-sad-red-haired-person_steps-2.png"
    assert first.startswith(f"2 images in {Path('runs') / name}, drawn in ")
    asked = 'python -m minigen sample --images 2 --steps 2 --seed 1 --prompt "a sad red haired'
    assert hints[0] == "Try next:" and hints[1].strip().startswith(asked) and len(hints) == 3
    for hint in hints[1:]:
        assert main(shlex.split(hint)[3:]) == 0
    long = "a smiling person with short red hair and with blue eyes, wearing glasses, looking"
    for last in ("left", "right"):                     # long ones that end otherwise
        assert main([*few, "--prompt", f"{long} {last}"]) == 0
    assert main([*few, "--prompt", "a face", "--negative", "glasses", "--scale", "3"]) == 0
    names = sorted(p.name for p in Path("runs").iterdir())
    assert len(names) == 6 and max(map(len, names)) < 150
    assert "faces_images-2_prompt-a-face_negative-glasses_scale-3_steps-2.png" in names


def test_a_long_sentence_is_cut_and_stays_itself():
    words = "a smiling person with short red hair and with blue eyes, looking left"
    names = [sample_command._short(f"{words} {last}") for last in ("", "and happy")]
    assert names[0] != names[1] and all(n.startswith("a-smiling-person-with") for n in names)
    assert sample_command._short("a face") == "a-face" and sample_command._short(16) == "16"
    assert sample_command._short("red") == "red"
