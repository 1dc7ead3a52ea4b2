"""Examples of every command, which its `--help` ends with."""

PAIR = "--weights runs/fftd/fftd.safetensors --autoencoder runs/ivqvae/ivqvae.safetensors"
EXAMPLES = {
    "sample": [
        "",
        "--images 64 --seed 3 --label red --scale 2",
        '--prompt "a smiling person with red hair" --negative glasses',
        f"{PAIR} --images 1000 --png --out runs/samples",
    ],
    "prepare": [
        "my_photos --size 64 --out data/my_photos",
        "archive.zip --split train --out data/photos256",
        "my_photos --classes labels.csv --out data/labelled",
    ],
    "verify": ["data/my_photos"],
    "train-ivqvae": [
        "--data toyfaces:4096 --steps 1000",
        "--data toyfaces:4096 --steps 1000 --resume",
        "--preset fast --data data/photos256 --out runs/photos",
    ],
    "encode": [
        "toyfaces:4096 --autoencoder ivqvae",
        "data/photos256 --autoencoder runs/photos/ivqvae.safetensors --overwrite",
    ],
    "train-fftd": [
        "--autoencoder ivqvae --steps 1000",
        "--autoencoder ivqvae --steps 1000 --resume",
    ],
    "fid": [
        "--data toyfaces:2000 --features toy --images 500 --steps 50 --out runs/toy",
        f"{PAIR} --data data/photos256 --images 50000 --out runs/fid",
    ],
    "bench": ["", "--preset paper --seconds 10", "--quality 1 5 --seeds 0 1 2"],
    "plan": ["", "--preset colab", "--preset fast --images 14630 --share 0.3",
             "--preset fast --gpus 8"],
    "reproduce": ["table1", "table3 --seeds 0 --steps 200 --out runs/short.json"],
}
