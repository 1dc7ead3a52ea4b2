"""The engine of chapter 8: the paper's two stages on real photographs, with trainings that survive crashes.

    settings      both stages' settings, presets, ranges
    images        what is trained on, image by image
    loop          a training loop that goes on after a crash, bit for bit
    runs          a training's folder: its lock, its log
    checkpoints   a training's state on disk, whole or not at all
    processes     one process or several
    parts         many tensors in parts, and as PNG
    stage1        IVQ-VAE and FFTD, trained (Algorithms 1 and 2)
    drawing       latents, and many images, image k from (seed, k)
    evaluate      FID, KID, nearest neighbours

It imports the lessons; no lesson imports it.
"""
