"""The course's images: ToyFaces (drawn), Digits (scanned), and your own (folder, zip, parquet)."""

from minigen.data.batches import batches
from minigen.data.digits import Digits
from minigen.data.levels import dequantise, enlarged, quantise, shrunk
from minigen.data.prepared import PreparedImages, from_uint8, to_uint8
from minigen.data.preparing import prepare
from minigen.data.ring import count_modes, ring_of_gaussians
from minigen.data.sources import ImageSource
from minigen.data.swiss_roll import swiss_roll
from minigen.data.toyfaces import ATTRIBUTES, ToyFaces, draw_faces, labels_of

__all__ = [
    "ATTRIBUTES", "Digits", "ImageSource", "PreparedImages", "ToyFaces", "batches", "count_modes",
    "dequantise", "draw_faces", "enlarged", "from_uint8", "labels_of", "prepare", "quantise",
    "ring_of_gaussians", "shrunk", "swiss_roll", "to_uint8",
]
