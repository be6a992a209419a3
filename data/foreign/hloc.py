"""HDF5 of hloc (Sarlin et al. 2019): a group for each image, named by its path, with global_descriptor (D,) in it."""

from pathlib import Path

from mrnn.data.foreign.formats import Given
from mrnn.data.foreign.hdf5 import data_sets, first_group, is_hdf5, numbers, open_hdf5
from mrnn.data.foreign.source import ImageRows, Source

DESCRIPTOR, LOCAL = "global_descriptor", "keypoints"


def recognise(path: Path) -> bool:
    """Whether an HDF5 file has groups of descriptors, global or local."""
    return is_hdf5(path) and bool(first_group(path) & {DESCRIPTOR, LOCAL})


def read(path: Path, given: Given) -> list[Source]:
    """A file of global descriptors (NetVLAD, DIR, OpenIBL, EigenPlaces)."""
    ending = f"/{DESCRIPTOR}"
    ids = tuple(name.removesuffix(ending) for name in data_sets(path) if name.endswith(ending))
    if not ids:
        raise ValueError(
            f"local features of hloc, any number for each image; mrnn takes one vector for each, a {DESCRIPTOR} "
            "(hloc's netvlad, dir, openibl or eigenplaces)"
        )
    file = open_hdf5(path)  # open as long as the source is in use
    shape = numbers(file, ids[0] + ending).shape
    if len(shape) != 1:
        raise ValueError(f"the {DESCRIPTOR} of {ids[0]} has shape {shape}, not one axis")

    def read_image(number: int) -> ImageRows:
        return ImageRows(numbers(file, ids[number] + ending)[()][None])

    return [
        Source(
            path=path,
            ids=ids,
            count=len(ids),
            feature_size=shape[0],
            regions=0,
            read=read_image,
            where=lambda number: f"{path}, {ids[number]}",
            files=(path,),
        )
    ]
