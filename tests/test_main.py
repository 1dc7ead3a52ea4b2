import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pace
import pytest
import torch

from minigen.__main__ import main
from minigen.files import data_path
from tests.test_sources import make_folder

ROOT = Path(__file__).parent.parent
PYTHON = shlex.quote(sys.executable)
FIT = "Of the course's weights fftd, fftd_eps, flow and flow_straight fit."
PAIR = [
    f"--weights={data_path('pretrained', 'fftd.safetensors')}",
    f"--autoencoder={data_path('pretrained', 'ivqvae.safetensors')}",
]
AUTO = PAIR[1]


def test_prepare_prints_what_it_did(tmp_path, capsys):
    source = make_folder(tmp_path / "f", ["cat/1.png", "dog/1.png"])
    (source / "cat" / "x.txt").write_text("x")
    assert main(["prepare", str(source), "--size", "16", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "skipped cat/x.txt: not an image" in out and "The folders are taken as classes" in out
    assert (
        "2 images of 16×16" in out
        and "cat 1, dog 1; 1 file skipped; 2 were smaller and were enlarged." in out
    )
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert "2 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["--classes", "none"],
        ["--no-classes"],
        ["--classes", "labels.csv"],
        ["--classes", "folders"],
    ],
)
def test_where_classes_come_from_can_be_said(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "f", ["cat/1.png", "dog/2.png"])
    Path("labels.csv").write_text("1.png,x\n2.png,y\n")
    assert main(["prepare", "f", "--size", "16", "--out", "out", *words]) == 0
    want = {
        "none": "classes: none",
        "--no-classes": "classes: none",
        "labels.csv": "x 1, y 1",
        "folders": "cat 1, dog 1",
    }
    assert want[words[-1]] in capsys.readouterr().out


# every command with something wrong: one sentence, exit code 2, and nothing made
WRONG = {
    "no source": (["prepare", "nowhere", "--out", "x"], "There is no file or folder 'nowhere'"),
    "no size": (["prepare", ".", "--out", "x", "--size", "0"], "at least 8 pixels"),
    "huge size": (["prepare", "file", "--out", "x", "--size", "30000"], "got 30000"),
    "a pipe": (["prepare", "pipe", "--out", "x"], "neither a folder nor an ordinary file"),
    "a long name": (["prepare", "x" * 300, "--out", "x"], "too long"),
    "below a file": (
        ["prepare", "photos", "--out", "file/x"],
        "a file stands where a folder is needed",
    ),
    "no prepared folder": (
        ["verify", "photos"],
        "'photos' is no folder of `prepare` (it lacks manifest.json): python -m minigen prepare "
        "SOURCE --out photos makes one.",
    ),
    "nothing to verify": (
        ["verify", "nothere"],
        "There is no folder 'nothere': python -m minigen prepare SOURCE --out nothere makes one.",
    ),
    "this folder": (["verify", "."], "'.' is no folder of `prepare` (it lacks manifest.json): "),
    "a file to verify": (["verify", "file"], "'file' is a file, no folder of `prepare`: "),
    "no data to measure by": (
        ["fid", *PAIR, "--data=nothere", "--features=toy", "--out=x"],
        "There is no folder 'nothere'",
    ),
    "no table": (["reproduce", "table5"], "There is no table 'table5'"),
    "no cell": (
        ["reproduce", "table1", "--steps", "0", "--out", "x"],
        "at least one of its training steps",
    ),
    "few images": (["reproduce", "table3", "--steps", "9", "--out", "x"], "at least 128 images"),
    "no seed": (["reproduce", "1", "--seeds", "-1", "--out", "x"], "--seeds is a whole number"),
    "results in a folder": (
        ["reproduce", "table1", "--out", "photos"],
        "a folder stands where a file",
    ),
    "results below a file": (["reproduce", "table1", "--out", "file/x.json"], "'file' is a file"),
    "no rate": (["train-ivqvae", "--lr=nan", "--out=x"], "--lr is a finite number"),
    "no lambda": (["train-ivqvae", "--lambda-d=2", "--out=x"], "--lambda-d is"),
    "no faces": (["train-ivqvae", "--data=toyfaces:abc", "--out=x"], "toyfaces:N"),
    "no data": (["train-ivqvae", "--data=photos", "--out=x"], "'photos' is no folder of `prepare`"),
    "no device": (["train-ivqvae", "--device=cuda:99", "--out=x"], "no device 'cuda:99'"),
    "strange device": (
        ["encode", "toyfaces:4", AUTO, "--device=abc", "--out=x"],
        "There is no device 'abc'",
    ),
    "out is a file": (
        [
            "train-ivqvae",
            "--data=toyfaces:40",
            "--init-images=40",
            "--perceptual=none",
            "--out=file",
        ],
        "this name",
    ),
    "no latents": (
        ["train-fftd", "--latents=nowhere", AUTO, "--out=x"],
        "There are no latents 'nowhere'",
    ),
    "no autoencoder": (
        ["train-fftd", "--autoencoder=nowhere", "--out=x"],
        "There are no weights 'nowhere'",
    ),
    "a text for weights": (["encode", "toyfaces:4", "--autoencoder=file", "--out=x"], "file"),
    "a folder for weights": (["encode", "toyfaces:4", "--autoencoder=photos", "--out=x"], "photos"),
    "no batch": (["encode", "toyfaces:4", AUTO, "--batch-size=0", "--out=x"], "--batch-size is"),
    "latents below a file": (["encode", "toyfaces:4", AUTO, "--out=file/x"], "file"),
    "no images": (["sample", *PAIR, "--images=0", "--out=x"], "--images is a whole number"),
    "negative images": (["sample", *PAIR, "--images=-1", "--out=x"], "--images is a whole number"),
    "too many images": (["sample", *PAIR, "--images=100000000000", "--out=x"], "images"),
    "too many steps": (
        ["sample", *PAIR, "--steps=1001", "--out=x"],
        "--steps is a whole number, at least 1 and at most 1,000; got 1001.",
    ),
    "no steps": (
        ["sample", *PAIR, "--steps=0", "--out=x"],
        "--steps is a whole number, at least 1 and at most 1,000; got 0.",
    ),
    "another kind of picture": (
        ["sample", "--steps=1", "--out=x.jpg"],
        "Pictures are written as PNG, so 'x.jpg' cannot be one: choose --out x.png, or a folder",
    ),
    "measured in a picture": (
        ["fid", *PAIR, "--data=toyfaces:9", "--features=toy", "--steps=1", "--out=x.png"],
        "'x.png' is the name of one picture, and a folder is needed",
    ),
    "an autoencoder of another kind": (
        ["train-fftd", "--autoencoder=vae", "--out=x"],
        "holds VAE, not IVQVAE. Of the course's weights ivqvae, "
        "ivqvae_features, ivqvae_judged and ivqvae_l1 fit.",
    ),
    "eta": (["sample", *PAIR, "--eta=nan", "--out=x"], "eta"),
    "weights swapped": (
        ["sample", "--weights=" + AUTO.split("=")[1], AUTO, "--out=x"],
        f"holds IVQVAE, not FFTD. {FIT}",
    ),
    "samples over photos": (["sample", *PAIR, "--steps=1", "--out=photos"], "holds other files"),
    "samples over a file": (["sample", *PAIR, "--steps=1", "--out=file"], "is a file"),
    "few to measure": (["fid", *PAIR, "--data=toyfaces:9", "--images=4", "--out=x"], "at least 5"),
    "few to compare": (
        ["fid", *PAIR, "--data=toyfaces:4", "--features=toy", "--out=x"],
        "holds 4 images; at least 5",
    ),
    "no features": (
        ["fid", *PAIR, "--data=toyfaces:9", "--features=vgg", "--out=x"],
        "--features: inception or toy; got 'vgg'",
    ),
    "weights misspelled": (
        ["sample", "--weights=fttd", "--out=x"],
        "There are no weights 'fttd', neither a file nor a model of the course: did you mean "
        "'fftd'? Of the course's weights fftd, fftd_eps, flow and flow_straight fit.",
    ),
    "a fid of no weights": (
        ["fid", "--weights=fttd", "--data=toyfaces:9", "--out=x"],
        "no weights 'fttd'",
    ),
    "weights of another kind": (
        ["sample", "--weights=gan", "--out=x"],
        f"holds Generator, not FFTD. {FIT}",
    ),
    "no such hair": (["sample", "--label=rad"], "got 'rad': did you mean 'red'?"),
    "no such class": (["sample", "--label=5"], "or its number, 0 to 4; got 5."),
    "guidance from the class": (
        ["sample", "--label=red", "--scale=-1"],
        "--scale is a finite number, at least 0",
    ),
    "a picture over mine": (["sample", "--steps=1", "--out=mine.png"], "was not drawn by"),
    "a picture over a folder": (["sample", "--steps=1", "--out=folder.png"], "was not drawn by"),
    "a picture below a file": (["sample", "--steps=1", "--out=file/x.png"], "file"),
    "a picture in files": (["sample", "--png", "--out=x.png"], "'x.png' is one picture"),
    "a huge picture": (["sample", "--images=1025"], "A picture holds at most 1,024 images"),
    "no seconds": (["bench", "--seconds=nan"], "--seconds is a finite number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_sentence_exit_code_2_and_no_trace(case, tmp_path, monkeypatch, capsys):
    arguments, words = WRONG[case]
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", ["a.png"])
    Path("file").write_text("mine")
    make_folder(tmp_path, ["mine.png"])
    Path("folder.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
    elif case == "a pipe":
        pytest.skip("this system has no named pipes")
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == 2
    out = capsys.readouterr()
    assert not out.out
    err = [line for line in out.err.splitlines() if "|" not in line]  # without progress bars
    assert len(err) == 1 and err[0].startswith("minigen: ") and words in err[0]
    assert sorted(tmp_path.rglob("*")) == before and Path("file").read_text() == "mine"


def test_sample_without_arguments_draws_a_picture_and_says_what_to_try_next(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["sample"]) == 0
    first, *hints = capsys.readouterr().out.splitlines()
    assert first.startswith(f"16 images in {Path('runs/faces.png')}, drawn in ")
    assert "50 DDIM steps on " in first
    assert "hair is black, chestnut, blond, red or grey" in hints[0] and len(hints) == 3
    before = Path("runs/faces.png").read_bytes()
    # in fewer steps, and the second time over its own
    for hint in [*hints[1:], "python -m minigen sample"]:
        for _ in range(2):
            fast = [] if hint.endswith("sample") else ["--steps", "2"]
            assert main([*hint.split()[3:], *fast]) == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == [
        "faces.png", "faces_hair-red_steps-2.png", "faces_seed-1_steps-2.png"]
    assert Path("runs/faces.png").read_bytes() == before


def test_a_class_is_one_picture_by_name_and_by_number(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for label in ("red", "3"):
        assert main(["sample", "--steps=1", "--images=1", f"--label={label}"]) == 0
        assert capsys.readouterr().out.startswith("1 image in ")
    assert len(list(Path("runs").iterdir())) == 1


@pytest.mark.parametrize(("asked", "second"), [
    ("", "--label red"), ("--label red", "--label red --scale 2"),
    ("--label red --scale 3", "--label blond --scale 3"),
    ("--label blond --scale 3", "--label red --scale 3")])
def test_what_to_try_next_keeps_what_was_asked_for(asked, second, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = "python -m minigen sample --images 2 --steps 1"
    assert main([*few.split()[3:], "--seed", "4", *asked.split()]) == 0
    first, other = [line.strip() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert first == f"{few} --seed 5 {asked}".strip() and other == f"{few} --seed 4 {second}"


def test_pictures_and_folders_are_chosen_by_out_and_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["--steps=1", "--images=2"]
    for words, made in (
        (["--weights=fftd"], "runs/samples/part-00000.safetensors"),
        (["--weights=fftd", "--out=a.png"], "a.png"),
        (["--out=b"], "b/part-00000.safetensors"),
        (["--png", "--out=c"], "c/000001.png"),
        (["--zip", "--out=d"], "d/images.zip"),
        (["--out=E.PNG"], "E.PNG"),
    ):
        assert not Path(made).exists() and main(["sample", *few, *words]) == 0
        assert Path(made).is_file()
        assert ("Try next" in capsys.readouterr().out) == (words == ["--out=E.PNG"])


def test_torchruns_other_processes_draw_no_second_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["sample"]) == 0 and not list(tmp_path.iterdir()) and not capsys.readouterr().out


def test_bare_names_are_taken_wherever_weights_are_and_a_file_wins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["encode", "toyfaces:8", "--autoencoder=ivqvae", "--out=z"]) == 0
    small = ["--steps=1", "--batch-size=4", "--out=stage2", "--latents=z"]
    assert main(["train-fftd", "--autoencoder=ivqvae", *small]) == 0
    fid = ["--images=6", "--data=toyfaces:8", "--features=toy", "--steps=1", "--out=s", "--cache=c"]
    assert main(["fid", "--weights=fftd", "--autoencoder=ivqvae", *fid]) == 0
    assert "6 samples against 8 training images" in capsys.readouterr().out
    Path("fftd").mkdir()                                      # a folder is no weights
    assert main(["sample", "--weights=fftd", "--steps=1", "--images=1", "--out=y"]) == 0
    Path("ivqvae").write_text("mine")
    assert main(["sample", "--weights=fftd", "--steps=1", "--images=1", "--out=y2"]) == 2
    assert "'ivqvae' is not a whole safetensors file" in capsys.readouterr().err


def test_a_flows_protocol_names_eulers_steps(tmp_path, capsys):
    code = main(["fid", "--weights=flow_straight", "--data=toyfaces:130", "--features=toy",
                 "--images=130", "--steps=1", f"--out={tmp_path / 's'}",
                 f"--cache={tmp_path / 'c'}"])
    told = " ".join(capsys.readouterr().out.split())
    assert code == 0 and "Euler_steps 1, eta" in told and "DDIM" not in told


def test_a_missing_fid_network_is_told_before_anything_is_drawn(tmp_path, monkeypatch, capsys):
    from minigen.engine import drawing

    def drawn(*a, **k):
        raise AssertionError("images were drawn")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)              # as if not installed
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    monkeypatch.setattr(drawing, "draw_images", drawn)
    assert main(["fid", *PAIR, "--data=toyfaces:9", "--images=50000", "--out=x"]) == 2
    said = capsys.readouterr().err
    assert "pip install torch-fidelity" in said and "--features toy" in said
    assert not list(tmp_path.iterdir())


def test_settings_are_told_when_a_training_begins_and_not_before(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stage1 = ["train-ivqvae", "--data=toyfaces:40", "--steps=1", "--batch-size=2",
              "--init-images=40", "--perceptual=none", "--out=one"]
    assert main(["encode", "toyfaces:4", AUTO, "--out=z"]) == 0
    stage2 = ["train-fftd", AUTO, "--latents=z", "--steps=1", "--batch-size=2", "--out=two"]
    for words in (stage1, stage2):
        capsys.readouterr()
        assert main([*words, "--steps=2", "--no-decay"]) == 0
        assert "batch_size = 2\n" in capsys.readouterr().out
        for again, sentence in (([], "holds a training already"),
                                (["--resume", "--no-decay"], "--steps 1 asks for fewer")):
            assert main([*words, *again]) == 2
            out = capsys.readouterr()
            assert sentence in out.err and not out.out


def test_a_full_disk_is_told_and_nothing_half_written_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def full(*a, **k):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr("minigen.files.os.replace", full)
        assert main(["encode", "toyfaces:4", AUTO, "--out=z.safetensors"]) == 2
    assert "the disk is full; make room" in capsys.readouterr().err and not list(tmp_path.iterdir())


def raising(error):
    def run(*a):
        raise error

    return run


def test_too_little_memory_is_told_and_a_bug_is_not(tmp_path, monkeypatch, capsys):
    for error, code in (
        (MemoryError(), 2),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …"), 2),
        (RuntimeError("a bug"), None),
        (ValueError("a bug"), None),
        (KeyError("a bug"), None),
    ):
        monkeypatch.setattr("minigen.paper.bench.bench", raising(error))
        if code:
            assert main(["bench"]) == code
            assert "The memory does not suffice" in capsys.readouterr().err
        else:
            with pytest.raises(type(error), match="a bug"):
                main(["bench"])


def test_a_stop_without_words_has_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr("minigen.paper.bench.bench", raising(KeyboardInterrupt()))
    assert main(["bench"]) == 130
    assert (
        capsys.readouterr().err
        == "minigen: stopped; nothing half-written was kept, and what was finished stays.\n"
    )


def start(*words, **env):
    return subprocess.Popen(
        [sys.executable, "-m", "minigen", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | env,
        preexec_fn=hear_ctrl_c if os.name == "posix" else None,
    )


def hear_ctrl_c():
    """A background job of a shell ignores Ctrl-C, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("after", [0.25, 1.5, "training"])
def test_stopped_at_any_time_it_says_so_in_one_line(tmp_path, number, code, after):
    process = start(
        "train-ivqvae",
        "--data=toyfaces:64",
        "--steps=100000",
        "--batch-size=4",
        "--init-images=32",
        "--save-every=9999",
        "--perceptual=none",
        "--log-every=1",
        f"--out={tmp_path / 'run'}",
    )
    limit = 60 * pace.slowness()
    log, end = tmp_path / "run" / "losses.csv", time.time() + limit
    if after == "training":
        while time.time() < end and not (log.exists() and log.stat().st_size):
            time.sleep(0.05)
    else:
        time.sleep(after)
    process.send_signal(number)
    _, err = process.communicate(timeout=limit)
    assert process.returncode == code and "Traceback" not in err, err
    assert err.splitlines()[-1].startswith("minigen: stopped")
    assert after != "training" or list((tmp_path / "run").glob("step-*.pt"))


@pytest.mark.parametrize("encoding", ["cp1251", "cp437", "ascii", "cp1252"])
def test_output_reaches_any_terminal(tmp_path, encoding):
    source = make_folder(tmp_path / "f", ["cat/1.png", "dog/1.png"])
    process = start(
        "prepare", source, "--size=16", f"--out={tmp_path / 'out'}", PYTHONIOENCODING=encoding
    )
    out, err = process.communicate()
    assert process.returncode == 0 and "2 images of 16" in out, err
    code = "import minigen; minigen.progress()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | dict(PYTHONIOENCODING=encoding),
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0 and "------    0 of 6" in done.stdout, done.stderr


def test_names_that_are_not_utf_8_reach_the_terminal(tmp_path):
    source = make_folder(tmp_path / "f", ["a.png"])
    try:
        (source / os.fsdecode(b"caf\xe9.png")).write_text("no image")
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    process = start(
        "prepare", source, "--size=16", f"--out={tmp_path / 'out'}", PYTHONIOENCODING="utf-8:strict"
    )
    out, err = process.communicate()
    assert process.returncode == 0 and "not an image" in out, err


def test_help_answers_without_torch_and_names_every_option(capsys):
    for command in (
        "prepare",
        "verify",
        "reproduce",
        "train-ivqvae",
        "train-fftd",
        "encode",
        "sample",
        "fid",
        "bench",
    ):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0 and "usage: python -m minigen" in capsys.readouterr().out
    code = (
        "import sys\nfrom minigen.__main__ import main\ntry: main(['train-ivqvae', '--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode
        == 0
    )


def test_the_end_of_a_pipe_is_no_traceback(tmp_path):
    line = f"{PYTHON} -m minigen reproduce table1 | true"
    done = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "minigen", "prepare", "nowhere", "--out", "x"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.startswith("minigen: ")
    assert torch.initial_seed() == 0  # tests/conftest.py seeds every test


def test_closed_streams_do_no_harm(tmp_path):
    source = make_folder(tmp_path / "f", ["a.png"])
    line = f"{PYTHON} -m minigen prepare {source} --size 16 --out {tmp_path / 'out'} >&- 2>&-"
    assert subprocess.run(line, shell=True, cwd=ROOT).returncode == 0
    assert (tmp_path / "out" / "manifest.json").exists()


def test_torchruns_other_processes_leave_one_process_work_to_the_first(tmp_path, monkeypatch):
    source = make_folder(tmp_path / "f", ["a.png"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert main(["prepare", str(source), "--size=16", f"--out={tmp_path / rank}"]) == 0
    assert (tmp_path / "0").exists() and not (tmp_path / "1").exists()


def test_a_name_with_a_zero_byte_is_told(capsys):
    assert main(["prepare", "a\0b", "--out", "x"]) == 2
    assert "zero byte" in capsys.readouterr().err
