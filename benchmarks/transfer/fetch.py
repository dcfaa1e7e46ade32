"""How to get the data that no code here downloads: a paragraph for each stream, and one for each task.

The splits are those of VTAB's own readers (github.com/google-research/task_adaptation), in the order in which
TensorFlow Datasets gives them, unshuffled. Imported when data are missing, and to write docs/data.md.
"""

from __future__ import annotations

from collections.abc import Iterable

ALL = {
    "vtab-1k": (
        "all 19 at once: download vtab-1k.zip (4.7 GB) of the data set XiN0919/VTAB-1k from huggingface.co "
        "and unzip it into $CARRYOVER_DATA, so that $CARRYOVER_DATA/vtab-1k/TASK/train800.txt is there for "
        "each TASK; or run data/vtab-source/get_vtab1k.py of github.com/ZhangYuanhan-AI/NOAH, which makes "
        "the same folders with TensorFlow Datasets (TFDS). For one task: write its images below "
        "$CARRYOVER_DATA/vtab-1k/TASK/ and beside them train800.txt, val200.txt and test.txt, one "
        '"images/NAME.png LABEL" a line, labels from 0, split as follows'
    ),
    "fgvc": (
        "all five: download json.zip of the data set XiN0919/FGVC from huggingface.co (the lists of Visual "
        "Prompt Tuning) and put each task's train.json, val.json and test.json into "
        "$CARRYOVER_DATA/fgvc/TASK/, beside its images, which come from their authors as follows"
    ),
}

TASKS = {
    "vtab-1k": {
        "cifar": (
            "CIFAR-100 in parquet, uoft-cs/cifar100 on huggingface.co, is used as it is from "
            "$CARRYOVER_DATA/cifar100/ or the hub's cache; as lists: TFDS cifar100, train800 the first 800 "
            "of train[:90%], val200 the first 200 of train[90%:], test its 10,000"
        ),
        "caltech101": (
            "Caltech101 (data.caltech.edu; TFDS caltech101, 102 classes with the background): train800 the "
            "first 800 of train[:90%], val200 the first 200 of train[90%:], test its 6,084"
        ),
        "dtd": (
            "Describable Textures (robots.ox.ac.uk/~vgg/data/dtd; TFDS dtd, 47 classes): train800 the first "
            "800 of train, val200 the first 200 of validation, test its 1,880"
        ),
        "oxford_flowers102": (
            "Oxford Flowers (robots.ox.ac.uk/~vgg/data/flowers/102; TFDS oxford_flowers102, 102 classes): "
            "train800 the first 800 of train, val200 the first 200 of validation, test its 6,149"
        ),
        "oxford_iiit_pet": (
            "Oxford-IIIT Pets (robots.ox.ac.uk/~vgg/data/pets; TFDS oxford_iiit_pet, 37 classes): train800 "
            "the first 800 of train[:80%], val200 the first 200 of train[80%:], test its 3,669"
        ),
        "svhn": (
            "SVHN, cropped digits (ufldl.stanford.edu/housenumbers): put train.parquet and test.parquet of "
            "ufldl-stanford/svhn on huggingface.co, folder cropped_digits, into $CARRYOVER_DATA/svhn/, and "
            "they are used as they are; as lists: TFDS svhn_cropped, train800 the first 800 of train[:90%], "
            "val200 the first 200 of train[90%:], test its 26,032"
        ),
        "sun397": (
            "SUN397 (vision.princeton.edu/projects/2010/SUN; TFDS sun397/tfds, 397 classes): train800 the "
            "first 800 of train, val200 the first 200 of validation, test its 21,750"
        ),
        "patch_camelyon": (
            "Patch Camelyon (github.com/basveeling/pcam; TFDS patch_camelyon, 2 classes): train800 the first "
            "800 of train, val200 the first 200 of validation, test its 32,768"
        ),
        "eurosat": (
            "EuroSAT, RGB (github.com/phelber/EuroSAT; TFDS eurosat/rgb, 10 classes, one split of 27,000): "
            "train800 the first 800 of train[:60%], val200 the first 200 of train[60%:80%], test "
            "train[80%:], 5,400"
        ),
        "resisc45": (
            "NWPU-RESISC45 (TFDS resisc45, 45 classes, one split of 31,500; its archive is fetched by hand, "
            "TFDS says from where): train800 the first 800 of train[:60%], val200 the first 200 of "
            "train[60%:80%], test train[80%:], 6,300"
        ),
        "diabetic_retinopathy": (
            "Kaggle's Diabetic Retinopathy Detection (kaggle.com/c/diabetic-retinopathy-detection, under its "
            "rules; TFDS diabetic_retinopathy_detection/btgraham-300, 5 classes): train800 the first 800 of "
            "train, val200 the first 200 of validation, test its 42,670"
        ),
        "clevr_count": (
            "CLEVR (cs.stanford.edu/people/jcjohns/clevr; TFDS clevr), label: objects in the image minus 3, "
            "8 classes: train800 the first 800 of train[:90%], val200 the first 200 of train[90%:], test its "
            "validation split, 15,000"
        ),
        "clevr_dist": (
            "CLEVR (cs.stanford.edu/people/jcjohns/clevr; TFDS clevr), label: the smallest depth (third of "
            "pixel_coords) of any object, cut at 8, 8.5, 9, 9.5 and 10 into 6 classes: split as clevr_count"
        ),
        "dmlab": (
            "DMLab frames (TFDS dmlab, 6 classes): train800 the first 800 of train, val200 the first 200 of "
            "validation, test its 22,735"
        ),
        "kitti": (
            "KITTI objects, left images (cvlibs.net/datasets/kitti; TFDS kitti), label: depth z of the "
            "nearest car, van or truck, cut at 8 and 20 m, the fourth class where there is none: train800 "
            "the first 800 of train, val200 the first 200 of validation, test its 711"
        ),
        "dsprites_loc": (
            "dSprites (github.com/google-deepmind/dsprites-dataset; TFDS dsprites), label: x position (32 "
            "steps) by halves, 16 classes, pixels times 255: train800 the first 800 of train[:80%], val200 "
            "the first 200 of train[80%:90%], test train[90%:], 73,728"
        ),
        "dsprites_ori": (
            "dSprites (github.com/google-deepmind/dsprites-dataset; TFDS dsprites), label: orientation (40 "
            "steps) divided by 2.5 and rounded down, 16 classes, pixels times 255: split as dsprites_loc"
        ),
        "smallnorb_azi": (
            "small NORB, left images (cs.nyu.edu/~ylclab/data/norb-v1.0-small; TFDS smallnorb), label: "
            "azimuth, 18 classes: train800 the first 800 of train, val200 the first 200 of test[:50%], test "
            "test[50%:], 12,150"
        ),
        "smallnorb_ele": (
            "small NORB, left images (cs.nyu.edu/~ylclab/data/norb-v1.0-small; TFDS smallnorb), label: "
            "elevation, 9 classes: split as smallnorb_azi"
        ),
    },
    "fgvc": {
        "CUB_200_2011": (
            "CUB_200_2011.tgz of data.caltech.edu/records/65de6-vp158; its folder images/ becomes "
            "$CARRYOVER_DATA/fgvc/CUB_200_2011/images/"
        ),
        "nabirds": (
            "NABirds (dl.allaboutbirds.org/nabirds, terms to accept); its folder images/ becomes "
            "$CARRYOVER_DATA/fgvc/nabirds/images/"
        ),
        "OxfordFlowers": (
            "102flowers.tgz of robots.ox.ac.uk/~vgg/data/flowers/102; unpacked in "
            "$CARRYOVER_DATA/fgvc/OxfordFlowers/, so that its folder jpg/ lies there"
        ),
        "StanfordDogs": (
            "images.tar of vision.stanford.edu/aditya86/ImageNetDogs; its folder Images/ becomes "
            "$CARRYOVER_DATA/fgvc/StanfordDogs/Images/ (images of ImageNet, under its terms)"
        ),
        "StanfordCars": (
            "Stanford Cars (ai.stanford.edu/~jkrause/cars/car_dataset.html; the site no longer serves the "
            "images, torchvision's StanfordCars says where they are); cars_train/ and cars_test/ go into "
            "$CARRYOVER_DATA/fgvc/StanfordCars/"
        ),
    },
}


def instructions(stream: str, tasks: Iterable[str]) -> str:
    """The text below an error: a line on all tasks of the stream, and one on each of `tasks`."""
    return "\n".join([f"  {ALL[stream]}:", *(f"  {task}: {TASKS[stream][task]}" for task in tasks)])


def table() -> str:
    """The same as Markdown, for docs/data.md."""
    parts = []
    for stream, tasks in TASKS.items():
        parts += [f"### `{stream}`", "", f"{ALL[stream][0].upper()}{ALL[stream][1:]}:", ""]
        parts += ["| task | what to fetch, and the split |", "|---|---|"]
        parts += [f"| `{task}` | {said} |" for task, said in tasks.items()] + [""]
    return "\n".join(parts).rstrip() + "\n"
