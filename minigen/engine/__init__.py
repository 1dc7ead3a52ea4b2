"""The engine of chapter 8: the paper's two stages on photographs, with trainings that survive.

    settings      both stages' settings, presets, ranges
    presets       the presets, what differs from the paper, and why
    plan          work, memory, disk and hours of a preset, before it is begun
    planned       the same in words
    scaling       the same on several GPUs, and where they stop to pay
    images        what is trained on, image by image
    loop          a training loop that goes on after a crash, bit for bit
    runs          a training's folder: its lock, its log
    checkpoints   a training's state on disk, whole or not at all
    processes     one process or several
    codebook      a large codebook: its start, its use
    stage1        IVQ-VAE trained on images (Algorithm 1)
    encoding      images to latents, once for all
    stage2        FFTD trained on latents (Algorithm 2)
    stages        what both stages share
    packed        weights laid out once for many products
    sampling      FFTD made ready for a sampling run: a table of all its steps
    drawing       many images, image k from (seed, k) (Algorithm 3)
    parts         many tensors in parts, and as PNG
    evaluate      FID, KID, nearest neighbours

It imports the lessons; no lesson imports it.
"""
